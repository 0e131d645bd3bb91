package seal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// scale multiplies the counts of the proofs: 1 in make test.
func scale() int {
	n, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

func pair(t testing.TB, handle uint64) (*Sealer, *Opener) {
	t.Helper()
	key := bytes.Repeat([]byte{7}, KeySize)
	s, err := NewSealer(key, handle)
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOpener(key, handle)
	if err != nil {
		t.Fatal(err)
	}
	return s, o
}

func TestRoundTrip(t *testing.T) {
	s, o := pair(t, 42)
	for n := 0; n <= MaxPayload; n++ {
		payload := bytes.Repeat([]byte{byte(n)}, n)
		d, err := s.Seal([]byte("before"), 9, payload)
		if err != nil {
			t.Fatal(err)
		}
		d = d[len("before"):]
		if len(d)%Step != 0 && len(d) != MaxDatagram {
			t.Fatalf("a payload of %d bytes shows in a datagram of %d", n, len(d))
		}
		got, h, err := o.Open(nil, d)
		if err != nil || !bytes.Equal(got, payload) || h.Kind != 9 || h.Handle != 42 {
			t.Fatalf("%d bytes came back as %d, header %+v: %v", n, len(got), h, err)
		}
		if _, _, err := o.Open(nil, d); !errors.Is(err, ErrReplayed) {
			t.Fatalf("opened twice: %v", err)
		}
	}
	if _, err := s.Seal(nil, 9, make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooLong) {
		t.Fatalf("too long a payload: %v", err)
	}
}

// Threats, row 4: replayed, mutated and re-keyed datagrams are never accepted and never move the window.
func TestMutationsNeverOpen(t *testing.T) {
	s, o := pair(t, 42)
	other, err := NewSealer(bytes.Repeat([]byte{8}, KeySize), 42)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	before := o.window
	for i := range 20000 * scale() {
		var d []byte
		if i%8 == 0 {
			d, _ = other.Seal(nil, 1, []byte("re-keyed"))
		} else {
			d, _ = s.Seal(nil, 1, []byte("a payload of some length"))
			mutate(r, d)
		}
		if _, _, err := o.Open(nil, d); err == nil {
			t.Fatalf("mutation %d was opened", i)
		}
	}
	if o.window != before {
		t.Fatal("a forged datagram moved the replay window")
	}
	t.Logf("PROVE %d mutated and re-keyed envelopes: 0 opened, the replay window did not move", 20000*scale())
}

func mutate(r *rand.Rand, d []byte) {
	from := r.IntN(len(d)) // each byte is changed once at most: changes must not undo each other
	for i := range min(1+r.IntN(3), len(d)-from) {
		d[from+i] ^= byte(1 + r.IntN(255))
	}
}

// Threats, row 4: "replay state at most 32 B a signer".
func TestWindowIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Window{}); n > 32 {
		t.Errorf("%d bytes", n)
	} else {
		t.Logf("PROVE replay state: %d bytes a signer", n)
	}
}

// The window agrees with a set of all counters ever seen.
func TestWindowAgainstModel(t *testing.T) {
	if size := unsafe.Sizeof(Window{}); size > 32 {
		t.Fatalf("the window takes %d bytes", size)
	}
	rapid.Check(t, func(t *rapid.T) {
		var w Window
		seen, top := map[uint64]bool{}, uint64(0)
		for range 300 {
			c := rapid.Uint64Range(0, top+rapid.SampledFrom([]uint64{1, 3, 64, 65, 200, 1000}).Draw(t, "ahead")).Draw(t, "counter")
			want := c > top || c != 0 && top-c < WindowSize && !seen[c]
			if got := w.Fresh(c); got != want {
				t.Fatalf("Fresh(%d) = %v with newest %d", c, got, top)
			}
			if want {
				w.Mark(c)
				seen[c], top = true, max(top, c)
			}
		}
	})
}

// Sealing and opening into buffers that are large enough allocates nothing.
func TestNoAllocation(t *testing.T) {
	s, o := pair(t, 1)
	payload, sealed, opened := make([]byte, 640), make([]byte, 0, 2*MaxDatagram), make([]byte, 0, MaxDatagram)
	if n := testing.AllocsPerRun(1000, func() {
		d, err := s.Seal(sealed, 1, payload)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := o.Open(opened, d); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a datagram", n)
	}
}

func TestExhausted(t *testing.T) {
	s, _ := pair(t, 1)
	s.counter.Store(maxCounter - 1)
	if _, err := s.Seal(nil, 0, nil); !errors.Is(err, ErrExhausted) {
		t.Fatal(err)
	}
}

func FuzzOpen(f *testing.F) {
	s, _ := pair(f, 42)
	d, _ := s.Seal(nil, 1, []byte("seed"))
	f.Add(d)
	f.Add([]byte{})
	f.Add(d[:Overhead])
	f.Fuzz(func(t *testing.T, d []byte) {
		_, o := pair(t, 42)
		payload, h, err := o.Open(nil, d)
		if err == nil && (len(payload) > MaxPayload || h.Counter == 0) {
			t.Fatalf("opened %d bytes, header %+v", len(payload), h)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, n := range []int{64, 512, MaxPayload} {
		b.Run(fmt.Sprint("payload=", n), func(b *testing.B) {
			s, _ := pair(b, 1)
			payload, buf := make([]byte, n), make([]byte, 0, 2*MaxDatagram)
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				if _, err := s.Seal(buf, 1, payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{64, 512, MaxPayload} {
		b.Run(fmt.Sprint("payload=", n), func(b *testing.B) {
			s, o := pair(b, 1)
			d, _ := s.Seal(nil, 1, make([]byte, n))
			buf := make([]byte, 0, 2*MaxDatagram)
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				o.window = Window{}
				if _, _, err := o.Open(buf, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

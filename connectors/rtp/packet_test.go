package rtp

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/pion/rtp"

	"ninja/connectors"
)

// pairOf makes a sealer and an opener with the same keys, which start where seed says.
func pairOf(t testing.TB, seed byte, f format) (*sealer, *opener) {
	t.Helper()
	secret := bytes.Repeat([]byte{seed}, 38)
	a, err := makeKeys(secret)
	if err != nil {
		t.Fatal(err)
	}
	b, err := makeKeys(secret)
	if err != nil {
		t.Fatal(err)
	}
	return &sealer{keys: a, format: f}, &opener{keys: b, format: f}
}

var telephone = format{payloadType: ptPCMU, rate: 8000, sample: 1}

// 200,000 packets pass over three wraps of the sequence number, with gaps and reordering, and none is refused or
// misplaced; the timestamp wraps too.
func TestWraps(t *testing.T) {
	s, o := pairOf(t, 0xff, telephone)
	random := rand.New(rand.NewPCG(1, 2))
	type sealed struct {
		packet
		b []byte
	}
	var held *sealed
	check := func(p *sealed) {
		got, err := o.open(p.b)
		if err != nil {
			t.Fatalf("packet %d: %v", p.position, err)
		}
		if got.position != p.position || got.time != p.time || got.mark != p.mark || !bytes.Equal(got.payload, p.payload) {
			t.Fatalf("packet %d came as %d, time %d as %d, mark %d as %d", p.position, got.position, p.time, got.time, p.mark, got.mark)
		}
	}
	const count = 200_000
	defer func() {
		if !t.Failed() {
			t.Logf("PROVE %d packets over %d wraps of the sequence number, 0 refused or misplaced", count, (count+int(s.sequence))>>16)
		}
	}()
	for n := range uint64(count) {
		p := packet{position: n, time: int64(n) * 40_000, payload: []byte{byte(n), byte(n >> 8), 3}}
		if n%50 == 0 {
			p.mark = connectors.EndOfUtterance
		}
		b, err := s.seal(p)
		if err != nil {
			t.Fatal(err)
		}
		now := &sealed{p, bytes.Clone(b)}
		switch {
		case random.IntN(20) == 0: // lost
		case held == nil && random.IntN(10) == 0:
			held = now
		default:
			check(now)
			if held != nil {
				check(held)
				held = nil
			}
		}
	}
}

// scale multiplies the counts of the proofs: 1 in make test.
func scale() int {
	n, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// Threats, row 20: what is not genuine, or came before, is refused and changes nothing. Every genuine packet is taken,
// over the wraps of the sequence number.
func TestInjected(t *testing.T) {
	s, o := pairOf(t, 3, telephone)
	stranger, _ := pairOf(t, 4, telephone)
	stranger.ssrc = s.ssrc
	random := rand.New(rand.NewPCG(3, 4))
	var last []byte
	seal := func(s *sealer, n uint64) []byte {
		b, err := s.seal(packet{position: n, time: int64(n) * 160, payload: make([]byte, 160)})
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(b)
	}
	injected := 0
	rounds := uint64(1000 * scale())
	for n := range rounds {
		b := seal(s, n)
		injected += 12
		for range 10 {
			bad := bytes.Clone(b)
			bad[random.IntN(len(bad))] ^= 1 << random.IntN(8)
			if _, err := o.open(bad); err == nil {
				t.Fatal("a changed packet is taken")
			}
		}
		if _, err := o.open(seal(stranger, n+uint64(random.IntN(1<<15)))); err == nil {
			t.Fatal("a packet under another key is taken")
		}
		if last != nil {
			if _, err := o.open(bytes.Clone(last)); err == nil {
				t.Fatal("a packet is taken twice")
			}
		}
		last = bytes.Clone(b)
		if p, err := o.open(b); err != nil || p.position != n {
			t.Fatalf("packet %d after the attacks: position %d, %v", n, p.position, err)
		}
	}
	t.Logf("PROVE %d injected packets, 0 accepted; %d genuine ones among them, 0 refused", injected, rounds)
}

// The plain packet is what another RTP implementation reads.
func TestPlainIsRTP(t *testing.T) {
	s, _ := pairOf(t, 5, telephone)
	for _, p := range []packet{
		{position: 9, time: 1440, talkspurt: true, payload: []byte("abc")},
		{position: 10, time: 1600, mark: connectors.EndOfUtterance, payload: []byte("def")},
		{position: 11, time: 1760, mark: connectors.EndOfDocument},
	} {
		var got rtp.Packet
		if err := got.Unmarshal(s.appendPlain(nil, p)); err != nil {
			t.Fatal(err)
		}
		if got.Version != 2 || got.Marker != p.talkspurt || got.PayloadType != ptPCMU || got.SSRC != s.ssrc ||
			got.SequenceNumber != s.sequence+uint16(p.position) || got.Timestamp != s.timestamp+uint32(p.time) ||
			!bytes.Equal(got.Payload, p.payload) {
			t.Errorf("%+v reads as %v", p, got)
		}
		mark := got.GetExtension(markID)
		if (p.mark != 0) != (len(mark) == 1) || p.mark != 0 && mark[0] != byte(p.mark) {
			t.Errorf("mark %d reads as %v", p.mark, mark)
		}
	}
}

func TestSealAllocatesNothing(t *testing.T) {
	s, o := pairOf(t, 6, telephone)
	payload := make([]byte, 160)
	n := uint64(0)
	allocated := testing.AllocsPerRun(1000, func() {
		b, err := s.seal(packet{position: n, time: int64(n) * 160, payload: payload})
		if err == nil {
			_, err = o.open(b)
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	})
	if allocated != 0 {
		t.Errorf("%v allocations a packet", allocated)
	}
}

// FuzzOpen throws any bytes at a receiver: none is taken, and the genuine packet after them is.
func FuzzOpen(f *testing.F) {
	s, _ := pairOf(f, 7, telephone)
	f.Add(s.appendPlain(nil, packet{payload: make([]byte, 30)}))
	f.Add(s.appendPlain(nil, packet{mark: 1, payload: make([]byte, 30)}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, o := pairOf(t, 7, telephone)
		if _, err := o.open(bytes.Clone(b)); err == nil {
			t.Fatal("forged")
		}
		genuine, err := s.seal(packet{payload: []byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.open(genuine); err != nil {
			t.Fatal(err)
		}
	})
}

// BenchmarkSealOpen is what the encryption of a packet of 640 bytes costs both ends together.
func BenchmarkSealOpen(b *testing.B) {
	s, o := pairOf(b, 8, telephone)
	payload := make([]byte, 640)
	b.ReportAllocs()
	for n := uint64(0); b.Loop(); n++ {
		sealed, err := s.seal(packet{position: n, time: int64(n) * 640, payload: payload})
		if err == nil {
			_, err = o.open(sealed)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

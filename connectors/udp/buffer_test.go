package udp

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ninja/connectors"
)

// FuzzParse reads any payload; what is understood is said back in the same bytes.
func FuzzParse(f *testing.F) {
	f.Add(fragment{number: 1, seq: 2, fragments: 1, payload: []byte("hello")}.append(nil))
	f.Add(fragment{number: 1, seq: 2, fragments: 3, index: 1, payload: make([]byte, chunk)}.append(nil))
	f.Add(fragment{fragments: 1}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := parse(b, chunk); err == nil && !bytes.Equal(g.append(nil), b) {
			t.Errorf("%x was read and said back as %x", b, g.append(nil))
		}
	})
}

// FuzzBuffer is fed fragments that no honest sender sends: what it holds stays bounded, and it comes to an end.
func FuzzBuffer(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 200, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		buffer := &buffer{reorder: 40 * ms}
		now := time.Unix(1000, 0)
		for ; len(b) >= 4; b = b[4:] {
			number := uint64(b[0]) << (b[1] % 55)
			g := fragment{number: number, fragments: 1 + int(b[2]), index: int(b[3]) % (1 + int(b[2])), payload: []byte{1}}
			buffer.put(g, now)
			switch b[1] >> 6 {
			case 1:
				buffer.mark(connectors.EndOfDocument, number, now)
			case 2:
				buffer.flush()
				buffer.flushed(number)
			}
			buffer.take(now)
			now = now.Add(ms)
			if buffer.held > maxHeld || len(buffer.marks) > maxMarks {
				t.Fatalf("%d fragments, %d marks", buffer.held, len(buffer.marks))
			}
		}
		buffer.finish(buffer.known, now)
		now = now.Add(time.Hour)
		for range 10_000 {
			if _, v, _ := buffer.take(now); v == eof {
				return
			}
		}
		t.Fatal("no end")
	})
}

// Whatever the network does to a stream of ADUs of some fragments: order, once, whole, all marks, and delivered and lost
// add up.
func TestAnyNetwork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &buffer{reorder: 40 * ms}
		now := time.Unix(1000, 0)
		n := rapid.Uint64Range(1, 30).Draw(t, "ADUs")
		var all []fragment
		for number := range n {
			count := rapid.IntRange(1, 4).Draw(t, "fragments")
			for i := range count {
				g := fragment{number: number, seq: number + 1, fragments: count, index: i, payload: []byte{byte(number), byte(i)}}
				if number == n-1 {
					g.mark = connectors.EndOfDocument
				}
				all = append(all, g)
			}
		}
		last, delivered, marks := uint64(0), uint64(0), 0
		drain := func() bool {
			for {
				a, v, _ := b.take(now)
				if v != deliver {
					return v == eof
				}
				if a.Mark != 0 {
					marks++
				}
				if len(a.Payload) == 0 {
					continue
				}
				for i := range len(a.Payload) / 2 {
					if a.Payload[2*i] != byte(a.Seq-1) || a.Payload[2*i+1] != byte(i) {
						t.Fatalf("ADU %d is %x", a.Seq, a.Payload)
					}
				}
				if a.Seq <= last {
					t.Fatalf("ADU %d after %d", a.Seq, last)
				}
				last = a.Seq
				delivered++
			}
		}
		for _, g := range rapid.Permutation(all).Draw(t, "order") {
			now = now.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "gap")) * ms)
			if rapid.IntRange(0, 6).Draw(t, "fate") > 0 {
				b.put(g, now)
			}
			if rapid.Bool().Draw(t, "drain") {
				drain()
			}
		}
		b.mark(connectors.EndOfDocument, n-1, now)
		b.finish(n, now)
		now = now.Add(time.Hour)
		if !drain() || delivered+b.lost != n || marks != 1 {
			t.Fatalf("%d delivered, %d lost, %d marks of %d ADUs and one mark", delivered, b.lost, marks, n)
		}
	})
}

// A peer may claim an end or a flush that is far away.
func TestFarEnd(t *testing.T) {
	b := &buffer{reorder: 40 * ms}
	now := time.Unix(1000, 0)
	b.flushed(1 << 40)
	b.mark(connectors.EndOfDocument, 1<<40+3, now)
	b.finish(1<<62, now)
	if a, v, _ := b.take(now.Add(40 * ms)); v != deliver || a.Mark != connectors.EndOfDocument {
		t.Errorf("verdict %d, %+v", v, a)
	}
	if _, v, _ := b.take(now.Add(40 * ms)); v != eof || b.lost != 1<<62-1<<40 {
		t.Errorf("verdict %d, lost %d", v, b.lost)
	}
}

// A late fragment of what was given up is late; a second copy of one is nothing.
func TestLate(t *testing.T) {
	b := &buffer{reorder: 40 * ms}
	now := time.Unix(1000, 0)
	one := func(n uint64) fragment { return fragment{number: n, seq: n + 1, fragments: 1, payload: []byte{1}} }
	b.put(one(1), now)
	b.put(one(1), now)
	if _, v, until := b.take(now); v != wait || until != now.Add(40*ms) {
		t.Errorf("verdict %d until %v", v, until)
	}
	if a, v, _ := b.take(now.Add(40 * ms)); v != deliver || a.Seq != 2 {
		t.Errorf("verdict %d, %+v", v, a)
	}
	b.put(one(0), now)
	if b.lost != 1 || b.late != 1 || b.held != 0 {
		t.Errorf("lost %d, late %d, held %d", b.lost, b.late, b.held)
	}
}

package rtp

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ninja/connectors"
)

const ms = time.Millisecond

var start = time.Unix(1000, 0)

func at(d time.Duration) time.Time { return start.Add(d) }

// pack is packet n of 20 ms.
func pack(n uint64, m connectors.Mark) packet {
	return packet{position: n, time: int64(n) * 160, mark: m, payload: make([]byte, 160)}
}

// expect takes what is due and compares positions (from 1, as Seq); 0 stands for nothing due yet.
func expect(t *testing.T, b *buffer, now time.Time, want ...uint64) {
	t.Helper()
	for _, w := range want {
		a, v, _ := b.take(now)
		got := a.Seq
		if v != deliver {
			got = 0
		}
		if got != w {
			t.Fatalf("at %v: seq %d, want %d", now.Sub(start), got, w)
		}
	}
}

func TestReorder(t *testing.T) {
	b := &buffer{format: telephone, reorder: 40 * ms}
	b.put(pack(1, 0), at(0))
	expect(t, b, at(0), 0)
	b.put(pack(0, 0), at(10*ms))
	expect(t, b, at(10*ms), 1, 2, 0)
	b.put(pack(3, 0), at(60*ms)) // 2 is missing
	_, _, until := b.take(at(60 * ms))
	if until != at(100*ms) {
		t.Errorf("waits until %v", until.Sub(start))
	}
	expect(t, b, at(99*ms), 0)
	expect(t, b, at(100*ms), 4)
	b.put(pack(2, 0), at(101*ms))
	if b.lost != 1 || b.late != 1 {
		t.Errorf("lost %d, late %d", b.lost, b.late)
	}
}

// "Loss cannot swallow a mark": it is said on the session too, before or after the packet would have come.
func TestMarkOfLostPacket(t *testing.T) {
	for _, early := range []bool{true, false} {
		b := &buffer{format: telephone, reorder: 40 * ms}
		b.put(pack(0, 0), at(0))
		expect(t, b, at(0), 1)
		if early {
			b.mark(connectors.EndOfUtterance, 1, at(20*ms))
		}
		b.put(pack(2, 0), at(20*ms))
		if !early {
			expect(t, b, at(60*ms), 3)
			b.mark(connectors.EndOfUtterance, 1, at(20*ms))
		}
		a, v, _ := b.take(at(60 * ms))
		if v != deliver || a.Mark != connectors.EndOfUtterance || len(a.Payload) != 0 {
			t.Errorf("early %v: verdict %d, %+v", early, v, a)
		}
		if early {
			expect(t, b, at(60*ms), 3)
		}
	}
}

func TestMarkIsNotSaidTwice(t *testing.T) {
	b := &buffer{format: telephone, reorder: 40 * ms}
	b.put(pack(0, connectors.EndOfUtterance), at(0))
	expect(t, b, at(0), 1)
	b.mark(connectors.EndOfUtterance, 0, at(0))
	expect(t, b, at(time.Second), 0)
}

func TestEndAfterLostTail(t *testing.T) {
	b := &buffer{format: telephone, reorder: 40 * ms}
	b.put(pack(0, 0), at(0))
	b.finish(3, at(0))
	expect(t, b, at(0), 1, 0)
	if _, v, _ := b.take(at(40 * ms)); v != eof || b.lost != 2 {
		t.Errorf("verdict %d, lost %d", v, b.lost)
	}
}

// A lost mark comes though its talker is silent afterwards.
func TestLostMarkBeforeSilence(t *testing.T) {
	b := &buffer{format: telephone, reorder: 40 * ms}
	b.put(pack(0, 0), at(0))
	expect(t, b, at(0), 1, 0)
	b.mark(connectors.EndOfUtterance, 1, at(20*ms))
	if _, _, until := b.take(at(20 * ms)); until != at(60*ms) {
		t.Errorf("waits until %v", until.Sub(start))
	}
	a, v, _ := b.take(at(60 * ms))
	if v != deliver || a.Mark != connectors.EndOfUtterance || b.lost != 1 {
		t.Errorf("verdict %d, %+v, lost %d", v, a, b.lost)
	}
}

// A lost mark at the very end comes before the end.
func TestEndAfterLostMark(t *testing.T) {
	b := &buffer{format: telephone, reorder: 40 * ms}
	b.mark(connectors.EndOfUtterance, 0, at(0))
	b.finish(1, at(0))
	expect(t, b, at(40*ms), 1)
	if _, v, _ := b.take(at(40 * ms)); v != eof {
		t.Errorf("verdict %d", v)
	}
}

func TestPlayout(t *testing.T) {
	b := &buffer{format: telephone, reorder: 40 * ms, playout: playout{initial: 60 * ms}}
	b.put(pack(0, 0), at(0))
	b.put(pack(1, 0), at(5*ms)) // early: it is held
	b.put(pack(3, 0), at(70*ms))
	expect(t, b, at(59*ms), 0)
	expect(t, b, at(60*ms), 1, 0)
	expect(t, b, at(80*ms), 2, 0)
	expect(t, b, at(119*ms), 0)
	expect(t, b, at(120*ms), 4) // 2 never came
}

// What is lost sounds like what came before, half as loud each time, at its own time, for three packets at most.
func TestConceal(t *testing.T) {
	l16 := connectors.MustType("audio/L16;rate=8000")
	b := &buffer{format: format{rate: 8000, sample: 2}, playout: playout{initial: 60 * ms}}
	b.conceal = func(last []byte, n, run int) []byte { return Repeat(l16, last, n, run) }
	loud := func(n uint64) packet {
		p := packet{position: n, time: int64(n) * 160}
		for range 160 {
			p.payload = append(p.payload, 0x40, 0)
		}
		return p
	}
	b.put(loud(0), at(0))
	expect(t, b, at(60*ms), 1)
	b.put(loud(6), at(120*ms))
	for n, want := range []byte{0x20, 0x10, 0x08} {
		due := at(80*ms + time.Duration(n)*20*ms)
		expect(t, b, due.Add(-ms), 0)
		a, v, _ := b.take(due)
		if v != deliver || len(a.Payload) != 320 || a.Payload[0] != want || a.MediaTime != time.Duration(n+1)*20*ms {
			t.Fatalf("packet %d: verdict %d, %d bytes at %v", n+1, v, len(a.Payload), a.MediaTime)
		}
	}
	expect(t, b, at(179*ms), 0)
	expect(t, b, at(180*ms), 7)
	if b.lost != 5 {
		t.Errorf("lost %d: what is concealed is lost still", b.lost)
	}
}

func TestSlowReaderLosesTheOldest(t *testing.T) {
	b := &buffer{format: telephone, reorder: 40 * ms}
	for n := range uint64(span + 10) {
		b.put(pack(n, connectors.Mark(0)), at(0))
	}
	expect(t, b, at(0), 11)
	if b.lost != 10 {
		t.Errorf("lost %d", b.lost)
	}
	b.put(pack(1<<40, 0), at(0)) // far ahead: no loop over what never was
	if _, v, _ := b.take(at(time.Second)); v == eof {
		t.Error("ended")
	}
}

func TestFlushInBuffer(t *testing.T) {
	b := &buffer{format: telephone, reorder: 40 * ms}
	b.put(pack(0, 0), at(0))
	b.put(pack(1, connectors.EndOfUtterance), at(0))
	b.flush()
	b.put(pack(2, 0), at(0)) // on its way when the flush was said
	b.put(pack(3, 0), at(0)) // written after the sender took it
	expect(t, b, at(time.Second), 0)
	b.flushed(3)
	expect(t, b, at(time.Second), 4, 0)
	if b.lost != 0 {
		t.Errorf("lost %d: what is dropped by wish is not lost", b.lost)
	}
}

// Whatever the network does, what is delivered is in order, nothing comes twice, every mark comes, and delivered and
// lost add up.
func TestAnyNetwork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, 60).Draw(t, "packets")
		b := &buffer{format: telephone, reorder: 40 * ms, playout: rapid.SampledFrom([]playout{
			{}, {initial: 30 * ms}, {most: 80 * ms}, {most: 80 * ms, bound: true}}).Draw(t, "playout")}
		now, last, delivered, marks := start, uint64(0), uint64(0), 0
		if b.playout.on() && rapid.Bool().Draw(t, "conceal") {
			b.conceal = func(_ []byte, n, _ int) []byte { return bytes.Repeat([]byte{0xff}, n) }
		}
		drain := func() bool {
			for {
				a, v, _ := b.take(now)
				if v != deliver {
					return v == eof
				}
				if len(a.Payload) > 0 && a.Payload[0] != 0xff {
					if a.Seq <= last {
						t.Fatalf("seq %d after %d", a.Seq, last)
					}
					last = a.Seq
					delivered++
				}
				if a.Mark != 0 {
					marks++
				}
			}
		}
		order := rapid.Permutation(seq(n)).Draw(t, "order")
		for _, p := range order {
			now = now.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "gap")) * ms)
			m := connectors.Mark(0)
			if p == n-1 {
				m = connectors.EndOfUtterance
			}
			if rapid.IntRange(0, 4).Draw(t, "fate") > 0 {
				b.put(pack(p, m), now)
			}
			if rapid.Bool().Draw(t, "drain") {
				drain()
			}
		}
		b.mark(connectors.EndOfUtterance, n-1, now)
		b.finish(n, now)
		now = now.Add(time.Hour)
		if !drain() {
			t.Fatal("no end")
		}
		if delivered+b.lost != n || marks != 1 {
			t.Fatalf("%d delivered, %d lost, %d marks of %d packets and one mark", delivered, b.lost, marks, n)
		}
	})
}

func seq(n uint64) []uint64 {
	s := make([]uint64, n)
	for i := range s {
		s[i] = uint64(i)
	}
	return s
}

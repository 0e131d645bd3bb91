package rtp

import (
	"math/rand/v2"
	"testing"
	"time"

	"ninja/connectors"
)

// played is what came out of a buffer: genuine packets and made ones, and when.
type played struct {
	genuine, made int
	worst         time.Duration // how long after its media time a genuine packet was played, from a second on
}

// play runs packets of 20 ms, which arrive when arrival says and in order, through a buffer that is asked whenever it
// wants to be.
func play(b *buffer, packets int, arrival func(n int) time.Time) (h played) {
	take := func(now time.Time) time.Time {
		for {
			a, v, until := b.take(now)
			if v != deliver {
				return until
			}
			switch {
			case len(a.Payload) == 0:
			case a.Payload[1] == 1:
				h.genuine++
				if a.MediaTime >= time.Second { // until then the fastest that came may be a slow one
					h.worst = max(h.worst, now.Sub(at(a.MediaTime)))
				}
			default:
				h.made++
			}
		}
	}
	var until time.Time
	for n := range packets {
		now := arrival(n)
		for !until.IsZero() && until.Before(now) {
			until = take(until)
		}
		p := packet{position: uint64(n), time: int64(n) * 160, payload: make([]byte, 320)}
		for i := 1; i < len(p.payload); i += 2 {
			p.payload[i] = 1
		}
		b.put(p, now)
		until = take(now)
	}
	b.finish(uint64(packets), arrival(packets-1))
	for !until.IsZero() {
		until = take(until)
	}
	return h
}

func bounded(most time.Duration) *buffer {
	l16 := connectors.MustType("audio/L16;rate=8000")
	return &buffer{
		format: format{rate: 8000, sample: 2}, reorder: 40 * ms, playout: playout{initial: 20 * ms, most: most, bound: true},
		conceal: func(last []byte, n, run int) []byte { return Repeat(l16, last, n, run) },
	}
}

// Whatever the line does, in order or not, nothing that was said is played later than the budget after the packet that
// came fastest; what comes later is made up for, and counted.
func TestTheBudgetIsKept(t *testing.T) {
	const budget, packets = 50 * ms, 500
	for range 20 {
		random := rand.New(rand.NewPCG(seed, rand.Uint64()))
		last, fastest := start, time.Hour
		b := bounded(budget)
		h := play(b, packets, func(n int) time.Time {
			delay := 10*ms + time.Duration(random.Int64N(int64(15*ms)))
			if random.IntN(10) == 0 {
				delay += 90 * ms // a spike, which those behind it wait for
			}
			now := at(time.Duration(n)*20*ms + delay)
			if now.Before(last) {
				now = last
			}
			last, fastest = now, min(fastest, now.Sub(at(time.Duration(n)*20*ms)))
			return now
		})
		// It may be asked at the end of a packet's turn, and those measured lately may all be a little slower.
		if most := fastest + budget + 20*ms + 5*ms; h.worst > most {
			t.Errorf("played after %v, want %v at most", h.worst, most)
		}
		if h.genuine+int(b.lost) != packets || b.late != b.lost || b.late == 0 || h.made == 0 {
			t.Errorf("%d played, %d lost, %d late of %d; %d made", h.genuine, b.lost, b.late, packets, h.made)
		}
	}
}

// Without a bound the same line costs nothing but time.
func TestWithoutABudgetLateIsPlayed(t *testing.T) {
	b := bounded(200 * ms)
	b.playout.bound = false
	h := play(b, 500, func(n int) time.Time {
		return at(time.Duration(n)*20*ms + 10*ms + time.Duration(n%10/9)*90*ms/9)
	})
	if h.genuine != 500 || h.made != 0 {
		t.Errorf("%d played, %d made", h.genuine, h.made)
	}
}

// A pause is no loss: three packets are made at most, and what is said after it is all played, wherever it begins.
func TestAPauseIsNoLoss(t *testing.T) {
	for _, pause := range []time.Duration{70 * ms, 130 * ms, 2 * time.Second} {
		b := bounded(50 * ms)
		said := func(n int) packet {
			p := packet{position: uint64(n), time: int64(n) * 160, payload: make([]byte, 320)}
			if n >= 10 {
				p.time += b.format.samples(pause)
				p.talkspurt = n == 10
			}
			p.payload[1] = 1
			return p
		}
		genuine, made := 0, 0
		for n, now := 0, start; n < 20; now = now.Add(ms) {
			if p := said(n); !now.Before(at(b.format.span(p.time))) {
				b.put(p, now)
				n++
			}
			for {
				a, v, _ := b.take(now)
				if v != deliver {
					break
				}
				if a.Payload[1] == 1 {
					genuine++
				} else {
					made++
				}
			}
		}
		for now := at(3 * time.Second); ; {
			a, v, _ := b.take(now)
			if v != deliver {
				break
			}
			if a.Payload[1] == 1 {
				genuine++
			}
		}
		if made > maxRun || b.late != 0 && genuine+int(b.late) != 20 {
			t.Errorf("after a pause of %v: %d made, %d late, %d played", pause, made, b.late, genuine)
		}
	}
}

// A line that becomes slower than the budget for good silences the listener for a second and no longer.
func TestASlowerLineIsHeardAgain(t *testing.T) {
	b := bounded(50 * ms)
	h := play(b, 500, func(n int) time.Time {
		delay := 10 * ms
		if n >= 100 {
			delay = 300 * ms
		}
		return at(time.Duration(n)*20*ms + delay)
	})
	if h.genuine < 500-52-3 || h.genuine > 500-50 {
		t.Errorf("%d of 500 were played, %d late", h.genuine, b.late)
	}
}

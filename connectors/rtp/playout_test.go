package rtp

import (
	"math/rand/v2"
	"testing"
	"time"

	"ninja/connectors"
)

// link is a run of packets of 20 ms through a playout over a link whose delays are drawn from 0 to jitter.
type link struct {
	playout playout
	random  *rand.Rand
	at      time.Duration // media time
	late    int
}

func (l *link) run(packets int, jitter time.Duration, spurt int) {
	l.late = 0
	for n := range packets {
		arrived := at(l.at + time.Duration(l.random.Int64N(int64(jitter)+1)))
		if l.playout.begun && arrived.After(l.playout.due(l.at)) {
			l.late++
		}
		l.playout.arrived(arrived, l.at, 20*ms, n%spurt == 0, false)
		l.at += 20 * ms
	}
}

// "One playout buffer per media segment, sized from measured jitter and the latency budget, growing and shrinking."
func TestPlayoutAdapts(t *testing.T) {
	l := &link{playout: playout{initial: 20 * ms, most: 100 * ms}, random: rand.New(rand.NewPCG(seed, 1))}
	expect := func(what string, packets int, jitter time.Duration, spurt int, least, most time.Duration, late int) {
		t.Helper()
		l.run(packets, jitter, spurt)
		if size := l.playout.size(); size < least || size > most || l.late > late {
			t.Errorf("%s: %v, want %v to %v; %d of %d late, want %d at most", what, size, least, most, l.late, packets, late)
		}
	}
	expect("30 ms of jitter", 500, 30*ms, 1000, 30*ms, 36*ms, 20)
	expect("60 ms of jitter", 500, 60*ms, 1000, 55*ms, 66*ms, 30)
	expect("quiet, within a talkspurt", 100, ms, 1000, 40*ms, 66*ms, 0)
	expect("quiet, slowly", 1000, ms, 10_000, 5*ms, 12*ms, 0)
	expect("60 ms again", 300, 60*ms, 1000, 55*ms, 66*ms, 30)
	expect("quiet, with pauses", 400, ms, 50, 5*ms, 8*ms, 0)
	expect("beyond the budget", 300, 300*ms, 1000, 90*ms, 101*ms, 300)
}

// A sender whose clock runs slow by 200 ppm stays in time for an hour.
func TestPlayoutFollowsDrift(t *testing.T) {
	l := &link{playout: playout{initial: 20 * ms, most: 100 * ms}, random: rand.New(rand.NewPCG(seed, 1))}
	for n := range 180_000 {
		media := time.Duration(n) * 20 * ms
		arrived := at(media + media/5000 + time.Duration(l.random.Int64N(int64(10*ms))))
		l.playout.arrived(arrived, media, 20*ms, n == 0, false)
		if n > history && arrived.After(l.playout.due(media)) {
			l.late++
		}
	}
	if size := l.playout.size(); size > 20*ms || l.late > 180_000/20 {
		t.Errorf("%v, %d late", size, l.late)
	}
}

// The examples of RFC 6716, table 2.
func TestOpusSamples(t *testing.T) {
	for _, c := range []struct {
		packet []byte
		ms     float64
	}{
		{[]byte{0 << 3}, 10}, {[]byte{3 << 3}, 60}, {[]byte{9<<3 | 1}, 40}, {[]byte{12 << 3}, 10}, {[]byte{15 << 3}, 20},
		{[]byte{16 << 3}, 2.5}, {[]byte{31 << 3}, 20}, {[]byte{31<<3 | 3, 6}, 120}, {[]byte{31<<3 | 3, 7}, 0}, {[]byte{3}, 0}, {nil, 0},
	} {
		if got := opusSamples(c.packet); got != int64(c.ms*48) {
			t.Errorf("%x: %d samples, want %v ms", c.packet, got, c.ms)
		}
	}
}

func FuzzOpusSamples(f *testing.F) {
	f.Add([]byte{31<<3 | 3, 6})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := opusSamples(b); n < 0 || n > 120*48 {
			t.Errorf("%x lasts %d samples", b, n)
		}
	})
}

// Packets of Opus pass as they are, at the time that they say, whatever their length in bytes.
func TestOpus(t *testing.T) {
	w, r := join(t, "audio/opus;channels=2")
	begin := time.Now()
	const n = 10
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			p := append([]byte{31 << 3}, make([]byte, 7*i)...) // 20 ms
			if err := w.Write(t.Context(), connectors.ADU{Payload: p, MediaTime: time.Duration(i) * 20 * ms}); err != nil {
				sent <- err
				return
			}
		}
		sent <- w.Close()
	}()
	for i := range n {
		a, err := r.Read(t.Context())
		if err != nil || len(a.Payload) != 1+7*i || a.MediaTime != time.Duration(i)*20*ms {
			t.Fatalf("packet %d: %d bytes at %v, %v", i, len(a.Payload), a.MediaTime, err)
		}
	}
	if took := time.Since(begin); took < 100*ms {
		t.Errorf("200 ms of sound left in %v", took)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	w, _ = join(t, "audio/opus;channels=2")
	if err := w.Write(t.Context(), connectors.ADU{Payload: make([]byte, maxPayload+1)}); err == nil {
		t.Error("a packet that would have to be cut is taken")
	}
}

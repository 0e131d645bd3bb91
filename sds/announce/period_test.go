package announce

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ninja/ca"
	"ninja/ca/seal"
)

// "On each channel, a measurement-based periodicity estimation algorithm determines the optimal send rate for messages
// that produces the desired tradeoff between update latency and bandwidth utilization" (ninja-architecture, 6.1): for
// any traffic the estimate settles, within the budget if the longest period allows, and no longer than it must be.
func TestEstimateSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		round := rapid.Float64Range(0, 1e8).Draw(t, "bytes a round")
		budget := rapid.Float64Range(1, 1e6).Draw(t, "budget")
		least, most := RoundPeriod(time.Second), RoundPeriod(time.Minute)
		period := RoundPeriod(rapid.SampledFrom([]time.Duration{time.Second, 8 * time.Second, time.Minute}).Draw(t, "first"))
		for range 12 {
			period = EstimatePeriod(period, round, budget, least, most)
		}
		if again := EstimatePeriod(period, round, budget, least, most); again != period {
			t.Fatalf("does not settle: %v, then %v", period, again)
		}
		if period < least || period > most {
			t.Fatalf("%v is not within %v and %v", period, least, most)
		}
		if round/period.Seconds() > budget && period != most {
			t.Fatalf("%v is over the budget and not the longest", period)
		}
		if period != least && round/budget < calm*period.Seconds()/2 {
			t.Fatalf("%v is longer than it must be", period)
		}
	})
}

// Services come until the channel is full, and go: the period follows, and nobody expires on the way.
func TestPeriodFollowsTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newWire()
		w := net.world()
		domain := authority(t, w)
		server := startServerWith(t, w, identity(t, domain, ca.KindSDS, "one"), nil, func(c *ReceiverConfig) { c.Budget = 4000 })
		defer server.stop()
		var stops []func()
		const senders = 12
		for n := range senders {
			a, stop := startAnnouncer(t, w, identity(t, domain, ca.KindUnit, fmt.Sprint("u", n)), nil)
			stops = append(stops, stop)
			publish(t, a, "s", document)
		}
		time.Sleep(5 * testPeriod)
		for range 60 {
			time.Sleep(testPeriod)
			if n := server.live(); n != senders {
				t.Fatalf("%d of %d live at the period %v", n, senders, server.announcer.Period())
			}
		}
		if p := server.announcer.Period(); p <= testPeriod {
			t.Fatalf("the period is still %v", p)
		}
		before := server.receiver.Stats().Bytes
		time.Sleep(64 * testPeriod)
		if rate := float64(server.receiver.Stats().Bytes-before) / (64 * testPeriod).Seconds(); rate > 4000*1.1 {
			t.Errorf("%.0f bytes a second with a budget of 4000", rate)
		}
		for _, stop := range stops[1:] {
			stop()
		}
		for range 60 {
			time.Sleep(testPeriod)
			if server.live() < 1 {
				t.Fatal("the last one expired when the period became shorter")
			}
		}
		if p := server.announcer.Period(); p != testPeriod {
			t.Errorf("the period stays %v", p)
		}
		stops[0]()
	})
}

func TestPeriodsAreRounded(t *testing.T) {
	for want, got := range map[time.Duration]time.Duration{
		0: 64 * time.Millisecond, 64 * time.Millisecond: 64 * time.Millisecond, 65 * time.Millisecond: 128 * time.Millisecond,
		time.Second: 1024 * time.Millisecond, 1000 * time.Hour: 1 << 22 * time.Millisecond,
	} {
		if r := RoundPeriod(want); r != got {
			t.Errorf("%v is rounded to %v, not %v", want, r, got)
		}
	}
}

// Everything that travels once fits, with the longest identities there may be.
func TestSizes(t *testing.T) {
	r := newRig(t)
	long := make([]byte, 200)
	for i := range long {
		long[i] = 'a'
	}
	id := identity(t, r.domain, ca.KindUnit, string(long))
	r.announceServer()
	e, err := r.sender.newEpoch(r.now)
	if err != nil {
		t.Fatal(err)
	}
	s := newSender(id, r.world, time.Hour, r.now)
	s.server, s.present = r.sender.server, e
	out, err := s.block(nil, e)
	if err != nil {
		t.Fatal(err)
	}
	if len(out[0]) != keyBlockSize || keyBlockSize > seal.MaxDatagram {
		t.Fatalf("a key block of %d bytes", len(out[0]))
	}
	t.Logf("key block %d, hello %d, announcement %d, key %d, chain %d bytes", len(out[0]), len(out[1]),
		len(r.toServices[1]), len(r.toServices[2]), len(r.toServices[0]))
}

package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/sds/announce"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// board is a publisher that remembers.
type board struct {
	mu      sync.Mutex
	bodies  map[string]string
	numbers map[string]map[string]float64
}

func (b *board) Publish(name string, description []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bodies[name] = string(description)
	return announce.CheckName(name)
}

func (b *board) SetNumbers(name string, n map[string]float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.numbers[name] = maps.Clone(n)
}

func (b *board) Withdraw(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.bodies, name)
}

type load float64

func (l load) Load() float64 { return float64(l) }

const self = ca.ID("spiffe://test/proxy/p0")

func inWorld() world.World {
	w := world.Real()
	w.Now = time.Now
	return w
}

// A proxy publishes itself and its operators, tells its load and how far regions are, within the budget, and withdraws all.
func TestAProxyTellsOfItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{bodies: make(map[string]string), numbers: make(map[string]map[string]float64)}
		probes := 0
		prober := &Prober{World: inWorld(), Peers: func(context.Context) ([]Peer, error) {
			return []Peer{{self, "eu", "self"}, {"spiffe://test/proxy/p1", "eu", "near"}, {"spiffe://test/proxy/p2", "us", "far"}, {"spiffe://test/proxy/p3", "us", "dead"}}, nil
		}, Probe: func(_ context.Context, address string) (time.Duration, error) {
			probes++
			d, ok := map[string]time.Duration{"near": time.Millisecond, "far": 90 * time.Millisecond}[address]
			if !ok {
				return 0, fmt.Errorf("nobody at %s", address)
			}
			time.Sleep(d)
			return d, nil
		}}
		p, err := New(Config{Owner: self, Node: operators.Node{Control: "c", Data: "d"}, Publisher: b, Runtime: load(0.5), Prober: prober, Specs: []operators.Spec{
			{Name: "to-latin", Program: "latin", In: operators.MustPattern("text/plain"), Out: operators.MustPattern("text/plain")},
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		const minutes = 5
		time.Sleep(minutes * time.Minute)
		synctest.Wait()
		b.mu.Lock()
		if got := b.numbers["p0"]; got["load"] != 0.5 || got["rtt.eu"] != 0.001 || got["rtt.us"] != 0.09 || len(got) != 3 {
			t.Errorf("numbers: %v", got)
		}
		if err := announce.CheckNumbers(b.numbers["p0"]); err != nil {
			t.Error(err)
		}
		if len(b.bodies) != 2 || !strings.Contains(b.bodies["operator.to-latin"], "latin") {
			t.Errorf("published: %v", b.bodies)
		}
		b.mu.Unlock()
		if rate := probes * probeBytes * 8 / (minutes * 60); rate > 1000 || probes < 50 {
			t.Errorf("%d probes, %d bits a second", probes, rate)
		}
		cancel()
		if err := <-ended; err != nil || len(b.bodies) != 0 {
			t.Errorf("at the end: %v, %v", err, b.bodies)
		}
	})
}

// What the publisher refuses is an error that names it.
func TestRefusedByThePublisher(t *testing.T) {
	b := &board{bodies: make(map[string]string), numbers: make(map[string]map[string]float64)}
	p, err := New(Config{Owner: self, Publisher: b, Runtime: load(0), Specs: []operators.Spec{
		{Name: "no name", Program: "p", In: operators.MustPattern("text/plain"), Out: operators.MustPattern("text/plain")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), `publish operator "operator.no name"`) {
		t.Errorf("refused with %v", err)
	}
}

// One peer a region, another for each proxy, the same for as long as it answers; regions and names are bounded.
func TestSchedule(t *testing.T) {
	var peers []Peer
	for i := range 40 {
		peers = append(peers, Peer{ca.ID(fmt.Sprint("spiffe://test/proxy/p", i)), fmt.Sprint("r", i%20), fmt.Sprint("a", i)})
	}
	peers = append(peers, Peer{"spiffe://test/proxy/long", strings.Repeat("x", maxRegion+1), "a"}, Peer{self, "own", "a"})
	chosen := make(map[string]bool)
	for n := range 20 {
		s := &schedule{self: ca.ID(fmt.Sprint("spiffe://test/proxy/q", n))}
		s.learn(peers)
		if len(s.order) != maxRegions {
			t.Fatalf("%d regions", len(s.order))
		}
		for range maxRegions {
			p, _ := s.next()
			chosen[p.Address] = true
		}
		first, _ := s.next()
		s.learn(peers)
		s.turn--
		if again, _ := s.next(); again != first {
			t.Errorf("%v, then %v", first, again)
		}
	}
	if len(chosen) < 35 {
		t.Errorf("only %d of 40 are probed by anyone", len(chosen))
	}
}

// What went wrong once, or is old, says nothing; a peer that does not answer is replaced.
func TestSamples(t *testing.T) {
	s := &schedule{self: self}
	s.learn([]Peer{{"spiffe://test/proxy/a", "eu", "a"}, {"spiffe://test/proxy/b", "eu", "b"}})
	now := time.Unix(1e9, 0)
	p, _ := s.next()
	for i, rtt := range []time.Duration{10, 12, 5000} {
		if n := s.numbers(now); len(n) != 0 {
			t.Errorf("after %d samples: %v", i, n)
		}
		s.took(p, now, rtt*time.Millisecond, nil)
	}
	if n := s.numbers(now); n["rtt.eu"] != 0.012 {
		t.Errorf("%v", n)
	}
	for range maxMissed {
		s.took(p, now, 0, errors.New("silence"))
	}
	if q, _ := s.next(); q == p {
		t.Error("the silent peer is still probed")
	}
	if n := s.numbers(now.Add(staleProbe)); len(n) != 0 {
		t.Errorf("old: %v", n)
	}
	if _, ok := (&schedule{}).next(); ok {
		t.Error("a peer out of nothing")
	}
}

// The default probe opens a connection and closes it.
func TestConnectTime(t *testing.T) {
	w := world.Real()
	l, err := w.Net.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Prober{World: w}
	if rtt, err := p.connectTime(t.Context(), l.Addr().String()); err != nil || rtt <= 0 || rtt > time.Second {
		t.Errorf("%v, %v", rtt, err)
	}
	l.Close()
	if _, err := p.connectTime(t.Context(), l.Addr().String()); err == nil {
		t.Error("nobody listens, but it was measured")
	}
}

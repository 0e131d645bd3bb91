package proxy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ninja/operators"
)

// board notes what is published.
type board struct {
	mu        sync.Mutex
	published map[string]string
	load      []float64
	refuse    bool
}

func (b *board) Publish(name string, d []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse {
		return errors.New("over a budget")
	}
	b.published[name] = string(d)
	return nil
}

func (b *board) SetNumbers(_ string, n map[string]float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.load = append(b.load, n["load"])
}

func (b *board) Withdraw(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.published, name)
}

type busy float64

func (l *busy) Load() float64 { *l += 0.25; return float64(*l) }

func spec(name string) operators.Spec {
	return operators.Spec{Name: name, Program: name, In: operators.MustPattern("text/plain"), Out: operators.MustPattern("text/plain")}
}

// A proxy publishes itself and each operator, tells its load every period, and leaves nothing behind.
func TestPublishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{published: make(map[string]string)}
		p, err := New(Config{
			Owner: "spiffe://test/proxy/p1", Node: operators.Node{Control: "c:1", Data: "d:1", Cores: 2}, Specs: []operators.Spec{spec("x"), spec("y")},
			Publisher: b, Runtime: new(busy),
		})
		if err != nil {
			t.Fatal(err)
		}
		if names := p.Names(); !slices.Equal(names, []string{"p1", "operator.x", "operator.y"}) {
			t.Errorf("names %v", names)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		time.Sleep(2500 * time.Millisecond)
		b.mu.Lock()
		if len(b.published) != 3 || !strings.Contains(b.published["p1"], `cores="2"`) || !strings.Contains(b.published["operator.x"], `program="x"`) {
			t.Errorf("published %v", b.published)
		}
		if len(b.load) < 3 || b.load[2] <= b.load[0] {
			t.Errorf("load told %v", b.load)
		}
		b.mu.Unlock()
		cancel()
		if err := <-ended; err != nil || len(b.published) != 0 {
			t.Errorf("ended with %v, left %v", err, b.published)
		}
	})
}

func TestRefusedByThePublisher(t *testing.T) {
	p, err := New(Config{Owner: "spiffe://test/proxy/p1", Publisher: &board{refuse: true}, Runtime: new(busy)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), `publish proxy "p1": over a budget`) {
		t.Errorf("refused with %v", err)
	}
}

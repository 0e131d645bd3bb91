package rtp

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/internal/world"
)

const seed = 20261121

// network is a pair of hosts that are joined by a link like usual, and a hop between them.
func network(t *testing.T, usual world.Link, cfg Config) (*world.Sim, connectors.Writer, connectors.Reader) {
	t.Helper()
	return networkOf(t, connectorstest.Processes, usual, cfg)
}

// networkOf is network whose hosts are made so.
func networkOf(t *testing.T, make func(testing.TB, string, ...world.World) []connectorstest.Process, usual world.Link,
	cfg Config) (*world.Sim, connectors.Writer, connectors.Reader) {
	t.Helper()
	sim := world.NewSim(seed, usual)
	p := make(t, ":7700", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"))
	cfg.Hops, cfg.Identity, cfg.World = p[0].Hops, p[0].Identity, p[0].World
	in := New(cfg)
	out := New(Config{Hops: p[1].Hops, Identity: p[1].Identity, World: p[1].World})
	h := connectors.Hop{Path: "path", Name: "tts->speaker", Type: connectors.MustType("audio/PCMU;rate=8000"), Peer: string(p[1].Identity.ID())}
	pending, err := in.Listen(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	h.Peer = string(p[0].Identity.ID())
	w, err := out.Dial(t.Context(), pending.Address(), h)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pending.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return sim, w, r
}

// talk sends n ADUs of 20 ms as a live source does, the last with a mark, and closes.
func talk(ctx context.Context, w connectors.Writer, n int) error {
	for i := range n {
		a := connectors.ADU{Payload: make([]byte, 160), MediaTime: time.Duration(i) * 20 * ms}
		if i == n-1 {
			a.Mark = connectors.EndOfUtterance
		}
		if err := w.Write(ctx, a); err != nil {
			return errors.Join(err, w.Close())
		}
		time.Sleep(20 * ms)
	}
	return w.Close()
}

// heard is what came of a talk.
type heard struct {
	adus, marks int
	gaps        int           // ADUs that came more than 1 ms off their time
	slowest     time.Duration // from leaving the source to delivery
}

func listen(t *testing.T, r connectors.Reader, begin time.Time) (h heard) {
	var last uint64
	var first time.Time
	for {
		a, err := r.Read(t.Context())
		if err == io.EOF {
			return h
		}
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		if a.Mark == connectors.EndOfUtterance {
			h.marks++
		}
		if len(a.Payload) == 0 {
			continue
		}
		if a.Seq <= last {
			t.Fatalf("seq %d after %d", a.Seq, last)
		}
		last = a.Seq
		if first.IsZero() {
			first = now.Add(-a.MediaTime)
		}
		if now.Sub(first.Add(a.MediaTime)).Abs() > ms {
			h.gaps++
		}
		h.adus++
		h.slowest = max(h.slowest, now.Sub(begin.Add(a.MediaTime)))
	}
}

// A link with 5 % loss, 30 ms of jitter, duplicates and reordering: nothing comes twice or out of order, the end of the
// utterance always comes, and what is missing is counted.
func TestBadLink(t *testing.T) {
	const n = 500
	for name, cfg := range map[string]Config{
		"in order": {}, "played out": {Playout: 60 * ms}, "adaptive": {Playout: 20 * ms, PlayoutMost: 120 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Logf("seed %d", seed)
				link := world.Link{Delay: 20 * ms, Jitter: 30 * ms, Loss: 0.05, Duplicate: 0.05, Reorder: 0.05}
				_, w, r := network(t, link, cfg)
				begin := time.Now()
				result := make(chan error, 1)
				go func() { result <- talk(t.Context(), w, n) }()
				h := listen(t, r, begin)
				if err := <-result; err != nil {
					t.Error(err)
				}
				s := r.(connectors.Measured).Stats()
				t.Logf("%+v %+v", h, s)
				if uint64(h.adus)+s.Lost != n || s.Lost < n/40 || s.Lost > n/10 || h.marks != 1 {
					t.Errorf("%d heard, %d lost, %d marks; want %d together and 1 mark", h.adus, s.Lost, h.marks, n)
				}
				if limit := 20*ms + 30*ms + 10*ms + max(cfg.Playout, 40*ms) + 10*ms; h.slowest > limit {
					t.Errorf("the slowest took %v, want at most %v", h.slowest, limit)
				}
				if cfg.PlayoutMost == 0 && cfg.Playout > 0 && h.gaps > n/50 {
					t.Errorf("%d of %d off their time: the jitter is not smoothed", h.gaps, n)
				}
				if s.Jitter < 5*ms || s.Jitter > 30*ms || s.Link < 20*ms || s.Link > 60*ms {
					t.Errorf("jitter %v, link %v", s.Jitter, s.Link)
				}
				r.Close()
			})
		})
	}
}

// A peer that falls silent is noticed at both ends; nobody waits for ever.
func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, w, r := network(t, world.Link{Delay: 20 * ms}, Config{})
		if err := w.Write(t.Context(), connectors.ADU{Payload: make([]byte, 160)}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		sim.Cut("10.0.0.1", "10.0.0.2")
		begin := time.Now()
		if _, err := r.Read(t.Context()); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
		for range w.Events() {
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("noticed after %v", took)
		}
		if err := w.Write(t.Context(), connectors.ADU{}); err == nil {
			t.Error("a broken hop takes ADUs")
		}
		w.Close()
		r.Close()
	})
}

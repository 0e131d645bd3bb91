package sds

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/capability"
	"ninja/sds/announce"
	"ninja/sds/index"
	"ninja/sds/sdspb"
)

// "A named number is an event only beyond the watcher's step", and a renewal is none.
func TestWatchSteps(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	for _, n := range []string{"p", "q"} {
		w.publish(owner, n, 1, fmt.Sprintf(printer, n, 3, 1))
	}
	ctx, cancel := context.WithCancel(context.Background())
	events, done := make(chan WatchEvent), make(chan error, 1)
	c := w.client(owner)
	go func() {
		done <- c.Watch(ctx, Query{Template: []byte(`<service name="p"/>`), Steps: map[string]float64{"load": 0.5}}, func(e WatchEvent) { events <- e })
	}()
	next := func() WatchEvent {
		t.Helper()
		select {
		case e := <-events:
			return e
		case <-time.After(10 * time.Second):
			t.Fatal("no event")
			return WatchEvent{}
		}
	}
	refresh := func(name string, load float64) {
		w.server.Refresh(owner.ID(), time.Minute, []announce.Pair{{Name: name, Version: 1, Numbers: map[string]float64{"load": load, "queue": load}}})
	}
	if a, b := next(), next(); a.Kind != Enter || b.Kind != Synced {
		t.Fatal(a, b)
	}
	want := func(load float64) {
		t.Helper()
		if e := next(); e.Kind != Change || e.Found.Name != "p" || e.Found.Numbers["load"] != load {
			t.Fatalf("%v %s %v, want a change to %g", e.Kind, e.Found.Name, e.Found.Numbers, load)
		}
	}
	refresh("p", 1) // it had none
	want(1)
	refresh("p", 1)
	refresh("p", 1.25)
	refresh("p", 1.375)
	refresh("q", 9)
	refresh("p", 1.5)
	want(1.5)
	w.publish(owner, "p", 2, fmt.Sprintf(printer, "p", 4, 1))
	if e := next(); e.Kind != Change || e.Found.Version != 2 {
		t.Fatal(e)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := w.server.Query(callFrom(context.Background(), owner), &sdspb.QueryRequest{Question: &sdspb.Question{Steps: map[string]float64{"load": -1}}}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}

// A watcher that falls behind is told to begin again, and retains nothing meanwhile; what it does not see costs it
// nothing.
func TestSlowWatchBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := newStoreFor(t, Config{})
		defer stop()
		subs := map[string]*subscriber{}
		for name, template := range map[string]string{"slow": "<a/>", "other": "<b/>", "blind": "<a/>"} {
			q, err := index.Template([]byte(template))
			if err != nil {
				t.Fatal(err)
			}
			grants := []capability.Who{capability.Who(anOwner), capability.Everyone}
			if name == "blind" {
				grants = grants[1:]
			}
			sub := newSubscriber(anOwner, grants, map[string]float64{"v": 1})
			sub.Watch = index.NewWatch(q, "", nil, sub)
			if err := s.join(sub); err != nil {
				t.Fatal(err)
			}
			subs[name] = sub
		}
		for v := range watchQueue {
			if err := putBody(t, s, "p", uint64(v+1), "<a/>", 0); err != nil {
				t.Fatal(err)
			}
		}
		s.refresh(anOwner, time.Minute, []announce.Pair{{Name: "p", Version: watchQueue, Numbers: map[string]float64{"v": 0}}})
		if q, moved, lost := subs["slow"].take(); len(q) != watchQueue || len(moved) != 1 || lost {
			t.Errorf("%d changes, %d numbers, lost %v", len(q), len(moved), lost)
		}
		for v := range watchQueue + 1 {
			if err := putBody(t, s, "p", uint64(watchQueue+v+1), "<a/>", 0); err != nil {
				t.Fatal(err)
			}
		}
		if q, moved, lost := subs["slow"].take(); len(q)+len(moved) != 0 || !lost {
			t.Errorf("%d changes, %d numbers, lost %v", len(q), len(moved), lost)
		}
		for _, name := range []string{"other", "blind"} {
			if q, moved, lost := subs[name].take(); len(q)+len(moved) != 0 || lost {
				t.Errorf("%s: %d changes, %d numbers, lost %v", name, len(q), len(moved), lost)
			}
		}
		for _, sub := range subs {
			s.leave(sub)
		}
		_ = s.do(func() {})
		if w := s.watches; len(w.by)+len(w.stepped)+len(w.names)+len(w.owned) != 0 {
			t.Errorf("left: %v", w)
		}
	})
}

// watchStream takes the events of a watch within the process.
type watchStream struct {
	grpc.ServerStream
	ctx context.Context
	out chan *sdspb.WatchEvent
}

func (s watchStream) Context() context.Context { return s.ctx }
func (s watchStream) Send(e *sdspb.WatchEvent) error {
	select {
	case s.out <- e:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// A watch that blocks while the catalogue changes ends up knowing what there is.
func TestWatchCatchesUp(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	ctx, cancel := context.WithCancel(callFrom(context.Background(), owner))
	defer cancel()
	out, done := make(chan *sdspb.WatchEvent), make(chan error, 1)
	token := w.tokens.issue(owner)
	go func() {
		done <- w.server.Watch(&sdspb.QueryRequest{Capability: token, Question: &sdspb.Question{Template: []byte("<a/>")}}, watchStream{ctx: ctx, out: out})
	}()
	if e := <-out; e.GetKind() != sdspb.WatchEvent_KIND_SYNCED {
		t.Fatal(e)
	}
	const n = 3 * watchQueue
	for i := range n { // nobody takes the events
		w.publish(owner, fmt.Sprint("p", i), 1, "<a/>")
	}
	known, resyncs := map[string]bool{}, 0
	for len(known) < n {
		select {
		case e := <-out:
			switch e.GetKind() {
			case sdspb.WatchEvent_KIND_RESYNC:
				resyncs++
				clear(known)
			case sdspb.WatchEvent_KIND_ENTER:
				known[e.GetFound().GetName()] = true
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%d known after %d resyncs", len(known), resyncs)
		}
	}
	if resyncs != 1 {
		t.Errorf("%d resyncs, want 1", resyncs)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Whoever asks expensive questions waits, and nobody else does.
func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter(1000)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begun := time.Now()
		for range 10 { // 2,000 are saved up, and the last is on credit
			if err := m.pay(ctx, "greedy", func() int { return 1000 }); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(begun); d < 7*time.Second || d > 8*time.Second {
			t.Errorf("10 expensive searches took %v, want about 7 s", d)
		}
		begun = time.Now()
		if err := m.pay(ctx, "modest", func() int { return 10 }); err != nil || time.Since(begun) > 0 {
			t.Errorf("somebody else waited %v, %v", time.Since(begun), err)
		}
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		if err := m.pay(short, "greedy", func() int { t.Error("ran in debt"); return 0 }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		for i := range allowancesMost + 1 {
			if err := m.pay(ctx, ca.ID(fmt.Sprint(i)), func() int { return 0 }); err != nil {
				t.Fatal(err)
			}
		}
		if len(m.by) > allowancesMost {
			t.Errorf("%d allowances are remembered", len(m.by))
		}
	})
}

package ddstest

import (
	"context"
	"errors"
	"testing"
	"time"

	"ninja/base/dds"
)

func testCompareAndDelete(t *testing.T, s Store) {
	remove := func(expect uint64, want bool) {
		t.Helper()
		deleted, err := s.CompareAndDelete(t.Context(), "t", "k", expect)
		must(t, err)
		if deleted != want {
			t.Errorf("delete at %d: %v", expect, deleted)
		}
	}
	remove(0, false)
	remove(7, false)
	first := put(t, s, "t", "k", "v")
	remove(first+1, false)
	second := put(t, s, "t", "k", "w")
	remove(first, false)
	expect(t, s, "t", "k", "w", second)
	remove(second, true)
	expect(t, s, "t", "k", "", 0)
	remove(second, false)
}

func testFence(t *testing.T, s Store) {
	lease := put(t, s, "leases", "l", "me")
	write := func(fence dds.Fence, value string) error {
		_, err := s.Write(t.Context(), dds.Write{Table: "t", Key: "k", Value: []byte(value), Fence: &fence})
		return err
	}
	must(t, write(dds.Fence{Table: "leases", Key: "l", Revision: lease}, "mine"))
	other := put(t, s, "leases", "l", "you")
	if err := write(dds.Fence{Table: "leases", Key: "l", Revision: lease}, "late"); !errors.Is(err, dds.ErrFenced) {
		t.Error(err)
	}
	must(t, write(dds.Fence{Table: "leases", Key: "l", Revision: other}, "yours"))
	must(t, s.Delete(t.Context(), "leases", "l"))
	for _, token := range []uint64{lease, other, other + 1000} {
		if err := write(dds.Fence{Table: "leases", Key: "l", Revision: token}, "late"); !errors.Is(err, dds.ErrFenced) {
			t.Error(err)
		}
	}
	if err := write(dds.Fence{Table: "leases", Key: "l"}, "nothing"); !errors.Is(err, dds.ErrRefused) {
		t.Error(err)
	}
	if v, _, _ := s.Get(t.Context(), "t", "k"); string(v) != "yours" {
		t.Errorf("the value is %q", v)
	}
}

const short = 150 * time.Millisecond

// gone waits until a key goes by itself and says when.
func gone(t *testing.T, events <-chan dds.Event, key string) time.Time {
	t.Helper()
	for {
		if e := next(t, events); e.Kind == dds.Deleted && e.Key == key {
			return time.Now()
		}
	}
}

func testTTL(t *testing.T, s Store) {
	events := make(chan dds.Event, 100)
	watching(t, s, "t", "", func(e dds.Event) { events <- e })
	begun := time.Now()
	for _, key := range []string{"goes", "stays", "again"} {
		_, err := s.PutFor(t.Context(), "t", key, []byte("v"), short)
		must(t, err)
	}
	stays := put(t, s, "t", "stays", "for good")
	again, err := s.PutFor(t.Context(), "t", "again", []byte("w"), 2*short)
	must(t, err)
	if took := gone(t, events, "goes").Sub(begun); took < short {
		t.Errorf("gone after %v, before its %v", took, short)
	}
	if v, r, _ := s.Get(t.Context(), "t", "again"); r != 0 && (r != again || string(v) != "w") {
		t.Errorf("again is %q at %d", v, r)
	}
	gone(t, events, "again")
	expect(t, s, "t", "goes", "", 0)
	expect(t, s, "t", "stays", "for good", stays)
}

func testRenew(t *testing.T, s Store) {
	events := make(chan dds.Event, 100)
	watching(t, s, "t", "", func(e dds.Event) { events <- e })
	token, err := s.PutFor(t.Context(), "t", "k", nil, short)
	must(t, err)
	renew := func(key string, revision uint64, want bool) {
		t.Helper()
		if ok, err := s.Renew(t.Context(), "t", key, revision); err != nil || ok != want {
			t.Errorf("renew %s at %d: %v %v", key, revision, ok, err)
		}
	}
	renew("k", token+1, false)
	renew("absent", token, false)
	renew("good", put(t, s, "t", "good", "has no TTL"), false)
	last := time.Now()
	for range 40 { // some of them in the time that it has left, by the clock of the test
		asked := time.Now()
		ok, err := s.Renew(t.Context(), "t", "k", token)
		must(t, err)
		if !ok {
			break // this machine stood still
		}
		last = asked
		put(t, s, "u", "k", "something to wait for")
	}
	if at := gone(t, events, "k"); at.Sub(last) < short {
		t.Errorf("gone %v after a renewal, before its %v", at.Sub(last), short)
	}
	renew("k", token, false)
}

func testLeases(t *testing.T, s Store) {
	acquire := func(want bool) uint64 {
		t.Helper()
		token, ok, err := s.Acquire(t.Context(), "l", "k", []byte("me"), time.Hour)
		must(t, err)
		if ok != want || ok != (token != 0) {
			t.Errorf("acquired %v with %d", ok, token)
		}
		return token
	}
	first := acquire(true)
	acquire(false)
	if ok, err := s.CompareAndDelete(t.Context(), "l", "k", first); err != nil || !ok {
		t.Error(ok, err)
	}
	second := acquire(true)
	if second <= first {
		t.Errorf("token %d after %d", second, first)
	}
	// It ends by time too: whoever comes next has a greater token.
	events := make(chan dds.Event, 100)
	watching(t, s, "l", "brief", func(e dds.Event) { events <- e })
	brief, ok, err := s.Acquire(t.Context(), "l", "brief", nil, short)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	gone(t, events, "brief")
	next, ok, err := s.Acquire(t.Context(), "l", "brief", nil, short)
	if err != nil || !ok || next <= brief {
		t.Errorf("after the end: %v %v, %d after %d", ok, err, next, brief)
	}
}

func testHold(t *testing.T, s Store) {
	must(t, dds.Hold(t.Context(), s, "l", "k", nil, time.Second, func(ctx context.Context, token uint64) error {
		err := dds.Hold(ctx, s, "l", "k", nil, time.Second, func(context.Context, uint64) error { return nil })
		if !errors.Is(err, dds.ErrHeld) {
			t.Errorf("held twice: %v", err)
		}
		_, err = s.Write(ctx, dds.Write{Table: "t", Key: "k", Fence: &dds.Fence{Table: "l", Key: "k", Revision: token}})
		return err
	}))
	if _, r, err := s.Get(t.Context(), "l", "k"); r != 0 || err != nil {
		t.Errorf("not given back: %d %v", r, err)
	}
	// The work is told when the lease is taken away.
	must(t, dds.Hold(t.Context(), s, "l", "k", nil, 3*short, func(ctx context.Context, token uint64) error {
		must(t, s.Delete(ctx, "l", "k"))
		select {
		case <-ctx.Done():
			if context.Cause(ctx) != dds.ErrLost {
				t.Errorf("ended by %v", context.Cause(ctx))
			}
		case <-time.After(10 * time.Second):
			t.Error("the work goes on without its lease")
		}
		return nil
	}))
}

// testReopenLease: a lease outlives the store's process, by its whole TTL, and then goes.
func testReopenLease(t *testing.T, open func(t testing.TB, dir string) Store) {
	dir := t.TempDir()
	s := open(t, dir)
	token, _, err := s.Acquire(t.Context(), "t", "k", []byte("me"), 2*short)
	must(t, err)
	_, err = s.PutFor(t.Context(), "t", "deleted", nil, short)
	must(t, err)
	must(t, s.Delete(t.Context(), "t", "deleted"))
	must(t, s.Close())
	begun := time.Now()
	s = open(t, dir)
	defer s.Close()
	deleted := put(t, s, "t", "deleted", "made anew, for good")
	events := make(chan dds.Event, 100)
	watching(t, s, "t", "", func(e dds.Event) { events <- e })
	if e := next(t, events); e.Kind != dds.Reset {
		t.Error(e)
	}
	if e := next(t, events); e.Key != "deleted" {
		t.Error(e)
	}
	if e := next(t, events); e.Kind != dds.Set || e.Key != "k" || e.Revision != token {
		t.Error(e)
	}
	if took := gone(t, events, "k").Sub(begun); took < 2*short {
		t.Errorf("gone %v after the start, before its %v", took, 2*short)
	}
	expect(t, s, "t", "deleted", "made anew, for good", deleted)
}

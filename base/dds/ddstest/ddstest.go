// Package ddstest is the conformance kit of stores: everything that claims to be a dds store is run against it.
package ddstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ninja/base/dds"
)

// Store is all that a store of tables does. See dds.Engine for what each promises.
type Store interface {
	dds.Writer
	dds.Holding
	PutFor(ctx context.Context, table, key string, value []byte, ttl time.Duration) (revision uint64, err error)
	Get(ctx context.Context, table, key string) (value []byte, revision uint64, err error)
	Put(ctx context.Context, table, key string, value []byte) (revision uint64, err error)
	Delete(ctx context.Context, table, key string) error
	CompareAndSet(ctx context.Context, table, key string, value []byte, expect uint64) (revision uint64, swapped bool, err error)
	List(ctx context.Context, table, prefix string, each func(key string, value []byte, revision uint64) error) error
	Watch(ctx context.Context, table, prefix string, each func(dds.Event) error) error
	Close() error
}

// Run runs the kit. Open opens the store that is kept in dir, which outlives it; Run closes what it opens.
func Run(t *testing.T, open func(t testing.TB, dir string) Store) {
	for _, tc := range []struct {
		name string
		run  func(*testing.T, Store)
	}{
		{"a key that is not there", testAbsent},
		{"put, get, delete", testPut},
		{"tables are apart", testTables},
		{"compare and set", testCompareAndSet},
		{"compare and set by many", testCounter},
		{"compare and delete", testCompareAndDelete},
		{"fence", testFence},
		{"keys that go by themselves", testTTL},
		{"renew", testRenew},
		{"leases", testLeases},
		{"hold", testHold},
		{"linearizable", testLinearizable},
		{"list", testList},
		{"watch", testWatch},
		{"a slow watcher begins again", testSlowWatch},
		{"limits", testLimits},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			defer s.Close()
			tc.run(t, s)
		})
	}
	t.Run("a lease reopened", func(t *testing.T) { testReopenLease(t, open) })
	t.Run("reopened", func(t *testing.T) { testReopen(t, open) })
	t.Run("closed", func(t *testing.T) { testClosed(t, open) })
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, s Store, table, key, value string) uint64 {
	t.Helper()
	r, err := s.Put(t.Context(), table, key, []byte(value))
	must(t, err)
	return r
}

// expect checks a key; revision 0 is that it is not there.
func expect(t testing.TB, s Store, table, key, value string, revision uint64) {
	t.Helper()
	v, r, err := s.Get(t.Context(), table, key)
	must(t, err)
	if string(v) != value || r != revision {
		t.Errorf("%s/%s is %q at %d, want %q at %d", table, key, v, r, value, revision)
	}
}

func testAbsent(t *testing.T, s Store) {
	expect(t, s, "t", "k", "", 0)
	must(t, s.Delete(t.Context(), "t", "k"))
	must(t, s.List(t.Context(), "t", "", func(string, []byte, uint64) error { return errors.New("not empty") }))
}

func testPut(t *testing.T, s Store) {
	first := put(t, s, "t", "k", "v1")
	expect(t, s, "t", "k", "v1", first)
	second := put(t, s, "t", "k", "")
	if second <= first {
		t.Errorf("revision %d after %d", second, first)
	}
	expect(t, s, "t", "k", "", second)
	must(t, s.Delete(t.Context(), "t", "k"))
	expect(t, s, "t", "k", "", 0)
	if third := put(t, s, "t", "k", "v3"); third <= second {
		t.Errorf("revision %d after %d and a deletion", third, second)
	}
	value := []byte("mine")
	_, err := s.Put(t.Context(), "t", "own", value)
	must(t, err)
	value[0] = 'M'
	got, _, err := s.Get(t.Context(), "t", "own")
	must(t, err)
	got[1] = 'I'
	if again, _, _ := s.Get(t.Context(), "t", "own"); string(again) != "mine" {
		t.Errorf("the stored value is shared: %q", again)
	}
}

func testTables(t *testing.T, s Store) {
	a, b := put(t, s, "a", "k", "in a"), put(t, s, "b", "k", "in b")
	expect(t, s, "a", "k", "in a", a)
	expect(t, s, "b", "k", "in b", b)
	must(t, s.Delete(t.Context(), "a", "k"))
	expect(t, s, "b", "k", "in b", b)
}

func testCompareAndSet(t *testing.T, s Store) {
	set := func(value string, expected uint64, want bool) uint64 {
		t.Helper()
		r, swapped, err := s.CompareAndSet(t.Context(), "t", "k", []byte(value), expected)
		must(t, err)
		if swapped != want {
			t.Errorf("set %q at %d: swapped is %v", value, expected, swapped)
		}
		return r
	}
	set("x", 7, false)
	expect(t, s, "t", "k", "", 0)
	first := set("one", 0, true)
	if r := set("two", 0, false); r != first {
		t.Errorf("the revision is %d, it tells %d", first, r)
	}
	second := set("two", first, true)
	set("three", first, false)
	expect(t, s, "t", "k", "two", second)
	must(t, s.Delete(t.Context(), "t", "k"))
	set("three", second, false)
	set("three", 0, true)
}

// testCounter counts with compare-and-set from many goroutines: no count is lost or made twice.
func testCounter(t *testing.T, s Store) {
	const workers, each = 8, 25
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < each; {
				v, r, err := s.Get(ctx, "t", "n")
				n, _ := strconv.Atoi(string(v))
				swapped := false
				if err == nil {
					_, swapped, err = s.CompareAndSet(ctx, "t", "n", []byte(strconv.Itoa(n+1)), r)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if swapped {
					done++
				}
			}
		})
	}
	wg.Wait()
	if v, _, _ := s.Get(ctx, "t", "n"); string(v) != strconv.Itoa(workers*each) {
		t.Errorf("counted %s, want %d", v, workers*each)
	}
}

func testList(t *testing.T, s Store) {
	const many = 1200
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < many; i += 16 {
				if _, err := s.Put(t.Context(), "t", fmt.Sprintf("b%04d", i), []byte("v")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	put(t, s, "t", "a", "v")
	put(t, s, "t", "c", "v")
	put(t, s, "other", "b0000x", "v")
	var keys []string
	must(t, s.List(t.Context(), "t", "b", func(k string, v []byte, r uint64) error {
		if string(v) != "v" || r == 0 {
			t.Errorf("%s: %q at %d", k, v, r)
		}
		keys = append(keys, k)
		return nil
	}))
	if len(keys) != many || !slices.IsSorted(keys) || keys[0] != "b0000" {
		t.Errorf("%d keys, sorted %v", len(keys), slices.IsSorted(keys))
	}
	// The caller may use the store meanwhile, and stop.
	stop := errors.New("stop")
	err := s.List(t.Context(), "t", "", func(k string, _ []byte, _ uint64) error {
		if k == "b0003" {
			return stop
		}
		return s.Delete(t.Context(), "t", k)
	})
	if !errors.Is(err, stop) {
		t.Error(err)
	}
	expect(t, s, "t", "b0002", "", 0)
}

// watching runs a watch until the test ends.
func watching(t *testing.T, s Store, table, prefix string, each func(dds.Event)) {
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() {
		ran <- s.Watch(ctx, table, prefix, func(e dds.Event) error { each(e); return nil })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; !errors.Is(err, context.Canceled) && !errors.Is(err, dds.ErrClosed) {
			t.Errorf("the watch ended with %v", err)
		}
	})
}

func next(t *testing.T, events <-chan dds.Event) dds.Event {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event in 10 s")
		panic("unreachable")
	}
}

func testWatch(t *testing.T, s Store) {
	r1 := put(t, s, "t", "p1", "before")
	put(t, s, "t", "q", "elsewhere")
	events := make(chan dds.Event, 100)
	watching(t, s, "t", "p", func(e dds.Event) { events <- e })
	want := func(kind dds.Kind, key, value string, revision uint64) {
		t.Helper()
		e := next(t, events)
		if e.Kind != kind || e.Key != key || string(e.Value) != value || revision != 0 && e.Revision != revision {
			t.Errorf("got %+v, want %d %s %s at %d", e, kind, key, value, revision)
		}
	}
	want(dds.Reset, "", "", 0)
	want(dds.Set, "p1", "before", r1)
	want(dds.Synced, "", "", 0)
	r2 := put(t, s, "t", "p2", "after")
	put(t, s, "t", "q", "elsewhere")
	put(t, s, "u", "p", "elsewhere")
	must(t, s.Delete(t.Context(), "t", "p1"))
	must(t, s.Delete(t.Context(), "t", "p1"))
	_, _, err := s.CompareAndSet(t.Context(), "t", "p2", []byte("no"), r1)
	must(t, err)
	r3, _, err := s.CompareAndSet(t.Context(), "t", "p2", []byte("yes"), r2)
	must(t, err)
	want(dds.Set, "p2", "after", r2)
	want(dds.Deleted, "p1", "", 0)
	want(dds.Set, "p2", "yes", r3)
}

// testSlowWatch writes far more than waits for one watcher while it stands still: it does not hold up the writers, it
// begins again, and it comes to know the truth.
func testSlowWatch(t *testing.T, s Store) {
	const writes, keys = 3000, 50
	filler := strings.Repeat(" ", 2000) // what is on its way to a watcher is bounded in bytes too
	stands, gate, done := make(chan struct{}, 1), make(chan struct{}), make(chan map[string]string, 1)
	state, resets := map[string]string{}, 0
	watching(t, s, "t", "", func(e dds.Event) {
		switch e.Kind {
		case dds.Reset:
			state = map[string]string{}
			resets++
		case dds.Set:
			state[e.Key] = string(e.Value)
		case dds.Synced:
			if resets == 1 {
				stands <- struct{}{}
				<-gate
			} else if len(state) == keys {
				done <- state
			}
		}
	})
	<-stands
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < writes; i += 16 {
				if _, err := s.Put(t.Context(), "t", "k"+strconv.Itoa(i%keys), []byte("v"+strconv.Itoa(i)+filler)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(gate)
	select {
	case known := <-done:
		for k, v := range known {
			if now, _, _ := s.Get(t.Context(), "t", k); string(now) != v {
				t.Errorf("%s is %s, the watcher knows %s", k, now, v)
			}
		}
	case <-time.After(10 * time.Second):
		t.Error("it did not begin again")
	}
}

func testLimits(t *testing.T, s Store) {
	long := string(make([]byte, dds.MaxKey+1))
	for _, err := range []error{
		second(s.Put(t.Context(), "", "k", nil)),
		second(s.Put(t.Context(), "t", "", nil)),
		second(s.Put(t.Context(), "t", long, nil)),
		second(s.Put(t.Context(), "t", "k", make([]byte, dds.MaxValue+1))),
		second(s.Put(t.Context(), "t", "\xff", nil)),
		second(s.PutFor(t.Context(), "t", "k", nil, dds.MaxTTL+1)),
		second(s.PutFor(t.Context(), "t", "k", nil, 1)),
		s.List(t.Context(), "t", long, nil),
	} {
		if !errors.Is(err, dds.ErrRefused) {
			t.Errorf("beyond a limit: %v", err)
		}
	}
	put(t, s, "t", "k", string(make([]byte, dds.MaxValue)))
}

func second(_ uint64, err error) error { return err }

func testReopen(t *testing.T, open func(t testing.TB, dir string) Store) {
	dir := t.TempDir()
	s := open(t, dir)
	r := put(t, s, "t", "k", "v")
	put(t, s, "t", "gone", "v")
	must(t, s.Delete(t.Context(), "t", "gone"))
	must(t, s.Close())
	s = open(t, dir)
	defer s.Close()
	expect(t, s, "t", "k", "v", r)
	expect(t, s, "t", "gone", "", 0)
	if next := put(t, s, "t", "k", "w"); next <= r+2 {
		t.Errorf("revision %d after %d and two changes", next, r)
	}
}

func testClosed(t *testing.T, open func(t testing.TB, dir string) Store) {
	s := open(t, t.TempDir())
	synced := make(chan struct{}, 1)
	watching(t, s, "t", "", func(e dds.Event) {
		if e.Kind == dds.Synced {
			synced <- struct{}{}
		}
	})
	<-synced
	must(t, s.Close())
	must(t, s.Close())
	if _, err := s.Put(t.Context(), "t", "k", nil); !errors.Is(err, dds.ErrClosed) {
		t.Error(err)
	}
	if _, _, err := s.Get(t.Context(), "t", "k"); !errors.Is(err, dds.ErrClosed) {
		t.Error(err)
	}
}

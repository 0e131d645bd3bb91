package sds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds/announce"
	"ninja/sds/check"
	"ninja/sds/index"
)

// newStoreFor is a running store in a synctest bubble.
func newStoreFor(t *testing.T, cfg Config) (*store, context.CancelFunc) {
	cfg.Lifetime, cfg.Log = 30*time.Second, nil
	cfg.World = world.Real()
	a, err := ca.NewAuthority(cfg.World, "test")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Identity, err = a.NewIdentity(ca.KindSDS, "s"); err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _ = s.Run(ctx) }()
	return s.store, cancel
}

const anOwner = ca.ID("spiffe://test/base/b")

func parsed(t *testing.T, description string) *index.Tree {
	tree, err := check.Parse([]byte(description))
	if err != nil {
		t.Fatal(err)
	}
	return index.Pack(tree)
}

func putBody(t *testing.T, s *store, name string, version uint64, description string, life time.Duration) error {
	tree := parsed(t, description)
	return s.put(announce.Body{Owner: anOwner, Name: name, Version: version, Description: []byte(description), Lifetime: life, Numbers: map[string]float64{"v": float64(version)}}, tree)
}

func reason(err error) announce.Reason {
	var r *announce.Refused
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

// "Component failures are tolerated through the course of normal operation": what is not announced again is gone.
func TestSoftState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := newStoreFor(t, Config{MaxPerOwner: 3})
		defer stop()
		count := func() int { n := 0; _ = s.do(func() { n = len(s.services) }); return n }
		for i := range 3 {
			if err := putBody(t, s, fmt.Sprint("p", i), 1, "<a/>", time.Duration(10*(i+1))*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if err := putBody(t, s, "p3", 1, "<a/>", 0); reason(err) != announce.ReasonFull {
			t.Errorf("over the bound: %v", err)
		}
		time.Sleep(9 * time.Second)
		if unknown := s.refresh(anOwner, 10*time.Second, []announce.Pair{{Name: "p0", Version: 1}, {Name: "p1", Version: 2}, {Name: "x", Version: 1}}); fmt.Sprint(unknown) != "[p1 x]" {
			t.Errorf("unknown: %v", unknown)
		}
		time.Sleep(2 * time.Second) // 11 s
		if n := count(); n != 3 {
			t.Errorf("%d services, want all", n)
		}
		time.Sleep(8*time.Second + time.Millisecond) // 19 s: p0 expires
		if n := count(); n != 2 {
			t.Errorf("%d services, want 2", n)
		}
		time.Sleep(time.Second) // 20 s: p1 expires
		if n := count(); n != 1 || s.stats.expired.Load() != 2 {
			t.Errorf("%d services, want 1", n)
		}
		// An owner's certificate is renewed: the same bytes come with another chain, and live on.
		if err := putBody(t, s, "p2", 1, "<a/>", 20*time.Second); err != nil {
			t.Error(err)
		}
		time.Sleep(15 * time.Second)
		if n := count(); n != 1 {
			t.Errorf("%d services, want 1", n)
		}
		time.Sleep(time.Hour)
		if n := count(); n != 0 || len(s.expiry) != 0 || len(s.owned) != 0 || doorways(s.snapshot.Load()) != 0 {
			t.Errorf("left behind: %d services, %d deadlines, %d owners", n, len(s.expiry), len(s.owned))
		}
	})
}

func TestVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := newStoreFor(t, Config{})
		defer stop()
		steps := []struct {
			version     uint64
			description string
			want        announce.Reason
		}{{5, "<a/>", ""}, {5, "<a/>", ""}, {5, "<b/>", announce.ReasonReplay}, {4, "<a/>", announce.ReasonReplay}, {6, "<b/>", ""}, {5, "<a/>", announce.ReasonReplay}}
		for i, x := range steps {
			if err := putBody(t, s, "p", x.version, x.description, 0); reason(err) != x.want {
				t.Errorf("step %d: %v, want %q", i, err, x.want)
			}
		}
		s.withdraw(anOwner, "p", 5) // older than what is held
		if err := putBody(t, s, "p", 6, "<b/>", 0); err != nil {
			t.Error(err)
		}
		for range 3 { // withdrawn and back: one deadline each
			s.withdraw(anOwner, "p", 6)
			if err := putBody(t, s, "p", 6, "<b/>", 0); reason(err) != announce.ReasonReplay {
				t.Errorf("a withdrawn version: %v", err)
			}
		}
		time.Sleep(tombstoneLife + 2*time.Second)
		if err := putBody(t, s, "p", 6, "<b/>", 0); err != nil || len(s.gone) != 0 {
			t.Errorf("long after the withdrawal: %v, %d tombstones", err, len(s.gone))
		}
	})
}

func TestStoppedStoreRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := newStoreFor(t, Config{})
		stop()
		synctest.Wait()
		if err := putBody(t, s, "p", 1, "<a/>", 0); reason(err) != announce.ReasonFull {
			t.Error(err)
		}
	})
}

// doorways is how many there are through whom something may be seen.
func doorways(s *snapshot) (n int) {
	s.doors.each(func(doorway) { n++ })
	return n
}

// TestDoors: what each may see, over many generations, as a map would say it; older generations stay as they are.
func TestDoors(t *testing.T) {
	const seed = 9
	random := rand.New(rand.NewPCG(seed, seed))
	full := new(index.Class)
	e := full.Edit()
	e.Add(&index.Doc{Tree: parsed(t, "<a/>")})
	full = e.Done()
	type snapshot struct {
		doors doors
		model map[string]bool
	}
	now := snapshot{newDoors(), map[string]bool{}}
	var all []snapshot
	for range 100 {
		all = append(all, now)
		next, model := now.doors.edit(), maps.Clone(now.model)
		for range random.IntN(60) {
			who, key := fmt.Sprint("w", random.IntN(300)), fmt.Sprint("k", random.IntN(4))
			c := full
			if random.IntN(3) == 0 {
				c = new(index.Class)
			}
			next.set(capability.Who(who), door{key: key, index: c})
			if delete(model, who+key); c == full {
				model[who+key] = true
			}
		}
		now = snapshot{next.next, model}
	}
	for i, s := range all {
		n := 0
		s.doors.each(func(w doorway) {
			w.classes.Scan(func(d door) bool {
				if n++; !s.model[string(w.who)+d.key] || s.doors.of(w.who) != w.classes {
					t.Errorf("generation %d: %s%s is there", i, w.who, d.key)
				}
				return true
			})
		})
		if n != len(s.model) {
			t.Errorf("generation %d: %d doors, want %d", i, n, len(s.model))
		}
	}
}

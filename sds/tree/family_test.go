package tree

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"ninja/ca"
	"ninja/sds/announce"
)

// town makes owners of some kinds with services.
func town(r *rand.Rand, owners int, kinds ...string) map[ca.ID]int {
	out := make(map[ca.ID]int)
	for i := range owners {
		out[ca.ID(fmt.Sprintf("spiffe://test/%s/o%d", kinds[r.IntN(len(kinds))], i))] = 1 + r.IntN(9)
	}
	return out
}

// best counts who in the family are most specific for an owner, and says who the first of them is.
func best(f family, owner ca.ID) (at, ties int) {
	most := -1
	for i, e := range f {
		switch specific, ok := e.CoversOwner(owner); {
		case ok && specific > most:
			at, ties, most = i, 1, specific
		case ok && specific == most:
			ties++
		}
	}
	return at, ties
}

// TestEveryOwnerHasOneServer: however often and in whatever order the parts of a family are split, by kinds or by owners,
// every owner, also one that nobody knew of, has exactly one best server; a split moves owners of one server to the new
// one, some but not all, and nobody else; and when servers are taken back, the youngest first, all are where they were.
func TestEveryOwnerHasOneServer(t *testing.T) {
	kinds := []string{"unit", "base", "user", "proxy", "apc"}
	splits, byOwners := 0, 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		root := announce.Extent{}
		some := kinds[:1+r.IntN(len(kinds))]
		if r.IntN(3) == 0 {
			root.Kinds = some
		}
		if r.IntN(3) == 0 {
			root.Owners = root.Owners.Half(r.IntN(2) == 0)
		}
		known, others := town(r, 2+r.IntN(200), some...), town(r, 300, kinds...)
		f := family{root}
		for range 8 {
			at := r.IntN(len(f))
			part, ok := f.split(at, known)
			if !ok {
				continue
			}
			splits++
			if part.Owners != f[at].Owners {
				byOwners++
			}
			before := f
			f = append(slices.Clip(f), part)
			moved, stayed := 0, 0
			for owner := range known {
				was, now := before.of(owner), f.of(owner)
				switch {
				case now == was && was == at:
					stayed++
				case now == len(f)-1 && was == at:
					moved++
				case now != was:
					t.Fatalf("seed %d: %v moves from %d to %d when %d of %v is split into %v", seed, owner, was, now, at, before, part)
				}
			}
			if moved == 0 || stayed == 0 {
				t.Fatalf("seed %d: %v splits off %v of %d: %d move and %d stay", seed, before, part, at, moved, stayed)
			}
			for owner := range others {
				was, now := before.of(owner), f.of(owner)
				if _, ties := best(f, owner); ties > 1 || now != was && (was != at || now != len(f)-1) {
					t.Fatalf("seed %d: %v has %d best servers of %v, was with %d, is with %d", seed, owner, ties, f, was, now)
				}
			}
			if r.IntN(4) == 0 {
				f = before // taken back
			}
		}
	}
	if byOwners < 100 || splits-byOwners < 100 {
		t.Errorf("%d splits, %d of them by owners: the test tests little", splits, byOwners)
	}
}

// TestSplitsAreHalves: by kind where that is well, else by owners; half of the services as near as the owners allow.
func TestSplitsAreHalves(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	all := family{announce.Extent{}}
	for _, c := range []struct {
		services  map[ca.ID]int
		byKind    bool
		ok        bool
		least, of int // share of what moves
	}{
		{town(r, 400, "unit"), false, true, 2, 5},
		{town(r, 400, "unit", "base"), true, true, 2, 5},
		{town(r, 400, "unit", "unit", "unit", "unit", "unit", "unit", "unit", "base"), false, true, 2, 5},
		{map[ca.ID]int{"spiffe://test/unit/one": 5}, false, false, 0, 1},
		{map[ca.ID]int{"spiffe://test/unit/one": 900, "spiffe://test/unit/two": 1}, false, true, 0, 1},
		{map[ca.ID]int{"spiffe://test/unit/one": 900, "spiffe://test/base/two": 1}, false, true, 0, 1},
		{nil, false, false, 0, 1},
	} {
		part, ok := all.split(0, c.services)
		sum, moved := 0, 0
		for owner, n := range c.services {
			sum += n
			if append(all[:1:1], part).of(owner) == 1 {
				moved += n
			}
		}
		if ok != c.ok || c.ok && len(part.Kinds) > 0 != c.byKind || min(moved, sum-moved)*c.of < sum*c.least {
			t.Errorf("of %d owners the part %v of %d of %d, %v", len(c.services), part, moved, sum, ok)
		}
	}
	// Seven splits of what is all of one kind, each of the fullest, make eight parts, none more than four times another.
	services, f := town(r, 800, "unit"), all
	loads := func() []int {
		out := make([]int, len(f))
		for owner, n := range services {
			out[f.of(owner)] += n
		}
		return out
	}
	for range 7 {
		l := loads()
		part, ok := f.split(slices.Index(l, slices.Max(l)), services)
		if !ok || len(part.Kinds) > 0 {
			t.Fatalf("%v splits off %v, %v", f, part, ok)
		}
		f = append(f, part)
	}
	if l := loads(); slices.Max(l) > 4*slices.Min(l) {
		t.Errorf("the parts have %v", l)
	}
}

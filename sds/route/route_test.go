package route

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"ninja/ca"
	"ninja/sds/index"
	"ninja/sds/summary"
)

func id(i int) ca.ID { return ca.ID(fmt.Sprintf("spiffe://d%d/sds/s%d", i%2, i)) }

// table claims one value.
func table(t *testing.T, value string) *summary.Table {
	facts := summary.Make([]index.Fact{{Tag: "@v", Kind: index.Text, Text: value}})
	var c summary.Counting
	summary.Plan{}.Terms(facts, c.Add)
	n, sum := c.Len(), c.Check()
	out, err := new(summary.Table).Apply(&summary.Message{Sequence: 1, Terms: n, Check: sum, Added: c.Set()})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func question(value string) *summary.Question {
	return summary.Ask(index.Need{Kind: index.Text, Tag: "@v", Text: value})
}

// TestEachServerIsAskedOnce: over random trees and starting points, a question whose terms are everywhere reaches every
// server exactly once, and one that matches in one place reaches that place.
func TestEachServerIsAskedOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	everywhere := table(t, "x")
	for range 200 {
		n := 2 + r.IntN(30)
		parent := make([]int, n)
		for i := 1; i < n; i++ {
			parent[i] = r.IntN(i)
		}
		near := func(i int) (out []Branch, at []int) {
			for j := range n {
				switch {
				case j > 0 && parent[j] == i:
					out = append(out, Branch{ID: id(j), Hierarchy: "h", Alive: true, Table: everywhere})
				case i > 0 && parent[i] == j:
					out = append(out, Branch{ID: id(j), Hierarchy: "h", Alive: true, Up: true})
				default:
					continue
				}
				at = append(at, j)
			}
			return out, at
		}
		asked := make([]int, n)
		var visit func(i int, a Arrival)
		visit = func(i int, a Arrival) {
			branches, at := near(i)
			d := Decide(id(i), branches, a)
			if d.Search {
				asked[i]++
			}
			for _, s := range d.Steps {
				b := branches[s.Branch]
				visit(at[s.Branch], Arrival{Question: a.Question, Scope: a.Scope, From: id(i), FromUp: !b.Up, Hierarchy: b.Hierarchy, Domain: a.Domain, Hops: s.Hops, Left: s.Left})
			}
		}
		start := r.IntN(n)
		visit(start, Arrival{Question: question("x"), Scope: All, Hops: 40, Left: time.Minute, Domain: id(start).Domain()})
		for i, c := range asked {
			if c != 1 {
				t.Fatalf("server %d of %d was asked %d times from %d (parents %v)", i, n, c, start, parent)
			}
		}
	}
}

func TestBranchesThatAreNotAsked(t *testing.T) {
	branches := []Branch{
		{ID: id(2), Hierarchy: "h", Alive: true, Table: table(t, "y")},
		{ID: id(4), Hierarchy: "h", Table: table(t, "x")},
		{ID: id(3), Hierarchy: "h", Alive: true, Table: table(t, "x")},
		{ID: id(6), Hierarchy: "h", Alive: true, Table: table(t, "x"), Barred: true},
		{ID: id(8), Hierarchy: "h", Alive: true, Table: table(t, "y"), Stale: true, Age: time.Hour},
		{ID: id(10), Hierarchy: "h", Alive: true, Table: table(t, "x")},
		{ID: id(12), Hierarchy: "h", Alive: true, Table: table(t, "x")},
		{ID: id(14), Hierarchy: "other", Alive: true, Table: table(t, "x")},
		{ID: id(0), Hierarchy: "h", Alive: true, Up: true},
	}
	a := Arrival{Question: question("x"), Scope: Domain, Hierarchy: "h", Domain: "d0", Hops: 3, Left: time.Second, Fanout: 3, From: id(10), Want: First}
	d := Decide(id(20), branches, a)
	var got []string
	for _, o := range d.Outcomes {
		got = append(got, fmt.Sprint(o.Server.Name(), " ", o.Status))
	}
	if want := []string{"s2 pruned", "s4 unreachable", "s3 outside", "s6 flagged"}; !slices.Equal(got, want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}
	if len(d.Steps) != 3 || d.Steps[0].Branch != 4 || d.Steps[1].Branch != 6 || d.Steps[2].Branch != 8 || d.Steps[2].Phase != 1 {
		t.Errorf("steps %+v: want the stale one, s12, and the parent last", d.Steps)
	}
	if d.Steps[0].Left >= a.Left || d.Steps[0].Hops != 2 {
		t.Errorf("step %+v: a branch gets less time than there is, and a hop less", d.Steps[0])
	}
	if Complete(d.Outcomes) {
		t.Error("an answer with an unreachable branch is complete")
	}
	a.FromUp, a.Hops = true, 0
	for _, o := range Decide(id(20), branches, a).Outcomes {
		if o.Up {
			t.Error("what comes from the parent goes back up")
		}
		if o.Server == id(12) && o.Status != Bounded {
			t.Errorf("without hops left s12 is %v", o.Status)
		}
	}
}

// TestBestIsBestOverAll: whatever the order in which branches answer, the best of all are told, each once and newest.
func TestBestIsBestOverAll(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 40 {
		g := NewGather(Best, 10, true)
		newest := map[string]Match{}
		for range 3000 {
			m := Match{ID: fmt.Sprint(r.IntN(1500)), Version: uint64(r.IntN(3))}
			m.Place.Value = float64((len(m.ID)*7 + int(m.ID[0])*13 + int(m.ID[len(m.ID)-1])) % 101)
			g.Add(m)
			if have, ok := newest[m.ID]; !ok || have.Version < m.Version {
				newest[m.ID] = m
			}
		}
		all := &Gather{want: Best, limit: 1 << 30, descending: true, by: newest}
		for i, m := range g.Result() {
			if want := all.order()[i]; m.Place != want.Place {
				t.Fatalf("place %d: %+v, want %+v", i, m, want)
			}
		}
	}
}

func TestFirstIsEnough(t *testing.T) {
	g := NewGather(First, 2, false)
	if !g.Add(Match{ID: "a", Version: 1}) || g.Add(Match{ID: "a", Version: 1}) || g.Enough() || !g.Add(Match{ID: "b"}) || !g.Enough() || g.Add(Match{ID: "c"}) {
		t.Error("two of three are wanted, each once")
	}
}

func TestCycles(t *testing.T) {
	line := []ca.ID{id(1), id(2)}
	if !Cycle(id(2), id(5), line) || !Cycle(id(5), id(5), nil) || Cycle(id(3), id(5), line) {
		t.Error("who is among the ancestors, or is the parent, may not join; others may")
	}
}

package summary

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"ninja/sds/index"
)

// drawn are terms that spread as fingerprints do, or all lie close to one another, as only a liar's do.
func drawn(r *rand.Rand, spread bool) Term {
	if spread {
		return Term(r.Uint64() & termMask)
	}
	return Term(1<<39 + r.IntN(20_000))
}

// TestSetsAreSets: through growth, change and decline a set has what a map has, in order, and what it was made from stays
// as it was; nothing is added twice, and nothing removed that is not there.
func TestSetsAreSets(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, spread := range []bool{true, false} {
		var s set
		model := map[Term]bool{}
		for step := range 120 {
			var added, removed []Term
			come, gone := r.IntN(400), r.IntN(100)
			if step > 70 {
				come, gone = r.IntN(20), r.IntN(800)
			}
			for range come {
				if x := drawn(r, spread); !model[x] {
					added = append(added, x)
				}
			}
			for x := range model {
				if len(removed) == gone {
					break
				}
				removed = append(removed, x)
			}
			slices.Sort(added)
			added = slices.Compact(added)
			slices.Sort(removed)
			before, was := s, slices.Collect(s.all())
			next, ok := s.with(added, removed)
			if !ok {
				t.Fatalf("step %d: %d added and %d removed are refused", step, len(added), len(removed))
			}
			for _, x := range added {
				model[x] = true
			}
			for _, x := range removed {
				delete(model, x)
			}
			if got := slices.Collect(next.all()); !slices.Equal(got, slices.Sorted(maps.Keys(model))) || next.n != len(model) {
				t.Fatalf("step %d: %d terms, want %d", step, next.n, len(model))
			}
			if !slices.Equal(slices.Collect(before.all()), was) {
				t.Fatalf("step %d: the set before has changed", step)
			}
			for x := range model {
				if !next.has(x) {
					t.Fatalf("step %d: %d is not there", step, x)
				}
				if y := x + Term(r.IntN(3)) - 1; next.has(y) != model[y] {
					t.Fatalf("step %d: %d is there: %v", step, y, next.has(y))
				}
				if _, ok := next.with([]Term{x}, nil); ok {
					t.Fatalf("step %d: %d was added twice", step, x)
				}
				break
			}
			if x := drawn(r, spread); !model[x] {
				if _, ok := next.with(nil, []Term{x}); ok || next.has(x) {
					t.Fatalf("step %d: %d was removed and is not there", step, x)
				}
			}
			if held := len(next.buckets); held > 1<<leastSpread && held > next.n {
				t.Fatalf("step %d: %d buckets of %d terms", step, held, next.n)
			}
			s = next
		}
	}
}

// asks is what questions are worked out from, said plainly: each condition, each pair and each triple that the plan tells.
func asks(way []item, p Plan, has func(Term) bool) bool {
	any := func(g ...item) bool {
		terms, _ := group(g).terms()
		return slices.ContainsFunc(terms, has)
	}
	for i, a := range way {
		if !any(a) {
			return false
		}
		for j := i + 1; j < len(way); j++ {
			b := way[j]
			if together(p.Pairs, a, b) && !any(a, b) {
				return false
			}
			for _, c := range way[j+1:] {
				if together(p.Triples, a, b) && together(p.Triples, b, c) && together(p.Triples, a, c) && !any(a, b, c) {
					return false
				}
			}
		}
	}
	return true
}

// TestQuestionsAreWorkedOutRight: what a question asks of a table under a plan is what it asks plainly, whatever plan it
// was worked out for before.
func TestQuestionsAreWorkedOutRight(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 1))
	var tables []*Table
	for range 12 {
		p := plan(r)
		if r.IntN(3) == 0 {
			p = samplePlan()
			p.Triples = p.Triples[:r.IntN(len(p.Triples)+1)]
		}
		var c Counting
		for range 1 + r.IntN(60) {
			p.Terms(sample(r), c.Add)
		}
		n, sum := c.Len(), c.Check()
		table, err := new(Table).Apply(&Message{Sequence: 1, Plan: p, Terms: n, Check: sum, Added: c.Set()})
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, table)
	}
	passed, ruledOut := 0, 0
	for range 3000 {
		q := Ask(index.Need{All: sampleNeeds(r)[:1+r.IntN(4)]})
		for range 4 {
			table := tables[r.IntN(len(tables))]
			want := asks(q.ways[0], table.plan, table.has)
			if got := table.May(q); got != want {
				t.Fatalf("%+v: %v, want %v", q.ways, got, want)
			}
			if want {
				passed++
			} else {
				ruledOut++
			}
		}
	}
	if passed < 500 || ruledOut < 500 {
		t.Errorf("%d passed, %d were ruled out: the test tests little", passed, ruledOut)
	}
}

// TestQuestionsAreBounded: a question of many conditions under a plan that tells all of them together is worked out to no
// more than its bound.
func TestQuestionsAreBounded(t *testing.T) {
	var p Plan
	var all []index.Need
	for i := range MaxTriples {
		tag := string(rune('a' + i))
		p.Triples = append(p.Triples, KeyOf(index.Numeric, tag))
		all = append(all, index.Need{Kind: index.Numeric, Tag: tag, From: 1.001, To: 5})
	}
	slices.Sort(p.Triples)
	p.Pairs = p.Triples
	q := Ask(index.Need{All: all})
	total := 0
	for _, way := range q.under(p).ways {
		for _, l := range way {
			total += len(l.terms)
		}
	}
	if total > workedMost+MaxTriples*2*coverMost || total < workedMost/2 {
		t.Errorf("%d terms are asked for, at most %d", total, workedMost)
	}
}

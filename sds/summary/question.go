package summary

import (
	"cmp"
	"slices"
	"sync/atomic"

	"ninja/sds/index"
)

// Question is what a query needs, in the terms of summaries. It does not change. The zero Question needs nothing: it goes
// everywhere.
type Question struct {
	ways   [][]item // one of them must hold whole; nil needs nothing
	tokens []Term   // of the asker's grants: each is another way to be let through
	last   atomic.Pointer[worked]
}

// item is one condition: at least one of the terms.
type item struct {
	key   Key // 0: of several, so that it cannot be asked together with others
	terms []Term
}

// Bounds of a question. What is beyond them is not asked, so that more is let through.
const (
	waysMost   = 16
	itemsMost  = 24
	combined   = 512  // pairs or triples of alternatives that are tried for two or three conditions
	workedMost = 8192 // such pairs and triples in all
	tokensMost = 256
)

// Ask makes the question of a query, as index.Query.Needs says it, for a holder of tokens.
func Ask(n index.Need, tokens ...Term) *Question {
	q := &Question{tokens: tokens[:min(len(tokens), tokensMost)]}
	if ways, ok := waysOf(n); ok {
		q.ways = ways
	}
	return q
}

// Free reports whether the question goes everywhere.
func (q *Question) Free() bool { return len(q.ways) == 0 }

// Tokens are those that the asker presents.
func (q *Question) Tokens() []Term { return q.tokens }

// waysOf brings a need into the form "one of several lists of conditions"; ok is false when it needs nothing.
func waysOf(n index.Need) (ways [][]item, ok bool) {
	switch {
	case n.Free:
		return nil, false
	case n.All != nil:
		ways = [][]item{nil}
		for _, m := range n.All {
			other, some := waysOf(m)
			if !some || len(ways)*len(other) > waysMost {
				continue
			}
			ways = cross(ways, other)
		}
		return ways, len(ways[0]) > 0
	case n.Any != nil:
		if it, simple := alternatives(n.Any); simple {
			return [][]item{{it}}, true
		}
		for _, m := range n.Any {
			other, some := waysOf(m)
			if !some || len(ways)+len(other) > waysMost {
				return nil, false
			}
			ways = append(ways, other...)
		}
		return ways, true
	}
	it, _ := alternatives([]index.Need{n})
	return [][]item{{it}}, true
}

func cross(a, b [][]item) (out [][]item) {
	for _, x := range a {
		for _, y := range b {
			both := append(slices.Clip(slices.Clone(x)), y...)
			out = append(out, both[:min(len(both), itemsMost)])
		}
	}
	return out
}

// alternatives makes one condition of several simple needs; simple is false when one of them is not.
func alternatives(needs []index.Need) (it item, simple bool) {
	branches := 0
	for _, n := range needs {
		if n.Free || n.All != nil || n.Any != nil {
			return item{}, false
		}
		if n.Kind == index.Branch {
			branches++
			continue
		}
		k := KeyOf(n.Kind, n.Tag)
		if it.key != k && len(it.terms) > 0 {
			k = 0
		}
		it.key = k
		it.terms = append(it.terms, wanted(n)...)
	}
	if branches == 0 {
		return it, true
	}
	// A branch is told under the keys of values and of numbers alike: ask under the one that is asked for anyway.
	for _, n := range needs {
		if n.Kind == index.Branch {
			k := it.key
			if k != KeyOf(index.Text, n.Tag) && k != KeyOf(index.Numeric, n.Tag) {
				k = KeyOf(index.Text, n.Tag)
				it.key = 0
				if len(it.terms) == 0 {
					it.key = k
				}
			}
			it.terms = append(it.terms, k.branch())
		}
	}
	slices.Sort(it.terms)
	it.terms = slices.Compact(it.terms)
	return it, true
}

// wanted are the terms of a simple need that is no branch.
func wanted(n index.Need) []Term {
	k := KeyOf(n.Kind, n.Tag)
	switch n.Kind {
	case index.Present:
		return []Term{k.present()}
	case index.Numeric:
		return k.cover(n.From, n.To)
	}
	return []Term{k.text(n.Text)}
}

// may reports whether what a child told can meet the question.
func (q *Question) may(t *Table) bool {
	if len(q.tokens) > 0 && slices.ContainsFunc(q.tokens, t.has) {
		return true
	}
	if len(q.ways) == 0 {
		return true
	}
	for _, way := range q.under(t.plan).ways {
		if t.meets(way) {
			return true
		}
	}
	return false
}

func (t *Table) meets(way []list) bool {
	var implied uint64
	for i, l := range way {
		if implied>>i&1 == 1 {
			continue
		}
		at := slices.IndexFunc(l.terms, t.set.has)
		if at < 0 {
			return false
		}
		if at < l.plain {
			implied |= l.implies
		}
	}
	return true
}

// worked is a question under a plan: of one of the ways, of each list of terms one must be there. Children of one parent
// have mostly one plan, so that what is asked of the first is asked of them all.
type worked struct {
	plan Plan
	ways [][]list
}

// list is what one group of conditions asks for. Who has one of the first plain terms, which are those without a wild
// card, meets the group's parts too: lists of the same way, one bit each, that need not be asked.
type list struct {
	terms   []Term
	plain   int
	implies uint64
}

// under works the question out for a plan, or finds it done.
func (q *Question) under(plan Plan) *worked {
	if w := q.last.Load(); w != nil && w.plan.Same(plan) {
		return w
	}
	w := &worked{plan: plan}
	for _, way := range q.ways {
		w.ways = append(w.ways, plan.lists(way, workedMost/len(q.ways)))
	}
	q.last.Store(w)
	return w
}

// lists are what conditions ask for under a plan: those that are told together in triples and pairs, and each alone.
// What the fewest services meet comes first, so that a branch is mostly ruled out by terms that are absent: a filter says
// so at once, while what is there is looked up. Up to most terms are asked for together, and no more.
func (p Plan) lists(way []item, most int) (out []list) {
	var asked []group
	for _, some := range p.groups(way) {
		if n := some.looks(); len(some) == 1 || n <= combined && n <= most {
			if len(some) > 1 {
				most -= n
			}
			asked = append(asked, some)
		}
	}
	for _, some := range asked {
		l := list{}
		l.terms, l.plain = some.terms()
		for i, other := range asked[:min(len(asked), 64)] {
			if len(other) < len(some) && some.has(other) {
				l.implies |= 1 << i
			}
		}
		out = append(out, l)
	}
	return out
}

// group is one condition, or two or three that are told together.
type group []item

// has reports whether all conditions of another group are among these.
func (g group) has(o group) bool {
	for _, it := range o {
		if !slices.ContainsFunc(g, func(mine item) bool { return mine.key == it.key && slices.Equal(mine.terms, it.terms) }) {
			return false
		}
	}
	return true
}

// groups are those of a way, as lists orders them.
func (p Plan) groups(way []item) (out []group) {
	for i, a := range way {
		for j := i + 1; j < len(way); j++ {
			b := way[j]
			for _, c := range way[j+1:] {
				if together(p.Triples, a, b) && together(p.Triples, a, c) && together(p.Triples, b, c) {
					out = append(out, group{a, b, c})
				}
			}
			if together(p.Pairs, a, b) {
				out = append(out, group{a, b})
			}
		}
	}
	for _, it := range way {
		out = append(out, group{it})
	}
	slices.SortStableFunc(out, func(a, b group) int { return cmp.Or(len(b)-len(a), a.looks()-b.looks()) })
	return out
}

// together reports whether two conditions are told together: under different keys that both stand in the plan.
func together(keys []Key, a, b item) bool {
	return a.key != b.key && has(keys, a.key) && has(keys, b.key)
}

// looks is how many terms there are of the group: a wild card is another alternative of what is told together.
func (g group) looks() int {
	if len(g) == 1 {
		return len(g[0].terms)
	}
	n := 1
	for _, it := range g {
		n *= len(it.terms) + 1
	}
	return n
}

// terms are the alternatives that meet the group; the first plain of them are without wild cards, which are rare.
func (g group) terms() (out []Term, plain int) {
	if len(g) == 1 {
		return g[0].terms, len(g[0].terms)
	}
	out = make([]Term, 0, g.looks())
	var wild []Term
	put := func(t Term, any bool) {
		if any {
			wild = append(wild, t)
		} else {
			out = append(out, t)
		}
	}
	a, b := g[0], g[1]
	for i, x := range a.orWild() {
		for j, y := range b.orWild() {
			any := i == len(a.terms) || j == len(b.terms)
			if len(g) == 2 {
				put(pair(x, y), any)
				continue
			}
			for k, z := range g[2].orWild() {
				put(triple(x, y, z), any || k == len(g[2].terms))
			}
		}
	}
	return append(out, wild...), len(out)
}

// orWild are the condition's terms and the wild card of its key.
func (it item) orWild() []Term {
	return append(it.terms[:len(it.terms):len(it.terms)], it.key.wild())
}

// Keys calls f with the keys of each way's conditions.
func (q *Question) Keys(f func(way []Key)) {
	for _, way := range q.ways {
		var keys []Key
		for _, it := range way {
			if it.key != 0 && !slices.Contains(keys, it.key) {
				keys = append(keys, it.key)
			}
		}
		f(keys)
	}
}

// With is the question of a holder of tokens.
func (q *Question) With(tokens []Term) *Question {
	return &Question{ways: q.ways, tokens: tokens[:min(len(tokens), tokensMost)]}
}

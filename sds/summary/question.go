package summary

import (
	"slices"

	"ninja/sds/index"
)

// Question is what a query needs, in the terms of summaries. It is immutable. The zero Question needs nothing: it goes
// everywhere.
type Question struct {
	ways   [][]item // one of them must hold whole; nil needs nothing
	tokens []Term   // of the asker's grants: each is another way to be let through
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
	combined   = 512 // pairs or triples of alternatives that are tried for two or three conditions
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

// asked is what can be asked whether it has a term.
type asked interface{ has(Term) bool }

// may reports whether something that told its terms under the plan can meet the question.
func (q *Question) may(plan Plan, t asked) bool {
	for _, token := range q.tokens {
		if t.has(token) {
			return true
		}
	}
	if len(q.ways) == 0 {
		return true
	}
	return slices.ContainsFunc(q.ways, func(way []item) bool { return meets(way, plan, t) })
}

// meets asks single conditions first, then those that are told together.
func meets(way []item, plan Plan, t asked) bool {
	for _, it := range way {
		if !slices.ContainsFunc(it.terms, t.has) {
			return false
		}
	}
	for i := range way {
		for j := i + 1; j < len(way); j++ {
			if !together(plan.Pairs, way[i], way[j]) {
				continue
			}
			if !anyPair(way[i], way[j], t) {
				return false
			}
		}
	}
	for i := range way {
		for j := i + 1; j < len(way); j++ {
			if !together(plan.Triples, way[i], way[j]) {
				continue
			}
			for l := j + 1; l < len(way); l++ {
				if together(plan.Triples, way[i], way[l]) && together(plan.Triples, way[j], way[l]) && !anyTriple(way[i], way[j], way[l], t) {
					return false
				}
			}
		}
	}
	return true
}

// together reports whether two conditions are told together: under different keys that both stand in the plan.
func together(keys []Key, a, b item) bool {
	return a.key != b.key && has(keys, a.key) && has(keys, b.key)
}

func anyPair(a, b item, t asked) bool {
	as, bs := a.orWild(), b.orWild()
	if len(as)*len(bs) > combined {
		return true
	}
	for _, x := range as {
		for _, y := range bs {
			if t.has(pair(x, y)) {
				return true
			}
		}
	}
	return false
}

func anyTriple(a, b, c item, t asked) bool {
	as, bs, cs := a.orWild(), b.orWild(), c.orWild()
	if len(as)*len(bs)*len(cs) > combined {
		return true
	}
	for _, x := range as {
		for _, y := range bs {
			for _, z := range cs {
				if t.has(triple(x, y, z)) {
					return true
				}
			}
		}
	}
	return false
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

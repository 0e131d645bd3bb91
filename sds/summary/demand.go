package summary

import (
	"cmp"
	"slices"
)

// Demand is what queries ask for, lately: how often each key, alone or together with others. The zero Demand is empty.
// It belongs to one goroutine.
type Demand struct{ weight map[Key]Wish }

// Wish is how much a key is asked for: alone or not, together with another, and with two others.
type Wish struct {
	Key           Key
	Pairs, Triple float64
}

// demandMost bounds the keys that are remembered; WishesMost those that travel.
const (
	demandMost = 512
	WishesMost = 48
)

// Note counts a question.
func (d *Demand) Note(q *Question) {
	if d.weight == nil {
		d.weight = make(map[Key]Wish)
	}
	q.Keys(func(way []Key) {
		if len(way) < 2 {
			return
		}
		for _, k := range way {
			w := d.weight[k]
			w.Key = k
			if w.Pairs++; len(way) > 2 {
				w.Triple++
			}
			d.weight[k] = w
		}
	})
	if len(d.weight) > demandMost {
		d.Fade(0.5)
	}
}

// Add counts what others have counted.
func (d *Demand) Add(wishes []Wish) {
	if d.weight == nil {
		d.weight = make(map[Key]Wish)
	}
	for _, w := range wishes[:min(len(wishes), WishesMost)] {
		if !(w.Pairs >= 0 && w.Pairs < 1e12 && w.Triple >= 0 && w.Triple < 1e12) {
			continue
		}
		have := d.weight[w.Key]
		d.weight[w.Key] = Wish{w.Key, have.Pairs + w.Pairs, have.Triple + w.Triple}
	}
}

// Fade weakens what was counted: a half-life is Fade(0.5).
func (d *Demand) Fade(by float64) {
	for k, w := range d.weight {
		if w.Pairs, w.Triple = w.Pairs*by, w.Triple*by; w.Pairs < 0.01 {
			delete(d.weight, k)
			continue
		}
		d.weight[k] = w
	}
}

// Top are the keys that are asked for most.
func (d *Demand) Top(n int) []Wish {
	out := make([]Wish, 0, len(d.weight))
	for _, w := range d.weight {
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b Wish) int {
		return cmp.Or(cmp.Compare(b.Pairs, a.Pairs), cmp.Compare(a.Key, b.Key))
	})
	return out[:min(n, len(out))]
}

// Planner makes the plan of a hierarchy at its root.
type Planner struct {
	// Wanted is the share of forwarded queries that may find nothing; 0 is 0.05.
	Wanted float64
	plan   Plan
	deep   bool
}

// least is the share of the demand below which a key is not worth telling in pairs; it stays until half of that, so
// that the plan does not swing.
const least = 0.01

// Next is the plan for the demand, given the share of forwards that found nothing. The second result says whether it is
// another plan than before.
func (p *Planner) Next(d *Demand, useless float64) (Plan, bool) {
	wanted := cmp.Or(p.Wanted, 0.05)
	all := d.Top(demandMost)
	var total, triples float64
	for _, w := range all {
		total, triples = total+w.Pairs, triples+w.Triple
	}
	// Pairs of what is asked for suffice until the branches are so full that every pair is somewhere in each.
	p.deep = triples > 0 && (p.deep || useless > wanted)
	next := Plan{Epoch: p.plan.Epoch + 1}
	for _, w := range all {
		bar := least
		if has(p.plan.Pairs, w.Key) {
			bar /= 2
		}
		if w.Pairs < bar*total {
			continue
		}
		if len(next.Pairs) < MaxPairs {
			next.Pairs = append(next.Pairs, w.Key)
		}
		if p.deep && len(next.Triples) < MaxTriples && w.Triple >= bar*triples {
			next.Triples = append(next.Triples, w.Key)
		}
	}
	slices.Sort(next.Pairs)
	slices.Sort(next.Triples)
	if next.Same(p.plan) {
		return p.plan, false
	}
	p.plan = next
	return next, true
}

// Plan is the plan that holds.
func (p *Planner) Plan() Plan { return p.plan }

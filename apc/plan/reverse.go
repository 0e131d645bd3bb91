package plan

import (
	"math"
	"slices"
)

// Beside values, the abstract states of a shape are three: absEvery is what holds whatever the meaning, if there is one,
// absSome the least over all meanings, absFree what holds while the meaning is free.
const (
	absEvery = aboutNone
	absSome  = aboutAny
	absFree  = aboutFree
)

// reverser is Dijkstra's algorithm from the last operator back over abstract types and progress.
type reverser struct {
	metric int
	least  []float64 // by signature: the least of its operators
	dist   absTable
	heap   absHeap
	// Once they are there, states are left out through which no path comes to less than limit.
	past  *forward
	fence *absTable // likewise those that are not in it
	limit float64
	// While it grows towards a forward search, the least at which the two have met.
	other *forward
	met   float64
	// live are the shapes from which a way to the end is known.
	live []bool
}

func (p *problem) reverse(metric int) *reverser {
	r := &reverser{metric: metric, least: p.leastBySig(metric), dist: newAbsTable(p), limit: math.Inf(1), met: math.Inf(1), live: make([]bool, len(p.t.shapes)), fence: p.fence}
	r.into(&p.t.abs[p.c.sig[p.to]], absEvery, p.need, p.opLeast(int32(p.to), metric)+p.bounds.any[metric])
	return r
}

// leastBySig is the least that a step with an operator of each signature adds to a metric, with the hop to it.
func (p *problem) leastBySig(metric int) []float64 {
	least := make([]float64, len(p.c.sigs))
	for s, ops := range p.t.opsOf {
		least[s] = math.Inf(1)
		for _, op := range ops {
			least[s] = min(least[s], p.opLeast(op, metric)+p.bounds.any[metric])
		}
	}
	return least
}

// exact is the least found yet.
func (r *reverser) exact(shape, about int32, mask uint32) float64 {
	return r.dist.least(shape, about, mask)
}

// grow takes the nearest state and goes back from it over each operator that may have made it.
func (p *problem) grow(r *reverser) {
	x := r.heap.pop()
	if x.dist > r.dist.get(x.shape, x.about, x.mask) || r.beyond(x) {
		return
	}
	for _, s := range p.t.byOut[x.shape] {
		if a := &p.t.abs[s]; a.leadsTo(x.about) {
			r.into(a, x.about, x.mask, x.dist+r.least[s])
		}
	}
	p.backOver(r, x, r.metric)
}

// leadsTo reports whether a signature's output may be in an abstract state.
func (a *absSig) leadsTo(about int32) bool {
	switch a.outAbout {
	case aboutSame, aboutUnknown:
		return true
	case aboutFree:
		return about == absFree
	case aboutAny:
		return about != absFree
	}
	return about == absEvery || about == a.outAbout
}

// backOver goes back over operators that stand for a requirement, which takes progress away.
func (p *problem) backOver(r *reverser, x absState, metric int) {
	if x.mask == 0 {
		return
	}
	for op, meets := range p.meets {
		a := &p.t.abs[p.c.sig[op]]
		if a.out != x.shape || !a.leadsTo(x.about) {
			continue
		}
		for i := range p.after {
			bit := uint32(1) << i
			if meets&bit != 0 && x.mask&bit != 0 && p.after[i]&^x.mask == 0 {
				r.into(a, x.about, x.mask&^bit, x.dist+p.opLeast(op, metric)+p.bounds.any[metric])
			}
		}
	}
}

// into relaxes the states from which an operator can be taken into a state of the meaning about.
func (r *reverser) into(a *absSig, about int32, mask uint32, dist float64) {
	if math.IsInf(dist, 1) {
		return
	}
	same := a.outAbout == aboutSame
	for _, in := range a.ins {
		switch {
		case same && about == absFree:
			if a.stays {
				r.relax(in, absFree, mask, dist)
			}
			continue
		case same && about >= 0:
			if a.wants == nil || slices.Contains(a.wants, about) {
				r.relax(in, about, mask, dist)
			}
		case a.wants == nil:
			r.relax(in, absEvery, mask, dist)
		default:
			for _, v := range a.wants {
				r.relax(in, v, mask, dist)
			}
		}
		if same && a.decides || !same && a.takes {
			r.relax(in, absFree, mask, dist)
		}
	}
}

func (r *reverser) relax(shape, about int32, mask uint32, dist float64) {
	x := absState{dist, shape, about, mask}
	if r.dist.get(shape, about, mask) <= dist || r.beyond(x) {
		return
	}
	r.dist.lower(shape, about, mask, dist)
	if r.other != nil {
		r.met = min(r.met, dist+r.other.settled(shape, about, mask))
	}
	r.live[shape] = true
	if about != absFree {
		r.dist.lower(shape, absSome, mask, dist)
	}
	r.heap.push(x)
}

// beyond reports whether no path through a state comes to less than the limit.
func (r *reverser) beyond(x absState) bool {
	if r.fence != nil && math.IsInf(r.fence.get(x.shape, x.about, x.mask), 1) {
		return true
	}
	return r.past != nil && x.dist+r.past.floor(x.shape, x.about, x.mask) > r.limit
}

package plan

import (
	"maps"
	"math"
	"slices"
)

// forward is Dijkstra's algorithm from the source on over abstract types and progress: the least that the operators of a
// chain take by the time it comes to a state. Where it and the way back from the end together come to more than a plan may
// cost, neither has to look.
type forward struct {
	metric int
	least  []float64 // by signature
	dist   absTable
	floors absTable // the same for the states of a reverser, once they are settled
	heap   absHeap
	fence  *absTable // states that it may go to; nil for all
}

func (p *problem) ahead(r *reverser, shape, about int32) *forward {
	f := &forward{metric: r.metric, least: r.least, dist: newAbsTable(p), floors: newAbsTable(p), fence: p.fence}
	f.relax(shape, about, 0, 0)
	return f
}

func (f *forward) relax(shape, about int32, mask uint32, dist float64) {
	if math.IsInf(dist, 1) || f.fence != nil && math.IsInf(f.fence.least(shape, about, mask), 1) {
		return
	}
	if f.dist.lower(shape, about, mask, dist) {
		f.heap.push(absState{dist, shape, about, mask})
	}
}

// floor is the least at which a chain may come to a state of a reverser, as far as it is known.
func (f *forward) floor(shape, about int32, mask uint32) float64 {
	return min(f.settled(shape, about, mask), f.heap.least())
}

// settled is the least at which a chain does come to a state of a reverser; +Inf when that is not known yet.
func (f *forward) settled(shape, about int32, mask uint32) float64 {
	d := f.floors.get(shape, about, mask)
	if about >= 0 {
		d = min(d, f.floors.get(shape, absSome, mask))
	}
	return d
}

// advance takes the nearest state and goes on from it over each operator that takes it.
func (p *problem) advance(f *forward) (at absState, ok bool) {
	x := f.heap.pop()
	if x.dist > f.dist.get(x.shape, x.about, x.mask) {
		return x, false
	}
	for _, shape := range p.t.over[x.shape] {
		f.settle(shape, x.about, x.mask, x.dist, p)
	}
	for _, s := range p.t.takes[x.shape] {
		if a := &p.t.abs[s]; a.out >= 0 && a.admits(x.about) {
			f.relax(a.out, a.behind(x.about), x.mask, x.dist+f.least[s])
		}
	}
	for _, op := range p.meeting(x.shape) {
		a := &p.t.abs[p.c.sig[op]]
		free := p.available(op, x.mask)
		if free == 0 || a.out < 0 || !a.admits(x.about) {
			continue
		}
		d := x.dist + p.opLeast(op, f.metric) + p.bounds.any[f.metric]
		for r := 0; free>>r != 0; r++ {
			if free&(1<<r) != 0 {
				f.relax(a.out, a.behind(x.about), x.mask|1<<r, d)
			}
		}
	}
	return x, true
}

// settle notes the floor of all states of a reverser that stand for a type of this state.
func (f *forward) settle(shape, about int32, mask uint32, dist float64, p *problem) {
	note := func(about int32) { f.floors.lower(shape, about, mask, dist) }
	if about == aboutFree || about == aboutUnknown {
		note(absFree)
	}
	if about != aboutFree {
		note(absEvery)
	}
	switch {
	case about == aboutAny || about == aboutUnknown: // it may be any value
		note(absSome)
	case about >= 0 && int(about) < len(p.t.abouts):
		note(about)
	}
}

// admits reports whether data of some meaning may go into an operator.
func (a *absSig) admits(about int32) bool {
	switch about {
	case aboutNone, aboutAny, aboutUnknown:
		return true
	case aboutFree:
		return a.takes
	}
	return a.wants == nil || slices.Contains(a.wants, about)
}

// meeting are the operators that meet a requirement and take a shape.
func (p *problem) meeting(shape int32) []int32 {
	if p.metBy == nil {
		p.metBy = make(map[int32][]int32)
		for _, op := range slices.Sorted(maps.Keys(p.meets)) {
			for _, in := range p.t.abs[p.c.sig[op]].ins {
				p.metBy[in] = append(p.metBy[in], op)
			}
		}
	}
	return p.metBy[shape]
}

// meet grows both ways from the ends of a path until they have met: about the least that operators can take in all is then
// known; +Inf says that there is no way.
func (b *bounds) meet(metric int, shape, about int32) float64 {
	r, p := b.ops[metric], b.p
	f := p.ahead(r, shape, about)
	r.other, r.met = f, r.exact(shape, about, 0)
	for len(r.heap) > 0 && f.heap.least()+r.heap.least() < r.met || len(f.heap) == 0 && r.heap.least() < r.met {
		b.closer(r)
	}
	return r.met
}

// closer grows the smaller side.
func (b *bounds) closer(r *reverser) {
	if f := r.other; len(f.heap) > 0 && len(f.heap) <= len(r.heap) {
		if x, ok := b.p.advance(f); ok {
			r.met = min(r.met, x.dist+r.exact(x.shape, x.about, x.mask))
		}
		return
	}
	b.p.grow(r)
}

// narrow works a metric's bounds out as far as it takes to know all paths on which operators take at most limit; states
// on none of these lead nowhere from now on. meet was called.
func (b *bounds) narrow(metric int, limit float64) {
	r := b.ops[metric]
	f := r.other
	if math.IsInf(limit, 1) {
		r.other = nil
		return
	}
	for len(r.heap) > 0 && len(f.heap) > 0 && f.heap.least()+r.heap.least() <= limit {
		b.closer(r)
	}
	r.past, r.limit, r.other = f, limit, nil
	for len(r.heap) > 0 {
		b.p.grow(r)
	}
}

package plan

import (
	"math"
	"slices"
)

// bounds are lower bounds on what is left to the end of a path, for the objective and for each bound resource apart:
// of the operators and the least that any hop to each takes, by abstract type and progress through the requirements; of
// what hops take beyond that, by place and progress. Both leave out what makes planning hard (parameters, capacities, one choice having to serve all resources), so that no
// plan is ever below them.
type bounds struct {
	p   *problem
	ops []*reverser // by metric: the least cost of the operators left
	net []netBound  // by metric
	hop [][]float64 // by zones: the least objective of a hop between two nodes
	any []float64   // by metric: the least of any hop, on one node too
}

// Metric 0 is the objective with the bounds' prices; metric i+1 the resource p.dims[i].
func (p *problem) metrics() int { return 1 + len(p.dims) }

// opLeast is the least that an operator adds to a metric.
func (p *problem) opLeast(op int32, metric int) float64 {
	if metric == 0 || math.IsInf(p.minCost[op], 1) {
		return p.minCost[op]
	}
	return p.minimum[op][p.dims[metric-1]]
}

// ofMetric is a metric of a vector of resources.
func (p *problem) ofMetric(v *vector, metric int) float64 {
	if metric == 0 {
		return p.order.of(*v)
	}
	return v[p.dims[metric-1]]
}

func (p *problem) makeBounds() {
	b := &bounds{p: p}
	p.bounds = b
	hops := make([][][]float64, p.metrics())
	for m := range hops {
		hops[m] = p.cheapestHops(m)
		b.any = append(b.any, p.cheapestHop(m, hops[m]))
	}
	b.hop = hops[0]
	for m := range hops {
		b.ops = append(b.ops, p.reverse(m))
	}
	b.net = p.netBounds(hops)
}

// operatorsLeft is the least that the operators behind an open type still cost, as far as it has been worked out: exact
// up to the radius, and the radius beyond. +Inf says that no chain of abstract types leads to the end.
func (b *bounds) operatorsLeft(metric int, shape, about int32, mask uint32) float64 {
	r := b.ops[metric]
	d := r.exact(shape, about, mask)
	if len(r.heap) > 0 {
		return min(d, r.heap[0].dist)
	}
	return d
}

// radius is how far the bounds of a metric have been worked out.
func (b *bounds) radius(metric int) float64 {
	if h := b.ops[metric].heap; len(h) > 0 {
		return h[0].dist
	}
	return math.Inf(1)
}

// exact is the least found yet.
func (r *reverser) exact(shape, about int32, mask uint32) float64 {
	switch about {
	case aboutNone:
		return r.get(shape, absEvery, mask)
	case aboutAny:
		return r.get(shape, absSome, mask)
	case aboutFree:
		return r.get(shape, absFree, mask)
	case aboutUnknown:
		return min(r.get(shape, absSome, mask), r.get(shape, absFree, mask))
	}
	return min(r.get(shape, absEvery, mask), r.get(shape, about, mask))
}

// settle works the bound of one state out, but not beyond a radius.
func (b *bounds) settle(metric int, shape, about int32, mask uint32, radius float64) {
	r := b.ops[metric]
	for len(r.heap) > 0 && r.heap[0].dist <= radius && r.exact(shape, about, mask) > r.heap[0].dist {
		b.p.grow(r)
	}
}

// Beside values, the abstract states of a shape are three: absEvery is what holds whatever the meaning, if there is one,
// absSome the least over all meanings, absFree what holds while the meaning is free.
const (
	absEvery  int32 = -1
	absSome   int32 = -2
	absFree   int32 = -3
	absOthers       = 3
)

// reverser is Dijkstra's algorithm from the last operator back over abstract types and progress.
type reverser struct {
	metric         int
	least          []float64 // by signature: the least of its operators
	shapes, abouts int
	dense          []float64 // by progress, shape and meaning; nil when that would be too large
	sparse         map[uint64]float64
	heap           []absState
}

type absState struct {
	dist         float64
	shape, about int32
	mask         uint32
}

// maxDense bounds the table of a reverser: 32 MiB.
const maxDense = 1 << 22

func newReverser(shapes, abouts int, need uint32) *reverser {
	r := &reverser{shapes: shapes, abouts: abouts + absOthers}
	if n := shapes * r.abouts * int(need+1); n <= maxDense {
		r.dense = make([]float64, n)
		for i := range r.dense {
			r.dense[i] = math.Inf(1)
		}
	} else {
		r.sparse = make(map[uint64]float64)
	}
	return r
}

func (r *reverser) index(shape, about int32, mask uint32) uint64 {
	return (uint64(mask)*uint64(r.shapes)+uint64(shape))*uint64(r.abouts) + uint64(about+absOthers)
}

func (r *reverser) get(shape, about int32, mask uint32) float64 {
	if int(about)+absOthers >= r.abouts { // a meaning that came up later: nothing asks for it
		return math.Inf(1)
	}
	i := r.index(shape, about, mask)
	if r.dense != nil {
		return r.dense[i]
	}
	if d, ok := r.sparse[i]; ok {
		return d
	}
	return math.Inf(1)
}

func (p *problem) reverse(metric int) *reverser {
	r := newReverser(len(p.t.shapes), len(p.t.abouts), p.need)
	r.metric, r.least = metric, make([]float64, len(p.c.sigs))
	for s, ops := range p.t.opsOf {
		r.least[s] = math.Inf(1)
		for _, op := range ops {
			r.least[s] = min(r.least[s], p.opLeast(op, metric)+p.bounds.any[metric])
		}
	}
	r.into(&p.t.abs[p.c.sig[p.to]], absEvery, p.need, p.opLeast(int32(p.to), metric)+p.bounds.any[metric])
	return r
}

// grow takes the nearest state and goes back from it over each operator that may have made it.
func (p *problem) grow(r *reverser) {
	x := r.pop()
	if x.dist > r.get(x.shape, x.about, x.mask) {
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
	if r.get(shape, about, mask) <= dist {
		return
	}
	r.set(shape, about, mask, dist)
	if about != absFree && r.get(shape, absSome, mask) > dist {
		r.set(shape, absSome, mask, dist)
	}
	r.push(absState{dist, shape, about, mask})
}

func (r *reverser) set(shape, about int32, mask uint32, dist float64) {
	if i := r.index(shape, about, mask); r.dense != nil {
		r.dense[i] = dist
	} else {
		r.sparse[i] = dist
	}
}

func (r *reverser) push(x absState) {
	h := append(r.heap, x)
	i := len(h) - 1
	for i > 0 && h[(i-1)/2].dist > x.dist {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = x
	r.heap = h
}

func (r *reverser) pop() absState {
	h := r.heap
	top, x := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	r.heap = h
	for i := 0; len(h) > 0; {
		c := 2*i + 1
		if c+1 < len(h) && h[c+1].dist < h[c].dist {
			c++
		}
		if c >= len(h) || h[c].dist >= x.dist {
			h[i] = x
			break
		}
		h[i] = h[c]
		i = c
	}
	return top
}

package plan

import "math"

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
	return min(r.exact(shape, about, mask), r.heap.least())
}

// settle works the bound of one state out, but not beyond a radius.
func (b *bounds) settle(metric int, shape, about int32, mask uint32, radius float64) {
	r := b.ops[metric]
	for r.heap.least() <= radius && r.exact(shape, about, mask) > r.heap.least() {
		b.p.grow(r)
	}
}

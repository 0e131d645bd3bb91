package plan

import (
	"context"
	"math"
)

// Plans within the bounds are looked for within a fence: they are assumed to cost at most so much times what the best plan
// of all costs. Only what can be part of a plan so cheap is looked at then, which is little. When no such plan keeps the
// bounds, the fence is moved.
const (
	firstFence = 1.25
	moreFence  = 1.6
	overBound  = 1.5 // times the lower bound that was found within the last fence
	lastFence  = 4.0
)

// nextFence is where the fence comes to after one within which no plan was found, only a lower bound; a plan of cost known
// is beyond it.
func nextFence(free, last, bound, known float64) float64 {
	next := max(moreFence*last, overBound*bound)
	if next > lastFence*free {
		next = math.Inf(1)
	}
	if known > last {
		return min(next, known)
	}
	return math.Inf(1)
}

// assumed is the cost that plans are assumed to be below.
func (p *problem) assumed() float64 {
	if p.limit == 0 {
		return math.Inf(1)
	}
	return p.limit
}

// solveBound is solve for a problem with bounds on resources.
func (p *problem) solveBound(ctx context.Context) outcome {
	r := &relaxation{bound: math.Inf(-1), cost: math.Inf(1)}
	first := r.try(ctx, p, vector{})
	out := outcome{cost: r.cost, best: r.best, bound: r.bound, examined: r.work}
	if first == nil && r.none || r.best != nil && !p.proving {
		out.bound = min(r.bound, r.cost)
		return out
	}
	free := r.bound
	at := firstFence * free
	if first == nil || p.proving || free <= 0 {
		at = math.Inf(1)
	} else if some := p.incumbent(free, quickDive, 1.3, 2); some != nil {
		r.cut(p, some)
		at = min(at, r.cost)
	}
	for ; ; at = nextFence(free, at, out.bound, r.cost) {
		p.limit, p.fence = 0, nil
		mark := p.a.taken
		if !math.IsInf(at, 1) {
			p.fenceAt(at)
		}
		r.bound, r.none, r.prices = free, false, vector{}
		inside := p.within(ctx, r, first)
		p.a.release(mark)
		out.best, out.cost, out.prices, out.over, out.expanded = inside.best, inside.cost, inside.prices, inside.over, inside.expanded
		out.bound, out.examined = min(max(out.bound, min(inside.bound, p.assumed())), out.cost), r.work
		if math.IsInf(at, 1) || out.best != nil && out.cost <= at && out.over || ctx.Err() != nil {
			break
		}
	}
	p.limit, p.fence = 0, nil
	if out.best == nil && ctx.Err() != nil && free > 0 {
		if some := p.incumbent(free, maxDive, lastFence); some != nil {
			r.cut(p, some)
			out.best, out.cost = r.best, r.cost
		}
	}
	return out
}

// incumbent is a plan that keeps the bounds, if one is soon found: by going on where least is left to do, within fences that
// are wider and wider, and at prices at which all that a bound allows costs as much as the best plan of all.
func (p *problem) incumbent(free float64, most int, fences ...float64) (some *placed) {
	for _, d := range p.dims {
		p.prices[d] = free / max(p.lim[d], 1e-6)
	}
	p.order = p.w.at(p.prices)
	defer func() { p.prices, p.order = vector{}, p.w }()
	for _, wide := range fences {
		mark := p.a.taken
		p.fenceAt(wide * free)
		p.weighOperators()
		p.makeBounds()
		s := &search{p: p, seen: make(map[frontKey]*frontier), upper: p.limit, factor: math.Inf(1), assumed: true, refund: p.refund(p.prices)}
		s.begin()
		s.dive(most)
		p.a.release(mark)
		p.limit, p.fence = 0, nil
		if s.best != nil {
			return s.best
		}
	}
	return nil
}

// quickDive bounds the chains that are taken for an incumbent, within each fence.
const quickDive = 96

// fenceAt works out what can be part of a plan that costs at most limit, its bounds forgotten.
func (p *problem) fenceAt(limit float64) {
	p.limit, p.fence = 0, nil
	q := p.unbound(p.w)
	s := &search{p: q, upper: limit, factor: math.Inf(1)}
	s.begin()
	p.limit, p.fence = limit, &q.bounds.ops[0].dist
}

// promising is the share of a fence that the lower bound within it may come to for a search to be worth it.
const promising = 0.8

// within finds the best plan that keeps the bounds and is within the fence.
func (p *problem) within(ctx context.Context, r *relaxation, first *pricedPlan) outcome {
	if first != nil {
		r.relax(ctx, p, first)
	}
	total := outcome{cost: r.cost, best: r.best, prices: r.prices}
	switch {
	case r.cost > p.assumed() && r.bound > promising*p.assumed() && ctx.Err() == nil: // it is likely to be beyond the fence
		total.bound = r.bound
		return total
	case r.none:
		total.bound = math.Inf(1)
		return total
	case p.proving && ctx.Err() == nil:
	case total.best != nil && (total.cost-r.bound <= 1e-12*max(1, total.cost) || ctx.Err() != nil):
		total.bound, total.over = min(total.cost, r.bound), ctx.Err() == nil
		return total
	}
	p.prices, p.order = r.prices, p.w.at(r.prices)
	p.weighOperators()
	mark := p.a.taken
	p.makeBounds()
	out := p.rounds(ctx, total)
	p.a.release(mark)
	p.prices, p.order = vector{}, p.w
	r.work += out.examined
	out.bound = max(out.bound, min(out.cost, r.bound)) // when the time ran out
	if out.best != nil && out.cost < r.cost {
		r.cost, r.best = out.cost, out.best
	}
	return out
}

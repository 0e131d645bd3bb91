package plan

import (
	"context"
	"math"
	"slices"
)

// A bound on a resource that the best plan breaks is hard to search under: the objective alone leads to what is not
// allowed. So the bounds get prices: with a price for each unit of a bound resource added to the objective, and what the
// bound allows refunded, no plan that keeps the bounds becomes dearer than it is, whatever the prices. The cheapest plan
// at those prices is a lower bound for all that keep the bounds (Lagrangian relaxation; Handler and Zang, "A dual
// algorithm for the constrained shortest path problem", Networks 10, 1980). Prices are chosen to make that bound high; the
// search under the bounds then goes by it.

// maxPrices is how many prices are tried.
const maxPrices = 5

// pricedPlan is a plan found at some prices: a cut for the next ones.
type pricedPlan struct {
	cost float64
	used vector
	plan *placed
}

// relaxation is what was found without the bounds themselves.
type relaxation struct {
	prices vector // the best found, by resource
	bound  float64
	cost   float64 // of best
	best   *placed // the best plan found that keeps the bounds
	none   bool    // no plan can keep them
	cuts   []pricedPlan
	work   int
}

// at is the weights with prices added.
func (w Weights) at(prices vector) Weights {
	w.Latency += prices[resLatency]
	w.CPU += prices[resCPU]
	w.Memory += prices[resMemory] * (1 << 30)
	w.Price += prices[resPrice]
	w.Quality += prices[resLoss]
	return w
}

// refund is what the bounds allow at some prices.
func (p *problem) refund(prices vector) (sum float64) {
	for _, d := range p.dims {
		if prices[d] > 0 {
			sum += prices[d] * slack(p.lim[d])
		}
	}
	return sum
}

// unbound is the problem without bounds on resources, with other weights. What does not depend on them is shared.
func (p *problem) unbound(w Weights) *problem {
	q := *p
	q.dims, q.w, q.order, q.prices, q.proving, q.limit = nil, w, w, vector{}, false, 0
	q.hops = make(map[*Transport][]float64)
	q.weighOperators()
	q.makeBounds()
	return &q
}

// price is a placed chain's cost and use of resources.
func (p *problem) price(b *placed) (cost float64, used vector) {
	for i, op := range b.ops {
		v := p.stepVector(int(op), b.nodes[i])
		cost, used = cost+p.stepCost(int(op), b.nodes[i], &v), used.add(v)
		if i > 0 {
			v := p.hopVector(b.rides[i-1].t, int(p.c.nodeZone[b.nodes[i-1]]), int(p.c.nodeZone[b.nodes[i]]))
			cost, used = cost+p.w.of(v), used.add(v)
		}
	}
	return cost, used
}

// keeps reports whether all bounds are kept.
func (p *problem) keeps(used vector) bool {
	for _, d := range p.dims {
		if used[d] > slack(p.lim[d]) {
			return false
		}
	}
	return true
}

// relax tries prices until they do not get better, from the best plan of all on.
func (r *relaxation) relax(ctx context.Context, p *problem, first *pricedPlan) {
	caps := vector{}
	for _, d := range p.dims {
		if first.used[d] > slack(p.lim[d]) {
			caps[d] = dearest * max(first.cost, 1e-3) / first.used[d]
		}
	}
	if !r.reach(ctx, p, first, caps) {
		return
	}
	for range maxPrices {
		prices, top := r.dual(p, caps)
		if ctx.Err() != nil || top-r.bound <= 1e-3*max(1, math.Abs(top)) || !math.IsInf(r.cost, 1) && r.cost-r.bound <= 5e-3*r.cost {
			break
		}
		x := r.try(ctx, p, prices)
		if x == nil {
			break
		}
		for _, d := range p.dims {
			if caps[d] == 0 && x.used[d] > slack(p.lim[d]) {
				caps[d] = dearest * max(first.cost, 1e-3) / x.used[d]
			}
		}
	}
}

// dearest bounds prices: at the highest, a bound's use in the first plan costs that many times what the plan costs.
const dearest = 32

// reach makes a cut for each bound that is broken, of a plan that keeps it or breaks it least; it reports whether all can be
// kept, each by itself. Low prices are tried first: the higher they are, the more alike plans become and the longer it takes.
func (r *relaxation) reach(ctx context.Context, p *problem, first *pricedPlan, caps vector) bool {
	for _, d := range p.dims {
		if caps[d] == 0 || slices.ContainsFunc(r.cuts, func(c pricedPlan) bool { return c.used[d] <= slack(p.lim[d]) }) {
			continue
		}
		kept := false
		for prices := r.prices; prices[d] < caps[d] && !kept; {
			prices[d] = max(4*prices[d], caps[d]/64)
			x := r.try(ctx, p, prices)
			if x == nil {
				return false
			}
			kept = x.used[d] <= slack(p.lim[d])
		}
		if kept {
			continue
		}
		mark := p.a.taken
		q := p.unbound(Weights{}.at(unit(d)))
		out := q.rounds(ctx, outcome{cost: math.Inf(1)})
		p.a.release(mark)
		p.tracked = q.tracked
		r.work += out.examined
		if out.bound > slack(p.lim[d]) {
			r.none = ctx.Err() == nil
			return false
		}
		if out.best != nil {
			r.cut(p, out.best)
		}
	}
	return true
}

// cut takes a plan in.
func (r *relaxation) cut(p *problem, plan *placed) *pricedPlan {
	cost, used := p.price(plan)
	if p.keeps(used) && cost < r.cost {
		r.cost, r.best = cost, plan
	}
	r.cuts = append(r.cuts, pricedPlan{cost, used, plan})
	return &r.cuts[len(r.cuts)-1]
}

func unit(d int) (v vector) { v[d] = 1; return v }

// try finds the best plan at some prices; nil when there is none, or none in time.
func (r *relaxation) try(ctx context.Context, p *problem, prices vector) *pricedPlan {
	mark := p.a.taken
	q := p.unbound(p.w.at(prices))
	known := outcome{cost: math.Inf(1)}
	for _, c := range r.cuts { // the best of the plans found before
		x := c.cost
		for _, d := range p.dims {
			x += prices[d] * c.used[d]
		}
		if x < known.cost {
			known.cost, known.best = x, c.plan
		}
	}
	out := q.rounds(ctx, known)
	p.tracked = q.tracked // what competes for a node does so at all prices
	p.a.release(mark)
	r.work += out.examined
	if b := out.bound - p.refund(prices); b > r.bound {
		r.bound, r.prices = b, prices
	}
	if out.best == nil {
		r.none = math.IsInf(out.bound, 1)
		return nil
	}
	return r.cut(p, out.best)
}

// dual is the prices, each below its cap, at which the plans found so far allow the highest bound, and that bound. It goes
// up along one price at a time, then along the ridge where two plans meet.
func (r *relaxation) dual(p *problem, caps vector) (prices vector, top float64) {
	value := func(at vector) (least float64, by int) {
		least = math.Inf(1)
		for i, c := range r.cuts {
			x := c.cost
			for _, d := range p.dims {
				x += at[d] * (c.used[d] - slack(p.lim[d]))
			}
			if x < least {
				least, by = x, i
			}
		}
		return least, by
	}
	prices = r.prices
	top, _ = value(prices)
	at := prices
	if d := only(caps); d >= 0 { // one price: the bound is concave in it
		low, high := 0.0, caps[d]
		for range 100 {
			var a, b vector
			a[d], b[d] = low+(high-low)/3, high-(high-low)/3
			x, _ := value(a)
			y, _ := value(b)
			if x < y {
				low = a[d]
			} else {
				high = b[d]
			}
		}
		at = vector{}
		at[d] = (low + high) / 2
		top, _ = value(at)
		return at, top
	}
	scale := max(r.cuts[0].cost, 1e-3) // what is bound is measured by its limit, and priced in parts of the first plan's cost
	for k := range 800 {
		_, by := value(at)
		long := 0.0
		var way vector
		for _, d := range p.dims {
			if caps[d] > 0 {
				way[d] = (r.cuts[by].used[d] - slack(p.lim[d])) / max(p.lim[d], 1e-6)
				long += way[d] * way[d]
			}
		}
		if long == 0 {
			break
		}
		step := 2 * scale * math.Pow(0.985, float64(k)) / math.Sqrt(long)
		for _, d := range p.dims {
			at[d] = min(max(at[d]+step*way[d]/max(p.lim[d], 1e-6), 0), caps[d])
		}
		if x, _ := value(at); x > top {
			top, prices = x, at
		}
	}
	return prices, top
}

// only is the resource with a cap when there is one alone, else -1.
func only(caps vector) int {
	at := -1
	for d, c := range caps {
		if c > 0 && at >= 0 {
			return -1
		} else if c > 0 {
			at = d
		}
	}
	return at
}

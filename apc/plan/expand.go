package plan

import (
	"math"
	"slices"
)

// expand puts the chains with one more operator into the queue.
func (s *search) expand(e *entry) {
	p := s.p
	if int(e.length) >= p.steps {
		return
	}
	from := &p.a.opens[e.open]
	x := &expansion{s: s, e: e}
	if to := &p.t.abs[p.c.sig[p.to]]; e.mask == p.need && slices.Contains(to.ins, from.shape) {
		x.child(int32(p.to), aboutNone, -1, e.mask, 0)
	}
	if int(e.length) >= p.steps-1 {
		return
	}
	for _, op := range p.meeting(from.shape) {
		a := &p.t.abs[p.c.sig[op]]
		if a.out < 0 || math.IsInf(p.minCost[op], 1) {
			continue
		}
		free := p.available(op, e.mask)
		for r := 0; free>>r != 0; r++ {
			if free&(1<<r) != 0 {
				x.step(op, a, from.about, int8(r))
			}
		}
	}
	live, more := p.bounds.ops[0].live, len(p.bounds.ops[0].heap) > 0
	takes, outs := p.t.takes[from.shape], p.t.takesOut[from.shape]
	for i, out := range outs {
		if out < 0 || !live[out] && !more {
			continue
		}
		x.over(takes[i], from.about)
	}
}

// expansion is the work on one entry's children.
type expansion struct {
	s      *search
	e      *entry
	arrive []float64 // see arrivals; made when first wanted
}

// over adds children by the operators of a signature that are there for no requirement.
func (x *expansion) over(sig, about int32) {
	p, e := x.s.p, x.e
	a := &p.t.abs[sig]
	about = a.behind(about)
	left := p.bounds.operatorsLeft(0, a.out, about, e.mask)
	if least := e.net + p.bounds.ops[0].least[sig] + left; least-x.s.refund >= x.s.upper || math.IsInf(least, 1) {
		return
	}
	for _, op := range p.rivals(sig) {
		if !math.IsInf(p.minCost[op], 1) && p.available(op, e.mask) == 0 && int(op) != p.to && x.possible(a.out, about, e.mask) {
			x.child(op, about, -1, e.mask, left)
		}
	}
}

// step adds the child by an operator that is there for a requirement.
func (x *expansion) step(op int32, a *absSig, about int32, req int8) {
	about = a.behind(about)
	mask := x.e.mask | 1<<req
	if left := x.s.p.bounds.operatorsLeft(0, a.out, about, mask); !math.IsInf(left, 1) && x.possible(a.out, about, mask) {
		x.child(op, about, req, mask, left)
	}
}

// possible reports whether each bound resource may still do.
func (x *expansion) possible(shape, about int32, mask uint32) bool {
	for m := range x.s.p.dims {
		if math.IsInf(x.s.p.bounds.operatorsLeft(1+m, shape, about, mask), 1) {
			return false
		}
	}
	return true
}

// child puts one chain into the queue, if a plan may begin so. Whether its types fit is found out when it is taken: most
// never are. Till then its output has the shape of its signature, and the meaning about.
func (x *expansion) child(op, about int32, req int8, mask uint32, left float64) {
	s, e, p := x.s, x.e, x.s.p
	net := e.net + p.minCost[op] + p.bounds.any[0]
	if net+left-s.refund >= s.upper {
		return
	}
	if x.arrive == nil {
		x.arrive = s.arrivals(e)
	}
	done := int(op) == p.to
	net = max(net, p.coarse(op, mask, done, x.arrive))
	least := max(e.least, net+left)
	if least-s.refund >= s.upper {
		return
	}
	s.push(&entry{parent: e, op: op, open: -1, mask: mask, req: req, length: e.length + 1, done: done, net: net, left: left, least: least})
}

// arrivals is, by zone, the least objective with which a chain can come to some node there: a hop within a zone may be
// between steps on one node.
func (s *search) arrivals(e *entry) []float64 {
	p, st, hop := s.p, s.p.stride(), s.p.bounds.hop
	at := make([]float64, len(p.c.zones))
	for z := range at {
		at[z] = math.Inf(1)
	}
	for i, n := range e.labels.nodes {
		z := p.c.nodeZone[n]
		for j := int(e.labels.off[i]); j < int(e.labels.off[i+1]); j++ {
			at[z] = min(at[z], p.orderOf(e.labels.val[j*st:(j+1)*st]))
		}
	}
	out := make([]float64, len(at))
	for to := range out {
		out[to] = at[to] + p.bounds.any[0]
		for from := range at {
			out[to] = min(out[to], at[from]+hop[from][to])
		}
	}
	return out
}

// coarse is a lower bound on a chain with the hops that are left, by zones instead of nodes.
func (p *problem) coarse(op int32, mask uint32, done bool, arrive []float64) float64 {
	var net []float64
	if !done {
		net = p.bounds.net[0].leastInZones(p, mask)
	}
	least := math.Inf(1)
	for _, zc := range p.zoneCosts(int(op)) {
		x := arrive[zc.zone] + zc.cost
		if net != nil {
			x += net[zc.zone]
		}
		least = min(least, x)
	}
	return least
}

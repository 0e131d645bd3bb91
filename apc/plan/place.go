package plan

import (
	"math"
	"slices"
)

// labels are the best ways to place an unfinished chain, by the node of its last step: for each node those that no
// other is at least as good as in the objective, in every bound resource, and in the use of every tracked node.
type labels struct {
	nodes []int32   // ascending
	off   []int32   // of the first label of each node, in labels
	val   []float64 // stride numbers a label: the objective, the bound resources, CPU and memory on tracked nodes
}

func (p *problem) stride() int { return 1 + len(p.dims) + 2*len(p.tracked) }

// orderOf is the objective of a label with the bounds' prices.
func (p *problem) orderOf(x []float64) float64 {
	cost := x[0]
	for i, d := range p.dims {
		cost += p.prices[d] * x[1+i]
	}
	return cost
}

// begin places the first operator alone.
func (p *problem) begin(op int) *labels {
	l := &labels{}
	s := p.stride()
	for _, node := range p.candidates(op) {
		x := make([]float64, s)
		if p.take(x, op, node) {
			l.nodes, l.off = append(l.nodes, node), append(l.off, int32(len(l.val)/s))
			l.val = append(l.val, x...)
		}
	}
	l.off = append(l.off, int32(len(l.val)/s))
	return l
}

// take adds a step at a node to a label; false says that it is more than the tracked node has.
func (p *problem) take(x []float64, op int, node int32) bool {
	v := p.stepVector(op, node)
	x[0] += p.stepCost(op, node, &v)
	for i, d := range p.dims {
		x[1+i] += v[d]
	}
	at := 1 + len(p.dims)
	for i, tr := range p.tracked {
		if tr != node {
			continue
		}
		x[at+2*i] += v[resCPU]
		x[at+2*i+1] += v[resMemory]
		n := &p.c.nodes[node]
		if n.Cores > 0 && x[at+2*i] > n.Cores-n.Load+1e-12 || n.Memory > 0 && x[at+2*i+1] > float64(n.Memory) {
			return false
		}
	}
	return true
}

// ride is one way to carry a hop.
type ride struct {
	scheme int
	t      *Transport
	table  []float64 // see hopTable
	trunk  bool      // by a trunk that is there
}

// onTrunks are the ways to carry a hop where a trunk is there.
func (p *problem) onTrunks(far []ride) (on []ride) {
	if len(p.c.trunks) == 0 {
		return nil
	}
	for _, r := range far {
		if t := p.c.onTrunk[r.t]; t != nil {
			on = append(on, ride{r.scheme, t, p.hopTable(t), true})
		}
	}
	return on
}

// rides are the ways that two operators and a media type allow, the local ones apart.
func (p *problem) rides(from, to int, media string) (local, far []ride) {
	mask := p.opMask[from] & p.opMask[to]
	for s, t := range p.carry(media) {
		if mask&(1<<s) == 0 {
			continue
		}
		switch {
		case t == nil:
		case t.Local:
			local = append(local, ride{s, t, p.hopTable(t), false})
		default:
			far = append(far, ride{s, t, p.hopTable(t), false})
		}
	}
	return local, far
}

// carry is, of each scheme, what carries a media type.
func (p *problem) carry(media string) []*Transport {
	all, ok := p.carriers[media]
	if !ok {
		for s := range p.c.schemes {
			all = append(all, p.c.transport(s, media))
		}
		p.carriers[media] = all
	}
	return all
}

// addHop adds what a hop takes to a label.
func (p *problem) addHop(x []float64, r *ride, from, to int) {
	n := 1 + len(p.dims)
	h := r.table[(from*len(p.c.zones)+to)*n:]
	for i := range n {
		x[i] += h[i]
	}
}

// hopTable is, for each two zones, what a hop by a transport adds to the objective and the bound resources.
func (p *problem) hopTable(t *Transport) []float64 {
	if table, ok := p.hops[t]; ok {
		return table
	}
	z := len(p.c.zones)
	table := make([]float64, 0, z*z*(1+len(p.dims)))
	for from := range z {
		for to := range z {
			v := p.hopVector(t, from, to)
			table = append(table, p.w.of(v))
			for _, d := range p.dims {
				table = append(table, v[d])
			}
		}
	}
	p.hops[t] = table
	return table
}

// front is a set of labels of which none is at least as good as another in everything.
type front struct {
	s   int
	val []float64
}

func (f *front) add(x []float64) {
	for i := 0; i < len(f.val); i += f.s {
		if noWorse(f.val[i:i+f.s], x) {
			return
		}
	}
	keep := f.val[:0]
	for i := 0; i < len(f.val); i += f.s {
		if !noWorse(x, f.val[i:i+f.s]) {
			keep = append(keep, f.val[i:i+f.s]...)
		}
	}
	f.val = append(keep, x...)
}

func noWorse(a, b []float64) bool {
	for i := range a {
		if a[i] > b[i] {
			return false
		}
	}
	return true
}

// extend places one more operator behind a chain: to each of its nodes from the same node by a local transport, or from
// any zone by any other: O(N + Z^2) labels are made.
func (p *problem) extend(l *labels, from, op int, media string, left *rest) *labels {
	s := p.stride()
	local, far := p.rides(from, op, media)
	trunked := p.onTrunks(far)
	zones := p.byZone(l, s)
	arrival := make([]*front, len(p.c.zones))
	x := make([]float64, s)
	arrive := func(z int) *front {
		if arrival[z] == nil {
			arrival[z] = p.arrivals(zones, z, far, s, x, op, left)
		}
		return arrival[z]
	}
	out, at := &labels{}, 0
	for _, node := range p.candidates(op) {
		for at < len(l.nodes) && l.nodes[at] < node {
			at++
		}
		f := front{s: s}
		a := arrive(int(p.c.nodeZone[node]))
		for i := 0; i < len(a.val); i += s {
			copy(x, a.val[i:i+s])
			p.settle(&f, x, op, node, left)
		}
		if at < len(l.nodes) && l.nodes[at] == node {
			z := int(p.c.nodeZone[node])
			for i := l.off[at]; i < l.off[at+1]; i++ {
				for _, r := range local {
					copy(x, l.val[int(i)*s:int(i+1)*s])
					p.addHop(x, &r, z, z)
					p.settle(&f, x, op, node, left)
				}
			}
		}
		if len(trunked) > 0 {
			p.byTrunk(&f, l, trunked, x, op, node, left)
		}
		if len(f.val) > 0 {
			out.nodes, out.off = append(out.nodes, node), append(out.off, int32(len(out.val)/s))
			out.val = append(out.val, f.val...)
		}
	}
	out.off = append(out.off, int32(len(out.val)/s))
	return out
}

// byTrunk settles the labels that come to a node by the trunks that it has.
func (p *problem) byTrunk(f *front, l *labels, trunked []ride, x []float64, op int, node int32, left *rest) {
	to := p.c.nodeZone[node]
	for _, from := range p.c.trunks[node] {
		at, ok := slices.BinarySearch(l.nodes, from)
		if !ok {
			continue
		}
		zone := p.c.nodeZone[from]
		for _, r := range trunked {
			if p.c.zones[zone].mask&p.c.zones[to].mask&(1<<r.scheme) == 0 {
				continue
			}
			for i := l.off[at]; i < l.off[at+1]; i++ {
				copy(x, l.val[int(i)*f.s:int(i+1)*f.s])
				p.addHop(x, &r, int(zone), int(to))
				p.settle(f, x, op, node, left)
			}
		}
	}
}

// settle adds the step to a label that has arrived and keeps it when the bounds can still be met.
func (p *problem) settle(f *front, x []float64, op int, node int32, left *rest) {
	if !p.take(x, op, node) {
		return
	}
	for i, d := range p.dims {
		if x[1+i]+left.fromNode(1+i, node) > slack(p.lim[d]) {
			return
		}
	}
	if !math.IsInf(p.ceiling, 1) && p.orderOf(x)+left.fromNode(0, node) >= p.ceiling {
		return
	}
	f.add(x)
}

// rest is what is left at least behind a step, by metric: of operators, and of hops by where the step is. It is nothing
// behind the last one.
type rest struct {
	p    *problem
	ops  []float64
	mask uint32
	net  []netBound  // nil behind the last step
	zone [][]float64 // by zone
}

func (p *problem) restBehind(e *entry) *rest {
	r := &rest{p: p, ops: make([]float64, p.metrics()), mask: e.mask}
	if e.done {
		return r
	}
	t := &p.a.opens[e.open]
	r.net = p.bounds.net
	for m := range r.ops {
		r.ops[m] = p.bounds.operatorsLeft(m, t.shape, t.about, e.mask)
		r.zone = append(r.zone, r.net[m].leastInZones(p, e.mask))
	}
	return r
}

func (r *rest) fromNode(metric int, node int32) float64 {
	if r.net == nil {
		return 0
	}
	return r.ops[metric] + r.net[metric].at(r.p, node, r.mask)
}

// hopeless reports whether no plan can come of a label that arrives in a zone for a step.
func (r *rest) hopeless(x []float64, op, zone int) bool {
	p, left := r.p, 0.0
	for i, d := range p.dims {
		if r.net != nil {
			left = r.ops[1+i] + r.zone[1+i][zone]
		}
		if x[1+i]+p.minimum[op][d]+left > slack(p.lim[d]) {
			return true
		}
	}
	if r.net != nil {
		left = r.ops[0] + r.zone[0][zone]
	}
	return p.orderOf(x)+p.minCost[op]+left >= p.ceiling*(1+1e-12)
}

// slack forgives the rounding of sums: a bound is met when it is exceeded by no more than one part in 10^9.
func slack(limit float64) float64 { return limit + 1e-9*max(limit, 1e-6) }

func (p *problem) byZone(l *labels, s int) []*front {
	zones := make([]*front, len(p.c.zones))
	for i, node := range l.nodes {
		z := p.c.nodeZone[node]
		if zones[z] == nil {
			zones[z] = &front{s: s}
		}
		for j := l.off[i]; j < l.off[i+1]; j++ {
			zones[z].add(l.val[int(j)*s : int(j+1)*s])
		}
	}
	return zones
}

func (p *problem) arrivals(zones []*front, to int, far []ride, s int, x []float64, op int, left *rest) *front {
	f := &front{s: s}
	if s == 1 {
		return p.arrival(f, zones, to, far)
	}
	for from, z := range zones {
		if z == nil {
			continue
		}
		for _, r := range far {
			if p.c.zones[from].mask&p.c.zones[to].mask&(1<<r.scheme) == 0 {
				continue
			}
			for i := 0; i < len(z.val); i += s {
				copy(x, z.val[i:i+s])
				if p.addHop(x, &r, from, to); !left.hopeless(x, op, to) {
					f.add(x)
				}
			}
		}
	}
	return f
}

// arrival is arrivals when only the objective counts.
func (p *problem) arrival(f *front, zones []*front, to int, far []ride) *front {
	least, n := math.Inf(1), len(p.c.zones)
	for _, r := range far {
		hop := r.table
		for from, z := range zones {
			if z != nil && p.c.zones[from].mask&p.c.zones[to].mask&(1<<r.scheme) != 0 {
				least = min(least, z.val[0]+hop[from*n+to])
			}
		}
	}
	if !math.IsInf(least, 1) {
		f.val = append(f.val, least)
	}
	return f
}

// best is the label of least objective; ok is false when there is none.
func (l *labels) best(s int) (node int32, label []float64, ok bool) {
	least := math.Inf(1)
	for i, n := range l.nodes {
		for j := int(l.off[i]); j < int(l.off[i+1]); j++ {
			if x := l.val[j*s : (j+1)*s]; x[0] < least {
				least, node, label, ok = x[0], n, x, true
			}
		}
	}
	return node, label, ok
}

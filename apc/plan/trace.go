package plan

import (
	"math"
	"slices"
)

// placed is a chain with a node for each step and a ride for each hop.
type placed struct {
	ops   []int32
	nodes []int32
	rides []ride
	reqs  []int
	media []string
}

// trace finds the way to a label back through the chain that made it: the sums are made again in the same order.
func (p *problem) trace(e *entry, node int32, label []float64) placed {
	s := p.stride()
	n := int(e.length)
	out := placed{ops: make([]int32, n), nodes: make([]int32, n), rides: make([]ride, n-1), reqs: make([]int, n), media: make([]string, n-1)}
	x := make([]float64, s)
	for i := n - 1; ; i-- {
		out.ops[i], out.nodes[i], out.reqs[i] = e.op, node, int(e.req)
		if i == 0 {
			return out
		}
		out.media[i-1] = p.a.opens[e.parent.open].o.Media()
		local, far := p.rides(int(e.parent.op), int(e.op), out.media[i-1])
		before, beforeLabel, by := p.before(e, node, label, local, far, x)
		out.rides[i-1] = by
		e, node, label = e.parent, before, beforeLabel
	}
}

// before is the label that another one was made of: the one from which the sums come out the same, or nearest where a
// processor rounds one expression differently in two places.
func (p *problem) before(e *entry, node int32, label []float64, local, far []ride, x []float64) (at int32, from []float64, by ride) {
	s, l := p.stride(), e.parent.labels
	to, least := p.c.nodeZone[node], math.Inf(1)
	for i, n := range l.nodes {
		zone := p.c.nodeZone[n]
		for j := int(l.off[i]); j < int(l.off[i+1]); j++ {
			before := l.val[j*s : (j+1)*s]
			for k, r := range slices.Concat(local, far, p.onTrunks(far)) {
				if r.trunk && !slices.Contains(p.c.trunks[node], n) || k < len(local) && n != node || k >= len(local) && p.c.zones[zone].mask&p.c.zones[to].mask&(1<<r.scheme) == 0 {
					continue
				}
				copy(x, before)
				p.addHop(x, &r, int(zone), int(to))
				if !p.take(x, int(e.op), node) {
					continue
				}
				if d := apart(x, label); d < least {
					least, at, from, by = d, n, before, r
				}
				if least == 0 {
					return at, from, by
				}
			}
		}
	}
	return at, from, by
}

// apart is how far two labels are from each other.
func apart(a, b []float64) (d float64) {
	for i := range a {
		d = max(d, math.Abs(a[i]-b[i])/max(1, math.Abs(b[i])))
	}
	return d
}

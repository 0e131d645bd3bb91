package plan

import (
	"container/heap"
	"context"
	"math"
)

// twoPhase chooses operators as if places cost nothing, then places them one by one on the least loaded node, in the manner
// of the paper's prototype. Its cost is +Inf when that breaks a bound.
func twoPhase(c, flat *Catalogue, r Request) float64 {
	p, err := newProblem(c, r)
	if err != nil {
		return math.Inf(1)
	}
	logical, err := flat.Plan(context.Background(), r)
	if err != nil {
		return math.Inf(1)
	}
	cost, last, used := 0.0, int32(-1), vector{}
	for i, s := range logical.Steps {
		op := c.byName.at(s.Name)
		v := c.base[op]
		node := int32(-1)
		for _, n := range c.places[op] {
			if p.fits(n, &v) && (node < 0 || p.util[n] < p.util[node]) {
				node = n
			}
		}
		if node < 0 {
			return math.Inf(1)
		}
		cost, used = cost+p.stepCost(op, node, &v), used.add(v)
		if i > 0 {
			local, far := p.rides(c.byName.at(logical.Steps[i-1].Name), op, logical.Hops[i-1].Type.Media())
			least, by := math.Inf(1), vector{}
			for _, ride := range append(local, far...) {
				if ride.t.Local == (node == last) && c.zones[c.nodeZone[last]].mask&c.zones[c.nodeZone[node]].mask&(1<<ride.scheme) != 0 {
					v := p.hopVector(ride.t, int(c.nodeZone[last]), int(c.nodeZone[node]))
					if x := p.w.of(v); x < least {
						least, by = x, v
					}
				}
			}
			cost, used = cost+least, used.add(by)
		}
		last = node
	}
	for d, l := range p.lim {
		if used[d] > slack(l) {
			return math.Inf(1)
		}
	}
	return cost
}

// flattened is a catalogue's world on one node: operators without places.
func flattened(c *Catalogue) Parts {
	p := c.parts
	p.Nodes, p.Links = []Node{{ID: "spiffe://example.org/proxy/all"}}, nil
	p.Operators = nil
	for _, o := range c.ops {
		p.Operators = append(p.Operators, *o)
	}
	for i := range p.Operators {
		p.Operators[i].Places = []Place{{Node: p.Nodes[0].ID}}
		p.Operators[i].Spec.Transports = nil
	}
	return p
}

// typeGraph is what Dijkstra's algorithm needs when it looks at media types alone: an edge an operator. It is made
// before any clock runs.
type typeGraph struct {
	media map[string]int
	edges [][]typeEdge // by media type taken
}

type typeEdge struct {
	op, to int
	cost   float64
}

func newTypeGraph(c *Catalogue) *typeGraph {
	g := &typeGraph{media: make(map[string]int)}
	id := func(m string) int {
		n, ok := g.media[m]
		if !ok {
			n = len(g.edges)
			g.media[m] = n
			g.edges = append(g.edges, nil)
		}
		return n
	}
	w := DefaultWeights()
	for i := range c.ops {
		s := &c.ops[i].Spec
		if s.In.IsZero() || s.Out.IsZero() {
			continue
		}
		from, to := id(s.In.Media()), id(s.Out.Media())
		g.edges[from] = append(g.edges[from], typeEdge{i, to, w.of(c.base[i]) + w.Steps})
	}
	return g
}

type typeItem struct {
	dist float64
	at   int // the media type and the progress
}

type typeQueue []typeItem

func (q typeQueue) Len() int           { return len(q) }
func (q typeQueue) Less(i, j int) bool { return q[i].dist < q[j].dist }
func (q typeQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *typeQueue) Push(x any)        { *q = append(*q, x.(typeItem)) }
func (q *typeQueue) Pop() any {
	x := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return x
}

// dijkstra is the least cost of operators from one media type to another by way of what is required, in any order: no
// parameters, no meanings, no places, no hops, no bounds. It stops at the end.
func (g *typeGraph) dijkstra(c *Catalogue, r Request) float64 {
	meets := make(map[int]int)
	for i, q := range r.Include {
		for _, name := range q.Any {
			meets[c.byName.at(name)] |= 1 << i
		}
	}
	all := 1 << len(r.Include)
	dist := make([]float64, len(g.edges)*all)
	for i := range dist {
		dist[i] = math.Inf(1)
	}
	end := g.media[c.ops[c.byName.at(r.To)].Spec.In.Media()]*all + all - 1
	q := typeQueue{{0, g.media[c.ops[c.byName.at(r.From)].Spec.Out.Media()] * all}}
	dist[q[0].at] = 0
	for len(q) > 0 {
		x := heap.Pop(&q).(typeItem)
		if x.at == end {
			break
		}
		if x.dist > dist[x.at] {
			continue
		}
		for _, e := range g.edges[x.at/all] {
			to := e.to*all + (x.at%all | meets[e.op])
			if d := x.dist + e.cost; d < dist[to] {
				dist[to] = d
				heap.Push(&q, typeItem{d, to})
			}
		}
	}
	return dist[end]
}

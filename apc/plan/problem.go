package plan

import (
	"fmt"
	"math"
	"slices"

	"ninja/operators"
)

// crowd is what a step counts as load beside its CPU: of two idle steps' nodes the less loaded one is better still.
const crowd = 0.01

// problem is a request against a catalogue, with all names resolved and all weights applied.
type problem struct {
	c         *Catalogue
	t         *tables
	a         *automaton // while a search runs
	req       Request
	w         Weights
	order     Weights // of the search: w and what the bounds are priced at, see relax
	prices    vector
	ceiling   float64 // what a label may not come to: a plan is known, or assumed, that is as good
	lim       vector
	dims      []int // the resources that are bound
	from, to  int
	steps     int      // most operators of a chain, endpoints included
	need      uint32   // a bit for each requirement
	after     []uint32 // what must come before each
	meets     map[int32]uint32
	allowed   []bool    // nodes
	unlimited bool      // all of them
	banned    []bool    // operators
	util      []float64 // nodes
	tracked   []int32   // nodes whose joint use is followed, in the order they were found
	cands     [][]int32 // by operator, made when first asked for
	minimum   []vector  // by operator: least resources over places
	minCost   []float64 // by operator: least cost over places, +Inf where there is no place
	opMask    []uint32  // by operator: transports
	bounds    *bounds
	proving   bool                     // a proof is wanted
	fence     *absTable                // states that plans may come to; nil for all
	limit     float64                  // of the plans that these may be part of
	keep      []bool                   // nodes worth trying, when not all are allowed; made when first asked for
	byZones   [][]zoneCost             // by operator, likewise
	hops      map[*Transport][]float64 // by transport, see hopTable
	carriers  map[string][]*Transport  // by media type: of each scheme what carries it, or nil
	idle      map[*int32][]int32       // by place list
	best      map[*int32][]int32       // by place list, see worth
	rival     map[int32][]int32        // by signature
	metBy     map[int32][]int32        // operators that meet a requirement by the shape they take; made when first asked for
}

func newProblem(c *Catalogue, r Request) (*problem, error) {
	if err := r.Check(); err != nil {
		return nil, &Refusal{Reason: BadRequest, Text: err.Error()}
	}
	c, err := c.attach(&r)
	if err != nil {
		return nil, &Refusal{Reason: BadRequest, Text: err.Error()}
	}
	p := &problem{c: c, t: c.prepare(), req: r, w: r.Weights, lim: r.Bounds.limits(), meets: make(map[int32]uint32), idle: make(map[*int32][]int32), best: make(map[*int32][]int32), hops: make(map[*Transport][]float64), carriers: make(map[string][]*Transport), rival: make(map[int32][]int32)}
	if p.w == (Weights{}) {
		p.w = DefaultWeights()
	}
	for d, l := range p.lim {
		if !math.IsInf(l, 1) {
			p.dims = append(p.dims, d)
		}
	}
	if p.steps = r.Steps + 2; r.Steps == 0 {
		p.steps = MaxSteps + 2
	}
	p.order = p.w
	if p.from, err = p.endpoint(r.from(), true); err != nil {
		return nil, err
	}
	if p.to, err = p.endpoint(r.to(), false); err != nil {
		return nil, err
	}
	if err := p.requirements(); err != nil {
		return nil, err
	}
	p.limitNodes()
	p.weighOperators()
	return p, nil
}

func (p *problem) endpoint(name string, source bool) (int, error) {
	i, ok := p.c.byName.get(name)
	if !ok {
		return 0, &Refusal{Reason: UnknownName, Subject: name, Text: fmt.Sprintf("there is no %s", name)}
	}
	s := &p.c.ops[i].Spec
	if source && !s.In.IsZero() || !source && !s.Out.IsZero() {
		end, has := "begin", "takes input"
		if !source {
			end, has = "end", "makes output"
		}
		return 0, &Refusal{Reason: BadRequest, Subject: name, Text: fmt.Sprintf("a path cannot %s with %s: it %s", end, name, has)}
	}
	return i, nil
}

func (p *problem) requirements() error {
	for i, q := range p.req.Include {
		p.need |= 1 << i
		var after uint32
		for _, a := range q.After {
			after |= 1 << a
		}
		p.after = append(p.after, after)
		found := false
		for _, name := range q.Any {
			if o, ok := p.c.byName.get(name); ok && o != p.from && o != p.to {
				p.meets[int32(o)] |= 1 << i
				found = true
			}
		}
		if !found {
			return &Refusal{Reason: UnknownName, Subject: q.Label, Text: fmt.Sprintf("nothing is %s", q.Label)}
		}
	}
	return nil
}

// limitNodes applies the domains and the exclusions.
func (p *problem) limitNodes() {
	p.allowed, p.util = make([]bool, len(p.c.nodes)), p.c.now.load(p.c)
	p.unlimited = len(p.req.Without)+len(p.req.Bounds.Domains) == 0
	p.banned = make([]bool, len(p.c.ops))
	for _, name := range p.req.WithoutOperators {
		if i, ok := p.c.byName.get(name); ok {
			p.banned[i] = true
		}
	}
	without := make(map[string]bool, len(p.req.Without))
	for _, id := range p.req.Without {
		without[id] = true
	}
	for i := range p.c.nodes {
		n := &p.c.nodes[i]
		domains := p.req.Bounds.Domains
		p.allowed[i] = !without[string(n.ID)] && (len(domains) == 0 || slices.Contains(domains, n.ID.Domain()) || p.c.outside(n))
	}
}

// stepVector is what an operator takes at a node.
func (p *problem) stepVector(op int, node int32) vector {
	if o := p.c.override[op]; o != nil {
		if own, ok := o[node]; ok {
			return costVector(own, p.c.ops[op].Fixed)
		}
	}
	return p.c.base[op]
}

func costVector(k operators.Cost, fixed bool) vector {
	v := vector{resLatency: float64(k.Latency) / 1e9, resCPU: k.CPU, resMemory: float64(k.Memory), resPrice: k.Price}
	if fixed {
		v[resMemory] = 0
	}
	if k.Quality > 0 {
		v[resLoss] = -math.Log(k.Quality)
	}
	return v
}

// stepCost is the objective's share for a step at a node.
func (p *problem) stepCost(op int, node int32, v *vector) float64 {
	return p.stepCostAt(&p.w, op, node, v)
}

func (p *problem) stepCostAt(w *Weights, op int, node int32, v *vector) float64 {
	cost := w.of(*v) + p.w.Load*p.util[node]*(v[resCPU]+crowd) + p.w.Steps
	for _, ref := range p.c.ops[op].Data {
		if !p.c.holders[ref][node] {
			cost += p.w.Data * float64(p.c.dataSize[ref]) / (1 << 20)
		}
	}
	return cost
}

// fits reports whether a node has room for a step, alone.
func (p *problem) fits(node int32, v *vector) bool {
	n := &p.c.nodes[node]
	return p.allowed[node] && (n.Cores == 0 || v[resCPU] <= n.Cores-n.Load+1e-12) && (n.Memory == 0 || v[resMemory] <= float64(n.Memory))
}

// weighOperators finds the least that each operator can take at any of its places.
func (p *problem) weighOperators() {
	n := len(p.c.ops)
	p.byZones = make([][]zoneCost, n) // these were of other prices
	p.cands, p.minimum, p.minCost, p.opMask = make([][]int32, n), make([]vector, n), make([]float64, n), make([]uint32, n)
	for op := range p.c.ops {
		p.opMask[op] = p.c.opMask[op]
		p.minCost[op] = math.Inf(1)
		places := p.c.places[op]
		if len(places) == 0 || p.banned[op] || !p.dataReachable(op) {
			continue
		}
		if p.c.override[op] != nil || len(p.c.ops[op].Data) > 0 {
			p.weighEach(op)
			continue
		}
		v := p.c.base[op]
		for _, node := range p.worth(places) {
			if p.fits(node, &v) {
				p.minimum[op], p.minCost[op] = v, p.stepCostAt(&p.order, op, node, &v)
				break
			}
		}
	}
}

func (p *problem) weighEach(op int) {
	first := true
	for _, node := range p.c.places[op] {
		v := p.stepVector(op, node)
		if !p.fits(node, &v) {
			continue
		}
		p.minCost[op] = min(p.minCost[op], p.stepCostAt(&p.order, op, node, &v))
		if first {
			p.minimum[op], first = v, false
		}
		for d := range v {
			p.minimum[op][d] = min(p.minimum[op][d], v[d])
		}
	}
}

func (p *problem) dataReachable(op int) bool {
	for _, ref := range p.c.ops[op].Data {
		if len(p.c.holders[ref]) == 0 {
			return false
		}
	}
	return true
}

// candidates are the nodes at which a step is tried: those with room, without those that another node is better than
// whatever a plan does.
func (p *problem) candidates(op int) []int32 {
	if p.cands[op] == nil {
		list := make([]int32, 0, 16)
		places := p.c.places[op]
		if len(p.tracked) == 0 && len(places) > 0 {
			places = p.worth(places)
		}
		for _, node := range places {
			v := p.stepVector(op, node)
			if p.fits(node, &v) {
				list = append(list, node)
			}
		}
		if len(p.tracked) == 0 {
			slices.Sort(list)
		}
		p.cands[op] = list
	}
	return p.cands[op]
}

// worth is what of a place list is worth trying, the least busy node first. A node is left out when another one of its
// class is no busier and has no less room: a plan that uses the one is no better than the plan with the other in its
// place. That holds while steps do not compete for a node; once nodes are tracked, all are tried.
func (p *problem) worth(places []int32) []int32 {
	list, ok := p.best[&places[0]]
	if !ok {
		switch {
		case p.unlimited:
			p.c.now.front(p.c)
			list = p.c.now.worth(p.c, places)
		default:
			if p.keep == nil {
				p.keep = p.c.frontOf(p.allowed)
			}
			list = byLoad(places, p.keep, p.util)
		}
		p.best[&places[0]] = list
	}
	return list
}

// zoneCost is the least that a step costs at a node of a zone, room forgotten.
type zoneCost struct {
	zone int32
	cost float64
}

// zoneCosts are an operator's by zone. Those that share their places share the search for the least busy nodes.
func (p *problem) zoneCosts(op int) []zoneCost {
	if p.byZones[op] != nil {
		return p.byZones[op]
	}
	places := p.c.places[op]
	var out []zoneCost
	if p.c.override[op] != nil || len(p.c.ops[op].Data) > 0 {
		at := make(map[int32]int)
		for _, n := range places {
			v := p.stepVector(op, n)
			z := p.c.nodeZone[n]
			i, ok := at[z]
			if !ok {
				i = len(out)
				at[z] = i
				out = append(out, zoneCost{z, math.Inf(1)})
			}
			out[i].cost = min(out[i].cost, p.stepCostAt(&p.order, op, n, &v))
		}
	} else if len(places) > 0 {
		v := p.c.base[op]
		for _, n := range p.idlest(places) {
			out = append(out, zoneCost{p.c.nodeZone[n], p.stepCostAt(&p.order, op, n, &v)})
		}
	}
	p.byZones[op] = out
	return out
}

// idlest is the least busy node of each zone in a list of places.
func (p *problem) idlest(places []int32) []int32 {
	if l, ok := p.idle[&places[0]]; ok {
		return l
	}
	at := make(map[int32]int)
	var list []int32
	for _, n := range p.worth(places) {
		z := p.c.nodeZone[n]
		i, ok := at[z]
		switch {
		case !ok:
			at[z] = len(list)
			list = append(list, n)
		case p.util[n] < p.util[list[i]]:
			list[i] = n
		}
	}
	p.idle[&places[0]] = list
	return list
}

// available are the requirements that a step with an operator may be there for, at some progress.
func (p *problem) available(op int32, mask uint32) uint32 {
	m := p.meets[op] &^ mask
	for r := range p.after {
		if m&(1<<r) != 0 && p.after[r]&^mask != 0 {
			m &^= 1 << r
		}
	}
	return m
}

package plan

import (
	"container/heap"
	"context"
	"math"
	"slices"
)

// entry is an unfinished chain in the search: its last operator behind a parent's chain.
type entry struct {
	parent *entry
	op     int32
	open   int32 // the open type behind it; -1 until it is first taken from the queue
	mask   uint32
	req    int8 // the requirement the step is there for, or -1
	length int8
	done   bool    // the last operator is the end
	least  float64 // what no plan that begins so can be below
	seq    int64
	labels *labels // nil until it is first taken from the queue
	net    float64 // the least of the labels with the hops left
	left   float64 // the operators left, of the objective
}

type queue []*entry

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	switch {
	case a.least != b.least:
		return a.least < b.least
	case a.done != b.done:
		return a.done
	case a.length != b.length:
		return a.length > b.length
	}
	return a.seq < b.seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*entry)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}

// search is one run of A* over chains.
type search struct {
	p        *problem
	q        queue
	seq      int64
	seen     map[frontKey]*frontier
	examined int
	upper    float64 // the cost of the best plan known
	refund   float64 // what the bounds' prices put on top of the costs, at least
	best     *placed
	// factor times what no plan is below is assumed to be dearer than the best plan; assumed says that upper is that, and
	// not a plan's cost.
	factor   float64
	assumed  bool
	least    []float64 // of each bound resource, what the source and the hops take at least
	start    open
	expanded []*entry // for a proof
}

// outcome of a search: the best placed chain, if any, and what no plan is below.
type outcome struct {
	best     *placed
	cost     float64
	bound    float64 // +Inf when the search ended without leaving anything out
	examined int
	over     bool // nothing is left to search
	prices   vector
	expanded []*entry
}

// solve finds the best plan of the problem. Joint use of a node by several steps is left out at first and followed only
// at nodes where it was found to matter: leaving a limit out never raises a bound, so what the last round proves holds.
func (p *problem) solve(ctx context.Context) outcome {
	p.a = p.c.borrow()
	defer func() { p.c.give(p.a) }()
	total := outcome{cost: math.Inf(1)}
	if len(p.dims) == 0 {
		p.makeBounds()
		return p.rounds(ctx, total)
	}
	return p.solveBound(ctx)
}

// rounds searches until the plan does not crowd any node, from the best that is known.
func (p *problem) rounds(ctx context.Context, total outcome) outcome {
	refund := p.refund(p.prices)
	for try := 0; ; {
		s := &search{p: p, seen: make(map[frontKey]*frontier), upper: total.cost, best: total.best, refund: refund, factor: factors[try]}
		crowded := s.run(ctx)
		total.examined += s.examined
		if !s.assumed {
			total.cost, total.best = s.upper, s.best
		}
		if len(crowded) > 0 {
			p.tracked = append(p.tracked, crowded...)
			clear(p.cands) // nodes that another was better than may now be needed
			continue
		}
		if s.assumed && len(s.q) == 0 && s.upper < p.assumed() {
			try++
			continue
		}
		total.expanded = s.expanded
		total.bound, total.over = total.cost, len(s.q) == 0
		if len(s.q) > 0 {
			total.bound = min(total.cost, s.q[0].least-refund)
		}
		if s.assumed {
			total.bound, total.over = min(total.bound, s.upper), false
		}
		return total
	}
}

// factors are by how much the best plan is assumed to be dearer at most than the first lower bound; when there is none so
// cheap, the next one is tried.
var factors = [...]float64{1.1, 1.25, 1.6, 3, math.Inf(1)}

// run searches until the best plan is proven, ctx ends, or the best is seen to crowd nodes, which it returns.
func (s *search) run(ctx context.Context) (crowded []int32) {
	p := s.p
	s.begin()
	for len(s.q) > 0 && s.q[0].least-s.refund < s.upper {
		if s.examined++; s.examined%32 == 1 && ctx.Err() != nil {
			if s.best == nil {
				s.dive(maxDive)
			}
			return nil
		}
		e := heap.Pop(&s.q).(*entry)
		if !s.ready(e) {
			continue
		}
		if len(s.q) > 0 && s.q.less(e) {
			heap.Push(&s.q, e)
			continue
		}
		if e.done {
			if c := s.finish(e); c != nil {
				return c
			}
			continue
		}
		if s.dominated(e) {
			continue
		}
		if p.proving {
			s.expanded = append(s.expanded, e)
		}
		s.expand(e)
	}
	s.q = nil
	return nil
}

// ready works out what an entry was put into the queue without: how much its operators leave to do, beyond the radius
// that the bounds have, and its labels. false says that it is no beginning of a plan.
func (s *search) ready(e *entry) bool {
	if e.labels != nil {
		return true
	}
	if e.open < 0 && !s.unify(e) {
		return false
	}
	if !e.done {
		t := &s.p.a.opens[e.open]
		b := s.p.bounds
		b.settle(0, t.shape, t.about, e.mask, 1.25*b.ops[0].heap.least())
		left := b.operatorsLeft(0, t.shape, t.about, e.mask)
		if math.IsInf(left, 1) {
			return false
		}
		if left > e.left {
			e.left, e.least = left, max(e.least, e.net+left)
			if len(s.q) > 0 && s.q.less(e) {
				return true
			}
		}
	}
	return s.place(e)
}

// unify finds an entry's open type; false says that its last operator does not fit.
func (s *search) unify(e *entry) bool {
	e.open = s.p.a.then(e.parent.open, s.p.c.sig[e.op])
	return e.open >= 0
}

// less reports whether the head of the queue comes before e.
func (q queue) less(e *entry) bool { return q[0].least < e.least }

func (s *search) begin() {
	p := s.p
	o, err := p.a.start(p.from)
	if err != nil || math.IsInf(p.minCost[p.from], 1) || math.IsInf(p.minCost[p.to], 1) {
		return
	}
	s.start = p.a.opens[o]
	e := &entry{op: int32(p.from), open: o, req: -1, length: 1}
	t := &p.a.opens[o]
	if p.proving {
		for m := range p.metrics() {
			p.bounds.settle(m, t.shape, t.about, 0, math.Inf(1))
		}
		e.left = p.bounds.operatorsLeft(0, t.shape, t.about, 0)
	} else {
		e.left = s.aim()
	}
	if math.IsInf(e.left, 1) {
		return
	}
	e.labels = p.begin(p.from)
	if !s.bound(e) {
		return
	}
	s.least = p.leastFrom(e.labels)
	if !p.proving {
		guess := p.assumed()
		if g := (e.least - s.refund) * s.factor; g > 0 {
			guess = min(guess, g)
		}
		if guess < s.upper {
			s.upper, s.assumed = guess, true
		}
		p.bounds.narrow(0, s.upper+s.refund-e.net)
		p.bounds.settle(0, t.shape, t.about, 0, math.Inf(1))
		e.left = p.bounds.operatorsLeft(0, t.shape, t.about, 0)
		if e.least = e.net + e.left; e.least-s.refund >= s.upper {
			return
		}
		s.bindDims()
	}
	s.push(e)
}

// aim is the least that operators can take in all. A reverser that was narrowed before may be too narrow now.
func (s *search) aim() float64 {
	b := s.p.bounds
	if b.ops[0].past != nil {
		b.ops[0] = s.p.reverse(0)
	}
	return b.meet(0, s.start.shape, s.start.about)
}

// leastFrom is, of each bound resource, what the source and the hops beyond the least that any takes need at least.
func (p *problem) leastFrom(l *labels) []float64 {
	least, st := slices.Repeat([]float64{math.Inf(1)}, len(p.dims)), p.stride()
	for i, n := range l.nodes {
		for j := int(l.off[i]); j < int(l.off[i+1]); j++ {
			for m := range p.dims {
				least[m] = min(least[m], l.val[j*st+1+m]+p.bounds.net[1+m].at(p, n, 0))
			}
		}
	}
	return least
}

// bindDims works out the lower bounds on the bound resources.
func (s *search) bindDims() {
	p := s.p
	for i := range p.dims {
		if p.bounds.ops[1+i].past != nil {
			continue // from an earlier round
		}
		p.bounds.meet(1+i, s.start.shape, s.start.about)
		p.bounds.narrow(1+i, slack(p.lim[p.dims[i]])-s.least[i])
	}
}

func (s *search) push(e *entry) {
	s.seq++
	e.seq = s.seq
	heap.Push(&s.q, e)
}

// bound makes an entry's lower bound out of its labels; false says that there are none.
func (s *search) bound(e *entry) bool {
	p, st := s.p, s.p.stride()
	least := math.Inf(1)
	for i, n := range e.labels.nodes {
		net := 0.0
		if !e.done {
			net = p.bounds.net[0].at(p, n, e.mask)
		}
		for j := int(e.labels.off[i]); j < int(e.labels.off[i+1]); j++ {
			least = min(least, p.orderOf(e.labels.val[j*st:(j+1)*st])+net)
		}
	}
	e.net = least
	e.least = max(e.least, least+e.left)
	return !math.IsInf(least, 1)
}

// place makes an entry's labels when it is first taken.
func (s *search) place(e *entry) bool {
	p := s.p
	parent := e.parent
	if e.open < 0 && !s.unify(e) {
		return false
	}
	p.ceiling = s.upper + s.refund
	e.labels = p.extend(parent.labels, int(parent.op), int(e.op), p.a.opens[parent.open].o.Media(), p.restBehind(e))
	return s.bound(e)
}

// finish takes a chain that is complete and the best of all that are left. The nodes that it crowds are returned.
func (s *search) finish(e *entry) []int32 {
	p := s.p
	node, label, ok := e.labels.best(p.stride())
	if !ok {
		return nil
	}
	pl := p.trace(e, node, label)
	if c := p.crowds(&pl); len(c) > 0 {
		return c
	}
	if label[0] < s.upper {
		s.upper, s.best, s.assumed = label[0], &pl, false
	}
	return nil
}

// crowds lists the nodes on which the steps of a plan together take more than there is.
func (p *problem) crowds(pl *placed) (crowded []int32) {
	type use struct{ cpu, memory float64 }
	taken := make(map[int32]use)
	for i, node := range pl.nodes {
		v := p.stepVector(int(pl.ops[i]), node)
		u := taken[node]
		u.cpu, u.memory = u.cpu+v[resCPU], u.memory+v[resMemory]
		taken[node] = u
	}
	for _, node := range pl.nodes {
		u, there := taken[node]
		n := &p.c.nodes[node]
		if there && (n.Cores > 0 && u.cpu > n.Cores-n.Load+1e-12 || n.Memory > 0 && u.memory > float64(n.Memory)) {
			crowded = append(crowded, node)
		}
		delete(taken, node)
	}
	return crowded
}

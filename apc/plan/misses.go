package plan

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"ninja/operators"
)

// refuseTypes says what could not be made of what, or, when types fit, that no place carries them.
func (p *problem) refuseTypes(ctx context.Context, r Request) error {
	p.a = p.c.borrow()
	defer func() { p.c.give(p.a) }()
	x := p.explore()
	if x.reached {
		return p.refusePlaces()
	}
	ref := &Refusal{Reason: NoTypes}
	offer := p.c.ops[p.from].Spec.Out.String()
	for i, q := range p.req.Include {
		if x.progress&(1<<i) == 0 && p.after[i]&^x.progress == 0 {
			ref.Subject = q.Label
			ref.Misses = x.misses(func(op int32) bool { return p.meets[op]&(1<<i) != 0 })
			ref.Text = fmt.Sprintf("nothing makes %s from %s", p.wanted(1<<i), offer)
			break
		}
	}
	if ref.Subject == "" {
		ref.Subject = p.req.to()
		ref.Misses = x.misses(func(op int32) bool { return int(op) == p.to })
		ref.Text = fmt.Sprintf("nothing makes %s from %s", p.c.ops[p.to].Spec.In, offer)
		if len(p.req.Include) > 0 {
			ref.Text += " by way of what is required"
		}
	}
	if len(ref.Misses) == 0 {
		ref.Misses = p.nearMisses(x)
	}
	ref.Text = brief(ref.Text)
	set, names := p.conflict(r)
	ref.Conflict = names
	if !slices.Contains(names, ConflictOrder) && !slices.Contains(names, ConflictSteps) {
		ref.Missing = p.missing(x, ref.Misses)
	}
	switch {
	case len(ref.Misses) > 0:
		ref.Text += "; nearest: " + brief(ref.Misses[0].Why)
	case ref.Missing != nil:
		ref.Text += brief(fmt.Sprintf("; nearest: nothing converts %s, which %s offers, into %s, which %s wants", ref.Missing.Offers, ref.Missing.From, ref.Missing.Wants, ref.Missing.To))
	}
	near := p.nearestTypes(ctx, r, set)
	ref.Text += conflictText(names, r, near)
	if near != nil {
		near.Bounds, near.Without, near.WithoutOperators = p.req.Bounds, p.req.Without, p.req.WithoutOperators
		if p.feasible(ctx, *near) {
			ref.Nearest = near
		}
	}
	return ref
}

// wanted is what the operators that satisfy a requirement take.
func (p *problem) wanted(bit uint32) string {
	var in []string
	for op, meets := range p.meets {
		if meets&bit != 0 {
			in = append(in, p.c.ops[op].Spec.In.String())
		}
	}
	slices.Sort(in)
	in = slices.Compact(in)
	if len(in) > 3 {
		in = append(in[:3], "...")
	}
	return strings.Join(in, " or ")
}

// explored is how far types alone lead, places and costs forgotten.
type explored struct {
	p        *problem
	goes     func(op int32) bool
	reached  bool
	progress uint32 // the requirements that some chain meets, in an order that is allowed
	from     map[int32]int32
	taken    map[int32]bool // operators that something goes into
	order    []int32        // open types in the order they were reached
	made     []typeState    // the first of each progress
}

type typeState struct {
	open int32
	mask uint32
}

func (p *problem) explore() *explored { return p.exploreWhere(func(int32) bool { return true }) }

// exploreWhere goes only over operators that f allows; taken has the others too.
func (p *problem) exploreWhere(f func(op int32) bool) *explored {
	x := &explored{p: p, goes: f, from: make(map[int32]int32), taken: make(map[int32]bool)}
	start, err := p.a.start(p.from)
	if err != nil {
		return x
	}
	seen := map[typeState]bool{{start, 0}: true}
	layer := []typeState{{start, 0}}
	x.from[start], x.order, x.made = int32(p.from), []int32{start}, layer
	for n := 1; n < p.steps && len(layer) > 0; n++ {
		var next []typeState
		for _, s := range layer {
			next = x.step(s, seen, next)
		}
		layer = next
	}
	return x
}

func (x *explored) step(s typeState, seen map[typeState]bool, next []typeState) []typeState {
	p := x.p
	for _, sig := range p.t.byMedia[p.a.opens[s.open].o.Media()] {
		o := p.a.then(s.open, sig)
		if o < 0 {
			continue
		}
		for _, op := range p.t.opsOf[sig] {
			if x.taken[op] = true; !x.goes(op) {
				continue
			}
			if int(op) == p.to {
				x.reached = x.reached || s.mask == p.need
				continue
			}
			masks := []uint32{s.mask}
			if free := p.available(op, s.mask); free != 0 {
				masks = masks[:0]
				for r := range p.after {
					if free&(1<<r) != 0 {
						masks = append(masks, s.mask|1<<r)
					}
				}
			}
			for _, m := range masks {
				t := typeState{o, m}
				x.progress |= m
				if p.a.opens[o].shape < 0 || seen[t] {
					continue
				}
				seen[t] = true
				if _, known := x.from[o]; !known {
					x.from[o] = op
					x.order = append(x.order, o)
				}
				next = append(next, t)
				if !slices.ContainsFunc(x.made, func(o typeState) bool { return o.mask == m }) {
					x.made = append(x.made, t)
				}
			}
		}
	}
	return next
}

// misses are the reasons why what was reached does not go into operators of the same media type.
func (x *explored) misses(of func(op int32) bool) (out []Miss) {
	p := x.p
	seen := make(map[string]bool)
	for op := range p.c.ops {
		if !of(int32(op)) {
			continue
		}
		in := p.c.ops[op].Spec.In
		for _, o := range x.order {
			if p.a.opens[o].o.Media() != in.Media() || len(out) >= 8 {
				continue
			}
			from := p.c.ops[x.from[o]].Name
			_, err := p.a.opens[o].o.Then(from, operators.Link{Name: p.c.ops[op].Name, In: in, Out: p.c.ops[op].Spec.Out})
			var m *operators.Mismatch
			if err == nil || seen[err.Error()] {
				continue
			}
			seen[err.Error()] = true
			miss := Miss{From: from, To: p.c.ops[op].Name, Why: err.Error()}
			if errors.As(err, &m) {
				miss.From, miss.To = m.From, m.To
			}
			out = append(out, miss)
		}
	}
	return out
}

// refusePlaces says which operators that types lead to have nowhere to run.
func (p *problem) refusePlaces() error {
	r := &Refusal{Reason: NoPlace, Text: "the types fit, but no transport joins the nodes, or steps that have to share a node have no room there together"}
	x := p.exploreWhere(func(op int32) bool { return !math.IsInf(p.minCost[op], 1) })
	if x.reached {
		return r
	}
	var texts []string
	for op := range p.c.ops {
		if _, met := x.taken[int32(op)]; (met || op == p.from || op == p.to) && math.IsInf(p.minCost[op], 1) {
			r.Misses = append(r.Misses, Miss{To: p.c.ops[op].Name, Why: p.homeless(op)})
			texts = append(texts, r.Misses[len(r.Misses)-1].Why)
		}
	}
	if len(texts) > 0 {
		r.Subject = r.Misses[0].To
		r.Text = "the types fit, but " + strings.Join(texts[:min(len(texts), 4)], "; ")
	}
	return r
}

// homeless says why an operator has nowhere to run.
func (p *problem) homeless(op int) string {
	o := p.c.ops[op]
	if len(o.Places) == 0 {
		return fmt.Sprintf("no node runs %s", o.Name)
	}
	if !p.dataReachable(op) {
		return fmt.Sprintf("no node has the data of %s (%s)", o.Name, brief(strings.Join(o.Data, ", ")))
	}
	cpu, memory := 0.0, 0.0
	for _, n := range p.c.places[op] {
		c, m := p.c.nodes[n].room()
		cpu, memory = max(cpu, c), max(memory, m)
	}
	v := p.c.base[op]
	text := fmt.Sprintf("no node has room for %s", o.Name)
	if v[resCPU] > cpu {
		text += fmt.Sprintf(": cpu %g wanted, at most %.3g free", v[resCPU], cpu)
	}
	if v[resMemory] > memory {
		text += fmt.Sprintf(": memory %s wanted, at most %s free", bytesText(int64(v[resMemory])), bytesText(int64(memory)))
	}
	return text
}

// nearMisses are operators that would lead on to the end, as far as media types and meanings tell, but which nothing that
// can be made goes into: the ones with the least left behind them first.
func (p *problem) nearMisses(x *explored) []Miss {
	q := *p
	q.dims = nil
	q.makeBounds()
	type near struct {
		op   int32
		left float64
	}
	var found []near
	for op := range p.c.ops {
		a := &p.t.abs[p.c.sig[op]]
		if len(a.ins) == 0 || a.out < 0 || math.IsInf(q.minCost[op], 1) {
			continue
		}
		about := a.behind(aboutUnknown)
		mask := x.progress | p.available(int32(op), x.progress)
		q.bounds.settle(0, a.out, about, mask, math.Inf(1))
		if left := q.bounds.operatorsLeft(0, a.out, about, mask); !math.IsInf(left, 1) {
			found = append(found, near{int32(op), left})
		}
	}
	slices.SortStableFunc(found, func(a, b near) int {
		switch {
		case a.left < b.left:
			return -1
		case a.left > b.left:
			return 1
		}
		return 0
	})
	var out []Miss
	for _, n := range found {
		if !x.taken[n.op] {
			out = append(out, x.misses(func(op int32) bool { return op == n.op })...)
		}
		if len(out) >= 8 {
			return out[:8]
		}
	}
	return out
}

package plan

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// What a conflict may have in it beside requirements.
const (
	ConflictOrder = "order" // the order in which the requirements are wanted
	ConflictSteps = "steps" // the most steps that are allowed
)

// Conversion is what is missing between two operators: with it there would be a chain.
type Conversion struct {
	From   string `json:"from"`   // the operator that offers
	Offers string `json:"offers"` // its type, as far as it is decided
	To     string `json:"to"`     // the operator that wants, from which types lead on to the end
	Wants  string `json:"wants"`
}

// part is a request with some of its requirements; what must come before one that is left out must come before what
// comes after that.
func (r Request) part(set uint32) Request {
	before := make([]uint32, len(r.Include))
	for range r.Include { // the order, closed
		for i, q := range r.Include {
			for _, a := range q.After {
				before[i] |= 1<<a | before[a]
			}
		}
	}
	out := r
	out.Include = nil
	at := make(map[int]int)
	for i := range r.Include {
		if set&(1<<i) != 0 {
			at[i] = len(at)
		}
	}
	for i, q := range r.Include {
		if set&(1<<i) == 0 {
			continue
		}
		q.After = nil
		for a := range r.Include {
			if before[i]&set&(1<<a) != 0 {
				q.After = append(q.After, at[a])
			}
		}
		out.Include = append(out.Include, q)
	}
	return out
}

// inAnyOrder is a request without the order of its requirements.
func (r Request) inAnyOrder() Request {
	out := r
	out.Include = nil
	for _, q := range r.Include {
		q.After = nil
		out.Include = append(out.Include, q)
	}
	return out
}

// typesFit reports whether the types of some chain meet a request. An automaton is borrowed.
func (p *problem) typesFit(r Request) bool {
	q, err := newProblem(p.c, r)
	if err != nil {
		return false
	}
	q.a = p.a
	return q.explore().reached
}

// conflict finds a smallest set of requirements that no types meet together, and whether their order and the number of
// steps have a part in that.
func (p *problem) conflict(r Request) (set uint32, names []string) {
	set = p.smallestPart(r)
	s := r.part(set)
	for i, q := range r.Include {
		if set&(1<<i) != 0 {
			names = append(names, q.Label)
		}
	}
	if bits.OnesCount32(set) > 1 && p.typesFit(s.inAnyOrder()) {
		names = append(names, ConflictOrder)
	}
	if s.Steps > 0 && s.Steps < MaxSteps {
		if s.Steps = 0; p.typesFit(s) {
			names = append(names, ConflictSteps)
		}
	}
	return set, names
}

func (p *problem) smallestPart(r Request) uint32 {
	if !p.typesFit(r.part(0)) {
		return 0
	}
	n := len(r.Include)
	for i := range n {
		if !p.typesFit(r.part(1 << i)) {
			return 1 << i
		}
	}
	for i := range n {
		for j := range i {
			if set := uint32(1<<i | 1<<j); n > 2 && !p.typesFit(r.part(set)) {
				return set
			}
		}
	}
	set := uint32(1)<<n - 1
	for i := range n {
		if less := set &^ (1 << i); !p.typesFit(r.part(less)) {
			set = less
		}
	}
	return set
}

// nearestTypes is a request like this one that has a plan: in any order; with more steps, as few as will do; or without
// one of the requirements in conflict.
func (p *problem) nearestTypes(ctx context.Context, r Request, set uint32) *Request {
	try := func(q Request) *Request {
		if !p.typesFit(q) || !p.feasible(ctx, q) {
			return nil
		}
		return &q
	}
	if q := try(r.inAnyOrder()); q != nil {
		return q
	}
	for q := r; q.Steps > 0 && q.Steps < MaxSteps; {
		if q.Steps++; p.typesFit(q) {
			if p.feasible(ctx, q) {
				return &q
			}
			break
		}
	}
	all := uint32(1)<<len(r.Include) - 1
	for i := range r.Include {
		if set&(1<<i) == 0 {
			continue
		}
		if q := try(r.part(all &^ (1 << i))); q != nil {
			return q
		}
	}
	return nil
}

// conflictText is a sentence about a conflict and what would do.
func conflictText(names []string, r Request, near *Request) string {
	text := ""
	if len(names) > 1 {
		text = "; these cannot hold together: " + strings.Join(names, ", ")
	}
	switch {
	case near == nil:
	case len(near.Include) < len(r.Include):
		for i, q := range r.Include {
			if i == len(near.Include) || near.Include[i].Label != q.Label {
				return text + "; without " + q.Label + " there is a path"
			}
		}
	case near.Steps != r.Steps:
		text += fmt.Sprintf("; with %d steps there is a path", near.Steps)
	default:
		text += "; in another order there is a path"
	}
	return text
}

// missing is the one conversion after which types would lead on: over the nearest miss, if anything nearly fits; else to
// the end, from what can be made with most requirements met, to what then has least left to do. nil when no conversion
// would do.
func (p *problem) missing(x *explored, near []Miss) *Conversion {
	for _, m := range near {
		in := p.c.ops[p.c.byName.at(m.To)].Spec.In
		for _, o := range x.order {
			if p.c.ops[x.from[o]].Name == m.From && p.a.opens[o].o.Media() == in.Media() {
				return &Conversion{From: m.From, Offers: p.a.opens[o].o.String(), To: m.To, Wants: in.String()}
			}
		}
	}
	q := *p
	q.dims = nil
	q.makeBounds()
	var out *Conversion
	met, left := -1, math.Inf(1)
	for _, s := range x.made {
		if bits.OnesCount32(s.mask) < met {
			continue
		}
		for op := range p.c.ops {
			rest, ok := q.behind(int32(op), s.mask)
			n := bits.OnesCount32(s.mask)
			if !ok || n < met || n == met && rest >= left {
				continue
			}
			in, from := p.c.ops[op].Spec.In, s.open
			for _, o := range x.order { // of what can be made, rather what is nearly right
				if p.a.opens[o].o.Media() == in.Media() {
					from = o
					break
				}
			}
			met, left = n, rest
			out = &Conversion{From: p.c.ops[x.from[from]].Name, Offers: p.a.opens[from].o.String(), To: p.c.ops[op].Name, Wants: in.String()}
		}
	}
	return out
}

// behind is the least left once an operator has been reached at some progress; ok is false when nothing leads on.
func (p *problem) behind(op int32, mask uint32) (left float64, ok bool) {
	a := &p.t.abs[p.c.sig[op]]
	cost := p.minCost[op]
	switch {
	case math.IsInf(cost, 1) || int(op) == p.from:
		return 0, false
	case int(op) == p.to:
		return cost, mask == p.need
	case len(a.ins) == 0 && p.c.ops[op].Spec.In.IsZero() || a.out < 0:
		return 0, false
	}
	about := a.behind(aboutUnknown)
	if free := p.available(op, mask); free != 0 {
		mask |= free & -free
	}
	p.bounds.settle(0, a.out, about, mask, math.Inf(1))
	left = p.bounds.operatorsLeft(0, a.out, about, mask)
	return cost + left, !math.IsInf(left, 1)
}

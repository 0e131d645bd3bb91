package plan

import (
	"context"
	"slices"
	"strconv"
	"strings"
)

// ask is one thing that a request asks and could do without.
type ask struct {
	kind CauseKind
	at   int // the requirement, resource or position among the exclusions
}

// asks lists what a request asks beside its endpoints and weights. Their order is the order in which they are given up when a
// conflict is made smaller: what is left of a choice is then what a person can do most about.
func (r *Request) asks() (all []ask) {
	for i := range r.Without {
		all = append(all, ask{CauseNode, i})
	}
	for i := range r.WithoutOperators {
		all = append(all, ask{CauseOperator, i})
	}
	if len(r.Bounds.Domains) > 0 {
		all = append(all, ask{CauseDomains, 0})
	}
	if r.Steps > 0 && r.Steps < MaxSteps {
		all = append(all, ask{CauseSteps, 0})
	}
	if slices.ContainsFunc(r.Include, func(q Requirement) bool { return len(q.After) > 0 }) {
		all = append(all, ask{CauseOrder, 0})
	}
	for i := range r.Include {
		all = append(all, ask{CauseRequirement, i})
	}
	lim := r.Bounds.limits()
	none := Bounds{}.limits()
	for d := range resources {
		if lim[d] != none[d] {
			all = append(all, ask{CauseBound, d})
		}
	}
	return all
}

// keeping is the request with some of what it asks.
func (r Request) keeping(set []ask) Request {
	var part uint32
	var dims []int
	out := r
	out.Without, out.WithoutOperators, out.Steps = nil, nil, 0
	order, domains := false, []string(nil)
	for _, a := range set {
		switch a.kind {
		case CauseNode:
			out.Without = append(out.Without, r.Without[a.at])
		case CauseOperator:
			out.WithoutOperators = append(out.WithoutOperators, r.WithoutOperators[a.at])
		case CauseDomains:
			domains = r.Bounds.Domains
		case CauseSteps:
			out.Steps = r.Steps
		case CauseOrder:
			order = true
		case CauseRequirement:
			part |= 1 << a.at
		case CauseBound:
			dims = append(dims, a.at)
		}
	}
	out.Bounds = r.Bounds.only(dims)
	out.Bounds.Domains = domains
	out.Include = r.part(part).Include
	if !order {
		out = out.inAnyOrder()
	}
	return out
}

// causes finds a smallest set of what a request asks that cannot hold together: one thing if one alone is impossible,
// else two, else a set from which nothing can be taken away; and a request without one of these that has a plan. nil when
// the endpoints alone are too much, or when the time does not allow to tell.
func (p *problem) causes(ctx context.Context) (out []Cause, without *Request) {
	r, all := p.req, p.req.asks()
	impossible := func(set []ask) bool { return !p.feasible(ctx, r.keeping(set)) && ctx.Err() == nil }
	if impossible(nil) || ctx.Err() != nil {
		return nil, nil
	}
	set := p.smallestSet(all, impossible)
	if ctx.Err() != nil {
		return nil, nil
	}
	for i, a := range set {
		others := r.keeping(slices.Delete(slices.Clone(set), i, i+1))
		out = append(out, p.cause(ctx, a, others))
		if less := r.keeping(slices.DeleteFunc(slices.Clone(all), func(b ask) bool { return a == b })); without == nil && a.kind != CauseSteps && p.feasible(ctx, less) {
			without = &less
		}
	}
	return out, without
}

func (p *problem) smallestSet(all []ask, impossible func([]ask) bool) []ask {
	for _, a := range all {
		if impossible([]ask{a}) {
			return []ask{a}
		}
	}
	set := slices.Clone(all)
	for i := 0; i < len(set); { // nothing more can be taken away from what is left
		if less := slices.Delete(slices.Clone(set), i, i+1); impossible(less) {
			set = less
		} else {
			i++
		}
	}
	if len(set) == 2 {
		return set
	}
	for i, a := range all {
		for _, b := range all[i+1:] {
			if impossible([]ask{a, b}) {
				return []ask{a, b}
			}
		}
	}
	return set
}

// cause is an ask in words, with what would do instead of it among the others.
func (p *problem) cause(ctx context.Context, a ask, others Request) Cause {
	c, r := Cause{Kind: a.kind}, &p.req
	switch a.kind {
	case CauseNode:
		c.Name = r.Without[a.at]
	case CauseOperator:
		c.Name = r.WithoutOperators[a.at]
	case CauseRequirement:
		c.Name = r.Include[a.at].Label
	case CauseBound:
		c.Name, c.Asked = resourceNames[a.at], r.Bounds.text(a.at)
		if least := p.least(ctx, others, a.at); least != nil {
			c.Needed = least.text(a.at)
		}
	case CauseSteps:
		c.Asked = strconv.Itoa(r.Steps)
		for n := r.Steps + 1; n <= MaxSteps && ctx.Err() == nil; n++ {
			if others.Steps = n; p.feasible(ctx, others) {
				c.Needed = strconv.Itoa(n)
				break
			}
		}
	case CauseDomains:
		c.Asked = strings.Join(r.Bounds.Domains, ",")
		if free := p.c.solveOnly(ctx, others); free != nil {
			c.Needed = strings.Join(free.domains(r.Bounds.Domains), ",")
		}
	}
	return c
}

// domains are those given and all others that a plan crosses.
func (p *Plan) domains(given []string) []string {
	all := slices.Clone(given)
	for _, s := range p.Steps {
		if d := s.Node.ID.Domain(); !slices.Contains(all, d) {
			all = append(all, d)
		}
	}
	return all
}

package plan

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"ninja/connectors"
	"ninja/operators"
)

// ErrBudget is wrapped when ctx ended before any plan was found, so that nothing can be said either way.
var ErrBudget = errors.New("the time for planning ran out")

// Plan finds the best path that the request allows, and proves it. When ctx ends first, it returns the best plan so far,
// whose Bound is then below its Cost, or an error that wraps ErrBudget. Else the error is a *Refusal.
func (c *Catalogue) Plan(ctx context.Context, r Request) (*Plan, error) {
	p, err := newProblem(c, r)
	if err != nil {
		return nil, err
	}
	out := p.solve(ctx)
	switch {
	case out.best != nil:
		return p.result(&out)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("plan from %s to %s: %d chains were begun: %w", r.from(), r.to(), out.examined, ErrBudget)
	}
	return nil, p.refuse(ctx)
}

// result is the plan of a placed chain, its types ground.
func (p *problem) result(o *outcome) (*Plan, error) {
	b := o.best
	links := make([]operators.Link, len(b.ops))
	for i, op := range b.ops {
		links[i] = operators.Link{Name: p.c.ops[op].Name, In: p.c.ops[op].Spec.In, Out: p.c.ops[op].Spec.Out}
	}
	types, err := operators.Unify(links)
	if err != nil {
		return nil, fmt.Errorf("plan: the unifier refuses a chain that the search found: %w", err)
	}
	out := &Plan{Version: p.c.version, Cost: o.cost, Bound: o.bound, Examined: o.examined}
	var sum vector
	for i, op := range b.ops {
		v := p.stepVector(int(op), b.nodes[i])
		sum = sum.add(v)
		s := Step{
			Operator: p.c.ops[op], Name: p.c.ops[op].Name, Node: &p.c.nodes[b.nodes[i]], NodeID: string(p.c.nodes[b.nodes[i]].ID),
			Requirement: b.reqs[i], Cost: p.stepCost(int(op), b.nodes[i], &v),
			Latency: seconds(v[resLatency]), CPU: v[resCPU], Memory: int64(v[resMemory]), Price: v[resPrice], Quality: math.Exp(-v[resLoss]),
		}
		if i > 0 {
			s.In = types[i-1]
		}
		if i < len(types) {
			s.Out = types[i]
			v := p.hopVector(b.rides[i].t, int(p.c.nodeZone[b.nodes[i]]), int(p.c.nodeZone[b.nodes[i+1]]))
			sum = sum.add(v)
			out.Hops = append(out.Hops, hop(types[i], &b.rides[i], p.w.of(v), v))
		}
		out.Steps = append(out.Steps, s)
	}
	out.Latency, out.CPU, out.Memory, out.Price, out.Quality = seconds(sum[resLatency]), sum[resCPU], int64(sum[resMemory]), sum[resPrice], math.Exp(-sum[resLoss])
	if bound := p.req.Bounds.Latency; bound > 0 {
		out.Playout = max(bound-out.Latency, LeastPlayout)
	}
	return out, nil
}

func hop(t connectors.Type, r *ride, cost float64, v vector) Hop {
	return Hop{Type: t, Transport: r.t.Scheme, Trunk: r.trunk, Cost: cost, Latency: seconds(v[resLatency]), CPU: v[resCPU], Price: v[resPrice]}
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * 1e9)) }

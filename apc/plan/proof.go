package plan

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
)

// Proof is why no plan is better than one: all that someone needs who has the catalogue's parts, the request and the
// model, but not this package's search, to see it. It stands on two things.
//
// Tables are lower bounds on what is left to the end, which can be checked one operator and one hop at a time: what a
// state leaves is at most what a step from it costs and what is left behind that step. Table 0 is for the objective with
// Prices added for each unit of a bound resource; each further one is for a bound resource, by its name.
//
// Chains are the beginnings of paths that were looked beyond. Every other beginning is one of these with one more operator
// which does not fit; or cannot, by the tables, come to less than Cost (and what the bounds allow at the prices), or to
// what a bound allows; or has the same future as an earlier one of the chains that is at least as good; or has at its end
// an operator, or a node, that another one is at least as good as in everything.
type Proof struct {
	Version uint64  `json:"version"`
	Cost    float64 `json:"cost"`
	// Prices are by resource, in the objective's unit for a second, a core, a byte, the unit of price, and the natural
	// logarithm of 1/quality.
	Prices map[string]float64 `json:"prices,omitempty"`
	// Tracked are the nodes whose joint use by several steps had to be followed.
	Tracked []string     `json:"tracked,omitempty"`
	Tables  []ProofTable `json:"tables"`
	Chains  []ProofChain `json:"chains"`
}

// ProofTable is one resource's lower bounds.
type ProofTable struct {
	Resource string `json:"resource"` // "" is the objective
	// Operators are the least that the operators left take, and for each the least that any hop takes; a state that is not
	// there leads nowhere.
	Operators []ProofState `json:"operators"`
	// Hops are the least that the hops left take beyond that.
	Hops []ProofPlace `json:"hops"`
}

// ProofState is what an unfinished path has at its end: a shape (media type and names of parameters, joined by ;, with a ?
// behind those that have to be free), the value of the parameter about after = (or AboutNone when there is none, AboutAny
// when it is one of several, AboutFree when nothing has limited it, AboutOther for each value that no state names), and the requirements met, a bit for each position in Request.Include.
type ProofState struct {
	Shape string  `json:"shape"`
	About string  `json:"about"`
	Met   uint32  `json:"met"`
	Least float64 `json:"least"`
}

// What a proof says of the parameter about beside its values.
const (
	AboutNone  = "-"
	AboutAny   = "*"
	AboutFree  = "$"
	AboutOther = "?"
)

// ProofPlace is a node where an unfinished path has come to.
type ProofPlace struct {
	Node  string  `json:"node"`
	Met   uint32  `json:"met"`
	Least float64 `json:"least"`
}

// ProofChain is the chain of its parent (a position in Chains, -1 for the beginning) with one more operator.
type ProofChain struct {
	Parent      int    `json:"parent"`
	Operator    string `json:"operator"`
	Requirement int    `json:"requirement"` // that the step is there for, or -1
}

// Prove is Plan with the proof. The search is the same but leaves nothing to faster ways of seeing that a plan is the
// best. A plan that ctx left no time to prove has no proof: then the error wraps ErrBudget.
func (c *Catalogue) Prove(ctx context.Context, r Request) (*Plan, *Proof, error) {
	p, err := newProblem(c, r)
	if err != nil {
		return nil, nil, err
	}
	p.proving = true
	out := p.solve(ctx)
	switch {
	case out.best == nil && ctx.Err() == nil:
		return nil, nil, p.refuse(ctx)
	case !out.over:
		return nil, nil, fmt.Errorf("prove a plan from %s to %s: %w", r.from(), r.to(), ErrBudget)
	}
	plan, err := p.result(&out)
	if err != nil {
		return nil, nil, err
	}
	return plan, p.proof(&out), nil
}

func (p *problem) proof(o *outcome) *Proof {
	f := &Proof{Version: p.c.version, Cost: o.cost, Prices: make(map[string]float64)}
	for d, x := range o.prices {
		if x > 0 {
			f.Prices[resourceNames[d]] = x
		}
	}
	for _, n := range p.tracked {
		f.Tracked = append(f.Tracked, string(p.c.nodes[n].ID))
	}
	slices.Sort(f.Tracked)
	f.Tracked = slices.Compact(f.Tracked)
	for m := range p.metrics() {
		f.Tables = append(f.Tables, p.table(m))
	}
	at := make(map[*entry]int, len(o.expanded))
	for i, e := range o.expanded {
		at[e] = i
		parent := -1
		if e.parent != nil {
			parent = at[e.parent]
		}
		f.Chains = append(f.Chains, ProofChain{parent, p.c.ops[e.op].Name, int(e.req)})
	}
	return f
}

// table writes one metric's bounds out.
func (p *problem) table(metric int) (t ProofTable) {
	if metric > 0 {
		t.Resource = resourceNames[p.dims[metric-1]]
	}
	abouts := map[string]int32{AboutNone: aboutNone, AboutAny: aboutAny, AboutFree: aboutFree, AboutOther: int32(len(p.t.abouts))}
	for text, n := range p.t.abouts {
		abouts["="+text] = n
	}
	for mask := range p.need + 1 {
		for shape, s := range p.t.shapes {
			for text, about := range abouts {
				if x := p.bounds.operatorsLeft(metric, s, about, mask); !math.IsInf(x, 1) {
					t.Operators = append(t.Operators, ProofState{shape, text, mask, x})
				}
			}
		}
		for n := range p.c.nodes {
			if x := p.bounds.net[metric].at(p, int32(n), mask); !math.IsInf(x, 1) {
				t.Hops = append(t.Hops, ProofPlace{string(p.c.nodes[n].ID), mask, x})
			}
		}
	}
	slices.SortFunc(t.Operators, func(a, b ProofState) int {
		return cmp.Or(cmp.Compare(a.Met, b.Met), cmp.Compare(a.Shape, b.Shape), cmp.Compare(a.About, b.About))
	})
	return t
}

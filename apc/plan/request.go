package plan

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"ninja/connectors"
)

// MaxRequired and MaxSteps bound what one request may ask.
const (
	MaxRequired = 8
	MaxSteps    = 16
)

// Request asks for a path.
type Request struct {
	// From and To are the endpoints: operators of the catalogue by name, From without In, To without Out.
	From, To string
	// Source and Sink are endpoints outside the catalogue, in the place of From and To.
	Source, Sink *Endpoint `json:",omitempty"`
	// Include are steps that the path must have between its endpoints, each met by a step of its own.
	Include []Requirement
	// Bounds must hold. Weights say what is best among what they allow.
	Bounds  Bounds
	Weights Weights
	// Steps is the most steps between the endpoints; zero is MaxSteps, which it may not exceed.
	Steps int
	// Without names nodes that the plan must not use: they failed, or an alternative without them is wanted.
	Without []string
	// WithoutOperators names operators that the plan must not use.
	WithoutOperators []string
}

// Requirement is one step that must be there.
type Requirement struct {
	// Label is how the asker calls it: "?map-directions". For explanations.
	Label string
	// Any are the names of the operators that satisfy it; one of them will be there.
	Any []string
	// After are the positions in Include of the requirements that must come before this one. nil for all of them: in
	// any order.
	After []int
}

// Bounds are what a path may cost in all; a zero field is no bound.
type Bounds struct {
	// Latency is the sum of the steps' and hops' 99th percentiles: a conservative promise.
	Latency time.Duration
	// CPU is in cores, Memory in bytes, Price in the unit of operators.Cost.
	CPU    float64
	Memory int64
	Price  float64
	// Quality is the least product of the steps' qualities, at most 1.
	Quality float64
	// Domains are the trust domains (of the nodes' IDs) that data may cross; empty is any.
	Domains []string
}

// Weights turn resources into one cost, which the plan makes least. The zero value is DefaultWeights.
type Weights struct {
	Latency float64 // a second
	CPU     float64 // a core
	Memory  float64 // a GiB
	Price   float64 // the unit of operators.Cost
	Quality float64 // the natural logarithm of 1/quality
	Load    float64 // a core on a node whose cores are all taken, in proportion below
	Steps   float64 // a step: few operators are better
	Data    float64 // a MiB of external data that a node has to fetch
}

// DefaultWeights prefer a quick, good and short path on idle nodes.
func DefaultWeights() Weights {
	return Weights{Latency: 1, CPU: 0.2, Memory: 0.05, Price: 1, Quality: 4, Load: 1, Steps: 0.005, Data: 0.01}
}

// resources are what bounds bound; all are additive along a path.
const (
	resLatency = iota // seconds
	resCPU            // cores
	resMemory         // bytes
	resPrice
	resLoss // the natural logarithm of 1/quality
	resources
)

type vector [resources]float64

func (v vector) add(w vector) vector {
	for i := range v {
		v[i] += w[i]
	}
	return v
}

// limits are the bounds as a vector, infinite where there is none.
func (b Bounds) limits() vector {
	v := vector{math.Inf(1), math.Inf(1), math.Inf(1), math.Inf(1), math.Inf(1)}
	if b.Latency > 0 {
		v[resLatency] = b.Latency.Seconds()
	}
	if b.CPU > 0 {
		v[resCPU] = b.CPU
	}
	if b.Memory > 0 {
		v[resMemory] = float64(b.Memory)
	}
	if b.Price > 0 {
		v[resPrice] = b.Price
	}
	if b.Quality > 0 {
		v[resLoss] = -math.Log(b.Quality)
	}
	return v
}

func (w Weights) of(v vector) float64 {
	return w.Latency*v[resLatency] + w.CPU*v[resCPU] + w.Memory*v[resMemory]/(1<<30) + w.Price*v[resPrice] + w.Quality*v[resLoss]
}

// Check says what is wrong with a request in itself; Plan checks it too, against the catalogue.
func (r *Request) Check() error {
	b, w := r.Bounds, r.Weights
	if err := errors.Join(r.Source.check("source", r.From), r.Sink.check("sink", r.To)); err != nil {
		return err
	}
	switch {
	case len(r.Include) > MaxRequired:
		return fmt.Errorf("%d required operators: at most %d are allowed", len(r.Include), MaxRequired)
	case r.Steps < 0 || r.Steps > MaxSteps:
		return fmt.Errorf("%d steps: at most %d are allowed", r.Steps, MaxSteps)
	case b.Latency < 0 || !proper(b.CPU) || b.Memory < 0 || !proper(b.Price) || !(b.Quality >= 0 && b.Quality <= 1):
		return fmt.Errorf("bounds want finite numbers that are not negative, and a quality of at most 1")
	}
	for _, x := range []float64{w.Latency, w.CPU, w.Memory, w.Price, w.Quality, w.Load, w.Steps, w.Data} {
		if !proper(x) {
			return fmt.Errorf("weights want finite numbers that are not negative")
		}
	}
	for i, q := range r.Include {
		for _, a := range q.After {
			if a < 0 || a >= len(r.Include) || a == i {
				return fmt.Errorf("requirement %s: comes after number %d, which is not another requirement", q.Label, a)
			}
		}
	}
	if r.order() == nil {
		return fmt.Errorf("the order of the required operators goes round in a circle")
	}
	return nil
}

// order is one order of the requirements that the partial order allows, nil when there is none.
func (r *Request) order() []int {
	done, order := uint32(0), make([]int, 0, len(r.Include)+1)
	for len(order) < len(r.Include) {
		n := len(order)
		for i, q := range r.Include {
			if done&(1<<i) == 0 && !slices.ContainsFunc(q.After, func(a int) bool { return done&(1<<a) == 0 }) {
				done |= 1 << i
				order = append(order, i)
			}
		}
		if len(order) == n {
			return nil
		}
	}
	return order
}

// Plan is the best path that a request allows.
type Plan struct {
	// Version is the catalogue's.
	Version uint64 `json:"version"`
	// Steps are in the order of the data; the endpoints are the first and the last.
	Steps []Step `json:"steps"`
	// Hops[i] joins Steps[i] and Steps[i+1].
	Hops []Hop `json:"hops"`
	// Cost is the objective under the request's weights, Bound what no plan can be below. They are equal when the plan
	// is proven to be the best within the model; else a time budget ran out, and (Cost-Bound)/Cost is the gap.
	Cost  float64 `json:"cost"`
	Bound float64 `json:"bound"`
	// Latency is the sum of 99th percentiles; the others are sums and, for Quality, the product.
	Latency time.Duration `json:"latency"`
	CPU     float64       `json:"cpu"`
	Memory  int64         `json:"memory"`
	Price   float64       `json:"price"`
	Quality float64       `json:"quality"`
	// Playout is what the bound on the latency leaves for the buffer in front of a listener, but at least LeastPlayout; zero
	// without such a bound.
	Playout time.Duration `json:"playout,omitempty"`
	// Examined is how much work it was: chains begun.
	Examined int `json:"examined"`
}

// LeastPlayout is what a listener's buffer is left though the bound leaves less: one packet. Below it, the scheduling of the
// listener's own machine would be heard.
const LeastPlayout = 20 * time.Millisecond

// Proven reports whether no better plan exists within the model.
func (p *Plan) Proven() bool { return p.Cost-p.Bound <= 1e-9*max(1, p.Cost) }

// Step is one operator of a plan at its node.
type Step struct {
	Operator *Operator       `json:"-"`
	Name     string          `json:"operator"`
	Node     *Node           `json:"-"`
	NodeID   string          `json:"node"`
	In       connectors.Type `json:"in,omitzero"`
	Out      connectors.Type `json:"out,omitzero"`
	// Requirement is the position in Request.Include that the step is there for, or -1.
	Requirement int `json:"requirement"`
	// Cost is the step's share of the plan's cost; the rest is what it takes at its node.
	Cost    float64       `json:"cost"`
	Latency time.Duration `json:"latency"`
	CPU     float64       `json:"cpu"`
	Memory  int64         `json:"memory"`
	Price   float64       `json:"price"`
	Quality float64       `json:"quality"`
}

// Hop is what joins two steps.
type Hop struct {
	Type connectors.Type `json:"type"`
	// Transport is the scheme.
	Transport string        `json:"transport"`
	Trunk     bool          `json:"trunk,omitempty"` // over a trunk that is there already
	Cost      float64       `json:"cost"`
	Latency   time.Duration `json:"latency"`
	CPU       float64       `json:"cpu"`
	Price     float64       `json:"price"`
}

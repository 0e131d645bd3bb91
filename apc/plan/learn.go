package plan

import (
	"slices"
	"time"

	"ninja/ca"
	"ninja/operators"
)

// Costs learn what operators really cost at their nodes from what running paths report. No estimate comes of fewer than
// four reports, nor do a quarter of the reports, however far out, move one. Not safe for concurrent use.
type Costs struct {
	seen map[costKey]*samples
	most int
}

type costKey struct {
	operator string
	node     ca.ID
}

// Sample is one report of a running step: quantiles over the time since the last one.
type Sample struct {
	P50, P99 time.Duration
	CPU      float64 // cores
}

// Learned is what is known of an operator at a node.
type Learned struct {
	P50, P99 time.Duration
	CPU      float64
	Reports  int // since the first
}

const (
	keptSamples = 32 // the latest count, so that what changes is followed
	leastSample = 4
)

type samples struct {
	ring  []Sample
	count int
}

// NewCosts makes an empty memory for at most most pairs of operator and node; zero is 100,000. Beyond it, new pairs
// are not learned.
func NewCosts(most int) *Costs {
	if most <= 0 {
		most = 100_000
	}
	return &Costs{seen: make(map[costKey]*samples), most: most}
}

// Report takes a sample in. Samples with negative or impossible numbers are dropped: reports come from other nodes.
func (c *Costs) Report(operator string, node ca.ID, s Sample) {
	if s.P50 < 0 || s.P99 < s.P50 || s.P99 > time.Hour || !proper(s.CPU) || s.CPU > 1024 {
		return
	}
	k := costKey{operator, node}
	x := c.seen[k]
	if x == nil {
		if len(c.seen) >= c.most {
			return
		}
		x = &samples{}
		c.seen[k] = x
	}
	if x.count++; len(x.ring) < keptSamples {
		x.ring = append(x.ring, s)
	} else {
		x.ring[x.count%keptSamples] = s
	}
}

// Get is the estimate for an operator at a node; ok is false while there are too few reports.
func (c *Costs) Get(operator string, node ca.ID) (l Learned, ok bool) {
	x := c.seen[costKey{operator, node}]
	if x == nil || len(x.ring) < leastSample {
		return Learned{}, false
	}
	p50, p99, cpu := make([]time.Duration, 0, keptSamples), make([]time.Duration, 0, keptSamples), make([]float64, 0, keptSamples)
	for _, s := range x.ring {
		p50, p99, cpu = append(p50, s.P50), append(p99, s.P99), append(cpu, s.CPU)
	}
	slices.Sort(p50)
	slices.Sort(p99)
	slices.Sort(cpu)
	n := len(p50) - 1
	return Learned{P50: p50[n/2], P99: p99[n*3/4], CPU: cpu[n/2], Reports: x.count}, true
}

// Forget drops all that was learned at a node, when it restarts as something else.
func (c *Costs) Forget(node ca.ID) {
	for k := range c.seen {
		if k.node == node {
			delete(c.seen, k)
		}
	}
}

// Apply gives the operator's places the costs learned there; latency is the 99th percentile, as in descriptions. The
// operator's own Places are not changed.
func (c *Costs) Apply(o Operator) Operator {
	o.Places = slices.Clone(o.Places)
	for i := range o.Places {
		p := &o.Places[i]
		l, ok := c.Get(o.Name, p.Node)
		if !ok {
			continue
		}
		k := o.Spec.Cost
		if p.Cost != nil {
			k = *p.Cost
		}
		k.Latency, k.CPU = operators.Latency(l.P99), l.CPU
		p.Cost = &k
	}
	return o
}

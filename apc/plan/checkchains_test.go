package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"ninja/ca"
	"ninja/operators"
)

// checkChains goes over each chain with each operator behind it.
func (k *checker) checkChains() error {
	for i, c := range k.f.Chains {
		o := k.operator(c.Operator)
		var b *beginning
		switch {
		case o == nil || c.Parent >= i || (c.Parent < 0) != (o.Name == k.q.From):
			return fmt.Errorf("chain %d: %+v is no chain", i, c)
		case c.Parent < 0:
			b = k.begin(o)
		default:
			b = k.extend(k.chains[c.Parent], o, c.Requirement)
		}
		if b == nil || b.done {
			return fmt.Errorf("chain %d: %+v does not fit", i, c)
		}
		k.trim(b, i) // what an earlier one is as good as
		k.chains = append(k.chains, b)
		k.byKey[b.key] = i
		k.like[b.future] = append(k.like[b.future], i)
	}
	if len(k.chains) == 0 {
		if low := k.low(k.begin(k.operator(k.q.From))); low < k.f.Cost-allowance {
			return fmt.Errorf("no chains, and any path could come to %v", low)
		}
	}
	for i, b := range k.chains {
		for _, o := range k.ops {
			for _, r := range k.reasons(o, b.met) {
				if o.Name == k.q.To {
					r = -1
				}
				c := k.extend(b, o, r)
				if c == nil {
					continue
				}
				if _, there := k.byKey[c.key]; there || k.rivalled(o) {
					continue
				}
				k.trim(c, len(k.chains))
				if low := k.low(c); low < k.f.Cost-allowance {
					return fmt.Errorf("chain %d, %s, with %s behind it could come to %v", i, b.key, o.Name, low)
				}
			}
		}
	}
	return nil
}

// trim drops the labels that one of the first chains with the same future is at least as good as.
func (k *checker) trim(c *beginning, before int) {
	if c.done {
		return
	}
	for _, i := range k.like[c.future] {
		d := k.chains[i]
		if i >= before || len(d.ops) > len(c.ops) {
			continue
		}
		for n, labels := range c.labels {
			c.labels[n] = slices.DeleteFunc(labels, func(x []float64) bool {
				return slices.ContainsFunc(d.labels[n], func(y []float64) bool { return noMore(y, x) })
			})
		}
	}
}

func noMore(a, b []float64) bool {
	for i := range a {
		if a[i] > b[i]+1e-12 {
			return false
		}
	}
	return true
}

// rivalled reports whether another operator is at least as good in everything, and earlier where they are equal.
func (k *checker) rivalled(o *Operator) bool {
	plain := func(o *Operator) bool {
		return len(o.Data) == 0 && o.Name != k.q.To && !slices.ContainsFunc(o.Places, func(p Place) bool { return p.Cost != nil }) &&
			!slices.ContainsFunc(k.q.Include, func(q Requirement) bool { return slices.Contains(q.Any, o.Name) })
	}
	if !plain(o) {
		return false
	}
	v, earlier := costVector(o.Spec.Cost, o.Fixed), true
	for _, x := range k.ops {
		if x == o {
			earlier = false
			continue
		}
		w := costVector(x.Spec.Cost, x.Fixed)
		if plain(x) && x.Spec.In.String() == o.Spec.In.String() && x.Spec.Out.String() == o.Spec.Out.String() && samePlaces(x, o) &&
			slices.Equal(x.Spec.Transports, o.Spec.Transports) && noMore(w[:], v[:]) && (earlier || w != v) {
			return true
		}
	}
	return false
}

func samePlaces(a, b *Operator) bool {
	in := func(a, b *Operator) bool {
		for _, p := range a.Places {
			if !slices.ContainsFunc(b.Places, func(q Place) bool { return q.Node == p.Node }) {
				return false
			}
		}
		return true
	}
	return in(a, b) && in(b, a)
}

// low is what no path that begins so can be below.
func (k *checker) low(c *beginning) float64 {
	var shapes []string
	about := AboutNone
	if !c.done {
		for _, x := range k.shapes { // all that the type has: each of them says the truth
			names := strings.Split(strings.ReplaceAll(x, "?", ""), ";")
			if names[0] == c.open.Media() && slices.Equal(names[1:], c.open.Names()) && !slices.ContainsFunc(strings.Split(x, ";")[1:], func(n string) bool {
				return strings.HasSuffix(n, "?") && !c.open.Free(strings.TrimSuffix(n, "?"))
			}) {
				shapes = append(shapes, x)
			}
		}
		if v, has := c.open.Decided("about"); c.open.Free("about") {
			about = AboutFree
		} else if has {
			if about = "=" + v; v == "" {
				about = AboutAny
			} else if !slices.Contains(k.abouts, about) {
				about = AboutOther
			}
		}
	}
	left := func(m int) float64 {
		most := math.Inf(-1)
		for _, x := range shapes {
			most = max(most, k.left(m, x, about, c.met))
		}
		if len(shapes) == 0 {
			return math.Inf(1) // no state says that it leads anywhere
		}
		return most
	}
	best := math.Inf(1)
	for n, labels := range c.labels {
		for _, x := range labels {
			low := x[0]
			if !c.done {
				for i, d := range k.dims {
					low += k.price[d] * x[1+i]
				}
				low += left(0) + k.away(0, n, c.met) - k.refund
			}
			for i, d := range k.dims {
				rest := 0.0
				if !c.done {
					rest = left(1+i) + k.away(1+i, n, c.met)
				}
				if x[1+i]+rest > slack(k.limits[d])+1e-12 {
					low = math.Inf(1)
				}
			}
			best = min(best, low)
		}
	}
	return best
}

func (k *checker) begin(o *Operator) *beginning {
	open, err := operators.OpenOf(o.Name, o.Spec.Out)
	if err != nil {
		return nil
	}
	b := &beginning{ops: []*Operator{o}, open: open, labels: map[ca.ID][][]float64{}}
	for _, n := range k.nodes {
		if x := k.take(make([]float64, 1+len(k.dims)+2*len(k.f.Tracked)), o, n); x != nil {
			b.labels[n.ID] = [][]float64{x}
		}
	}
	k.name(b)
	return b
}

func (k *checker) name(b *beginning) {
	for _, o := range b.ops {
		b.key += o.Name + " "
	}
	b.key += fmt.Sprint(b.met)
	b.future = fmt.Sprint(b.open.Key(), " ", b.met, " ", b.ops[len(b.ops)-1].Spec.Transports)
}

// take adds a step to a label; nil when a tracked node has no room for it.
func (k *checker) take(x []float64, o *Operator, n *Node) []float64 {
	v, extra, ok := k.step(o, n)
	if !ok {
		return nil
	}
	x[0] += k.weigh(v) + extra
	for i, d := range k.dims {
		x[1+i] += v[d]
	}
	at := 1 + len(k.dims)
	for i, id := range k.f.Tracked {
		if id != string(n.ID) {
			continue
		}
		x[at+2*i] += v[1]
		x[at+2*i+1] += v[2]
		if n.Cores > 0 && x[at+2*i] > n.Cores-n.Load+1e-9 || n.Memory > 0 && x[at+2*i+1] > float64(n.Memory) {
			return nil
		}
	}
	return x
}

// extend is a chain with one more operator, or nil when it does not fit.
func (k *checker) extend(b *beginning, o *Operator, r int) *beginning {
	end, steps := o.Name == k.q.To, k.q.Steps
	if steps == 0 {
		steps = MaxSteps
	}
	if o.Spec.In.IsZero() || o.Spec.Out.IsZero() && !end || end && b.met != 1<<len(k.q.Include)-1 || !end && len(b.ops) > steps {
		return nil
	}
	open, err := b.open.Then("", o.Spec.Link())
	if err != nil {
		return nil
	}
	c := &beginning{ops: append(slices.Clone(b.ops), o), open: open, met: with(b.met, r), labels: map[ca.ID][][]float64{}, done: end}
	k.name(c)
	k.chain = c.ops
	at := len(c.ops) - 1
	for _, to := range k.nodes {
		if _, _, ok := k.step(o, to); !ok {
			continue
		}
		for _, from := range k.nodes {
			if len(b.labels[from.ID]) == 0 {
				continue
			}
			k.brute.nodes = make([]*Node, len(c.ops))
			k.brute.nodes[at-1], k.brute.nodes[at] = from, to
			for _, h := range k.brute.hops(at, b.open.Media()) {
				for _, x := range b.labels[from.ID] {
					y := slices.Clone(x)
					y[0] += k.weigh(h)
					for i, d := range k.dims {
						y[1+i] += h[d]
					}
					if y = k.take(y, o, to); y != nil {
						c.labels[to.ID] = best(c.labels[to.ID], y)
					}
				}
			}
		}
	}
	return c
}

// best keeps the labels that no other is at least as good as.
func best(set [][]float64, x []float64) [][]float64 {
	for _, y := range set {
		if noMore(y, x) {
			return set
		}
	}
	return append(slices.DeleteFunc(set, func(y []float64) bool { return noMore(x, y) }), x)
}

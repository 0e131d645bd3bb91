package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"ninja/ca"
	"ninja/operators"
)

// checker follows a proof with the brute force's arithmetic and the unifier. It uses nothing of the search.
type checker struct {
	*brute
	f      *Proof
	parts  Parts
	nodes  []*Node
	ops    []*Operator
	dims   []int
	limits vector
	price  vector
	refund float64
	least  []map[string]float64 // by table: operators
	hops   []map[string]float64 // by table: hops
	any    []float64            // by table: the least that a hop takes
	shapes []string
	abouts []string
	chains []*beginning
	byKey  map[string]int   // positions of chains by their names
	like   map[string][]int // positions of chains by their futures
}

// beginning is a chain, placed in every way that is worth it.
type beginning struct {
	ops    []*Operator
	open   operators.Open
	met    uint32
	key    string
	future string
	labels map[ca.ID][][]float64 // cost, bound resources, CPU and memory on each tracked node
	done   bool
}

const allowance = 1e-7 // for the rounding of sums

func checkProof(parts Parts, q Request, f *Proof) error {
	b := newBrute(parts, q)
	k := &checker{brute: b, f: f, parts: parts, byKey: map[string]int{}, like: map[string][]int{}, limits: q.Bounds.limits()}
	for i := range parts.Nodes {
		if b.allowed(&parts.Nodes[i]) {
			k.nodes = append(k.nodes, &parts.Nodes[i])
		}
	}
	for i := range parts.Operators {
		k.ops = append(k.ops, &parts.Operators[i])
	}
	if len(f.Tracked) == 0 {
		k.nodes = slices.DeleteFunc(slices.Clone(k.nodes), k.worse)
	}
	for d, l := range k.limits {
		if !math.IsInf(l, 1) {
			k.dims = append(k.dims, d)
			k.price[d] = f.Prices[resourceNames[d]]
			k.refund += k.price[d] * l
			if k.price[d] < 0 {
				return fmt.Errorf("a price below zero")
			}
		}
	}
	if err := k.readTables(); err != nil {
		return err
	}
	for m := range f.Tables {
		least := math.Inf(1)
		for _, from := range k.nodes {
			for _, to := range k.nodes {
				least = min(least, k.hop(m, from, to))
			}
		}
		if math.IsInf(least, 1) {
			least = 0
		}
		k.any = append(k.any, least)
		if err := k.checkOperators(m); err != nil {
			return fmt.Errorf("table %d: %w", m, err)
		}
		if err := k.checkHops(m); err != nil {
			return fmt.Errorf("table %d: %w", m, err)
		}
	}
	return k.checkChains()
}

// worse reports whether another node can take the place of one in every plan and is no worse, and earlier where they are
// equal. That holds while no joint use of a node has to be followed.
func (k *checker) worse(n *Node) bool {
	earlier := true
	for _, m := range k.nodes {
		if m == n {
			earlier = false
			continue
		}
		load := [2]float64{m.Load / max(m.Cores, 1), n.Load / max(n.Cores, 1)}
		cpu := [2]float64{free(m.Cores, m.Cores-m.Load), free(n.Cores, n.Cores-n.Load)}
		memory := [2]float64{free(float64(m.Memory), float64(m.Memory)), free(float64(n.Memory), float64(n.Memory))}
		if load[0] <= load[1] && cpu[0] >= cpu[1] && memory[0] >= memory[1] && m.Region == n.Region && slices.Equal(m.Transports, n.Transports) &&
			(earlier || load[0] < load[1] || cpu[0] > cpu[1] || memory[0] > memory[1]) && k.interchangeable(m, n) {
			return true
		}
	}
	return false
}

// free is what a node has left; without a limit that is all there is.
func free(limit, left float64) float64 {
	if limit == 0 {
		return math.Inf(1)
	}
	return left
}

func (k *checker) interchangeable(m, n *Node) bool {
	for _, x := range k.nodes {
		if k.trunk(m.ID, x.ID) || k.trunk(n.ID, x.ID) {
			return false
		}
	}
	for _, o := range k.ops {
		at := func(x *Node) int { return slices.IndexFunc(o.Places, func(p Place) bool { return p.Node == x.ID }) }
		i, j := at(m), at(n)
		if (i < 0) != (j < 0) || i >= 0 && (o.Places[i].Cost != nil || o.Places[j].Cost != nil || len(o.Data) > 0) {
			return false
		}
	}
	return true
}

func (k *checker) readTables() error {
	if len(k.f.Tables) != 1+len(k.dims) {
		return fmt.Errorf("%d tables for %d bounds", len(k.f.Tables), len(k.dims))
	}
	shapes, abouts := map[string]bool{}, map[string]bool{AboutNone: true, AboutAny: true, AboutOther: true}
	for m, t := range k.f.Tables {
		if m > 0 && t.Resource != resourceNames[k.dims[m-1]] {
			return fmt.Errorf("table %d is for %s", m, t.Resource)
		}
		ops, hops := map[string]float64{}, map[string]float64{}
		for _, s := range t.Operators {
			ops[fmt.Sprint(s.Shape, " ", s.About, " ", s.Met)] = s.Least
			shapes[s.Shape], abouts[s.About] = true, true
		}
		for _, p := range t.Hops {
			hops[fmt.Sprint(p.Node, " ", p.Met)] = p.Least
		}
		k.least, k.hops = append(k.least, ops), append(k.hops, hops)
	}
	for _, o := range k.ops { // a shape of which no state is there leads nowhere
		if !o.Spec.Out.IsZero() {
			shapes[k.shape(o)] = true
		}
	}
	for s := range shapes {
		k.shapes = append(k.shapes, s)
	}
	for a := range abouts {
		k.abouts = append(k.abouts, a)
	}
	return nil
}

func lookup(m map[string]float64, key string) float64 {
	if x, ok := m[key]; ok {
		return x
	}
	return math.Inf(1)
}

func (k *checker) left(m int, shape, about string, met uint32) float64 {
	return lookup(k.least[m], fmt.Sprint(shape, " ", about, " ", met))
}

func (k *checker) away(m int, n ca.ID, met uint32) float64 {
	return lookup(k.hops[m], fmt.Sprint(n, " ", met))
}

// metric is a table's measure of a step or hop.
func (k *checker) metric(m int, v vector, extra float64) float64 {
	if m > 0 {
		return v[k.dims[m-1]]
	}
	cost := k.weigh(v) + extra
	for d := range v {
		cost += k.price[d] * v[d]
	}
	return cost
}

// step is what an operator takes at a node; ok is false when it cannot be there.
func (k *checker) step(o *Operator, n *Node) (v vector, extra float64, ok bool) {
	for _, pl := range o.Places {
		if pl.Node != n.ID {
			continue
		}
		c := o.Spec.Cost
		if pl.Cost != nil {
			c = *pl.Cost
		}
		v = vector{float64(c.Latency) / 1e9, c.CPU, float64(c.Memory), c.Price, 0}
		if o.Fixed {
			v[2] = 0
		}
		if c.Quality > 0 {
			v[4] = -math.Log(c.Quality)
		}
		extra = k.w.Load*(n.Load/max(n.Cores, 1))*(v[1]+0.01) + k.w.Steps
		for _, ref := range o.Data {
			for _, d := range k.parts.Data {
				if d.Ref == ref && !slices.Contains(d.Nodes, n.ID) {
					extra += k.w.Data * float64(d.Size) / (1 << 20)
				}
			}
		}
		ok = (n.Cores == 0 || v[1] <= n.Cores-n.Load+1e-9) && (n.Memory == 0 || v[2] <= float64(n.Memory))
		return v, extra, ok
	}
	return v, 0, false
}

// steps are the requirements that an operator may be there for, -1 when it is there for none.
func (k *checker) reasons(o *Operator, met uint32) (out []int) {
	for r, q := range k.q.Include {
		ready := met&(1<<r) == 0 && slices.Contains(q.Any, o.Name)
		for _, a := range q.After {
			ready = ready && met&(1<<a) != 0
		}
		if ready {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return []int{-1}
	}
	return out
}

func with(met uint32, r int) uint32 {
	if r < 0 {
		return met
	}
	return met | 1<<r
}

// checkOperators: no state leaves more than any operator that may come next takes, with what is left behind that.
func (k *checker) checkOperators(m int) error {
	for _, o := range k.ops {
		if o.Spec.In.IsZero() || o.Name == k.q.From {
			continue
		}
		least := math.Inf(1)
		for _, n := range k.nodes {
			if v, extra, ok := k.step(o, n); ok {
				least = min(least, k.metric(m, v, extra)+k.any[m])
			}
		}
		for _, s := range k.shapes {
			names := strings.Split(strings.ReplaceAll(s, "?", ""), ";")
			if names[0] != o.Spec.In.Media() || slices.ContainsFunc(o.Spec.In.Names(), func(p string) bool { return !slices.Contains(names[1:], p) }) {
				continue
			}
			if slices.ContainsFunc(strings.Split(s, ";")[1:], func(n string) bool {
				_, takes := probe(o, names[1:], strings.TrimSuffix(n, "?"))
				return strings.HasSuffix(n, "?") && !takes
			}) {
				continue // what is free would go lost
			}
			for _, about := range k.abouts {
				if (about == AboutNone) == slices.Contains(names[1:], "about") {
					continue
				}
				if _, takes := probe(o, names[1:], "about"); about == AboutFree && !takes {
					continue
				}
				for met := range uint32(1) << len(k.q.Include) {
					if err := k.checkStep(m, o, least, s, about, met); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func (k *checker) checkStep(m int, o *Operator, least float64, shape, about string, met uint32) error {
	has := k.left(m, shape, about, met)
	wants := o.Spec.In.Values("about")
	if about == AboutOther && wants != nil || about[0] == '=' && wants != nil && !slices.Contains(wants, about[1:]) || about == AboutNone && o.Spec.In.Param("about") != "" {
		return nil // does not fit
	}
	if o.Name == k.q.To {
		if met == 1<<len(k.q.Include)-1 && has > least+allowance {
			return fmt.Errorf("%s %s %d leaves %v, the end takes %v", shape, about, met, has, least)
		}
		return nil
	}
	if o.Spec.Out.IsZero() {
		return nil
	}
	next := k.shape(o)
	for _, then := range k.means(o, strings.Split(strings.ReplaceAll(shape, "?", ""), ";")[1:], about) {
		for _, r := range k.reasons(o, met) {
			if x := least + k.left(m, next, then, with(met, r)); has > x+allowance {
				return fmt.Errorf("%s %s %d leaves %v, but over %s to %s %s it is %v", shape, about, met, has, o.Name, next, then, x)
			}
		}
	}
	return nil
}

// probe is what an operator makes of a type of which one parameter is free and all others suit it; takes is false when the
// free one would go lost undecided.
func probe(o *Operator, names []string, free string) (out operators.Open, takes bool) {
	in := o.Spec.In.Media()
	for _, n := range names {
		text := o.Spec.In.Param(n)
		if _, limit, ok := strings.Cut(text, ":"); ok && text[0] == '$' {
			text = limit
		}
		switch {
		case n == free:
			text = "*"
		case text == "" || text == "*" || text[0] == '$':
			text = "1"
		}
		in += ";" + n + "=" + text
	}
	open, err := operators.OpenOf("", operators.MustPattern(in))
	if err != nil {
		return open, false
	}
	out, err = open.Then("", o.Spec.Link())
	return out, err == nil
}

// shape is what an operator makes, with a ? behind what nothing limits.
func (k *checker) shape(o *Operator) string {
	alone, err := operators.OpenOf("", o.Spec.Out)
	if err != nil {
		return ""
	}
	text := o.Spec.Out.Media()
	for _, n := range o.Spec.Out.Names() {
		text += ";" + n
		if n != "about" && alone.Free(n) && !flows(o, n) {
			text += "?"
		}
	}
	return text
}

// flows reports whether an output parameter depends on the input.
func flows(o *Operator, name string) bool {
	v := o.Spec.Out.Variable(name)
	return v != "" && slices.ContainsFunc(o.Spec.In.Names(), func(n string) bool { return o.Spec.In.Variable(n) == v })
}

// means is what may be known of about behind an operator.
func (k *checker) means(o *Operator, names []string, about string) []string {
	in, out := o.Spec.In, o.Spec.Out
	values := func(v []string) (all []string) {
		for _, x := range v {
			if x = "=" + x; !slices.Contains(k.abouts, x) {
				x = AboutOther
			}
			all = append(all, x)
		}
		return all
	}
	known := slices.DeleteFunc(slices.Clone(k.abouts), func(a string) bool { return a == AboutFree || a == AboutNone })
	alone, err := operators.OpenOf("", out)
	switch v := out.Values("about"); {
	case out.Param("about") == "" || err != nil:
		return []string{AboutNone}
	case len(v) == 1:
		return values(v)
	case out.Variable("about") != "" && out.Variable("about") == in.Variable("about") && about == AboutFree:
		behind, _ := probe(o, names, "about")
		if behind.Free("about") {
			return []string{AboutFree}
		}
		return append(values(append(in.Values("about"), v...)), AboutAny)
	case out.Variable("about") != "" && out.Variable("about") == in.Variable("about") && about != AboutAny:
		return []string{about}
	case out.Variable("about") != "" && out.Variable("about") == in.Variable("about"):
		return append(values(append(in.Values("about"), v...)), AboutAny)
	case flows(o, "about"): // something else decides it
		return append(known, AboutFree)
	case alone.Free("about"):
		return []string{AboutFree}
	default: // a set
		return known
	}
}

// checkHops: no node leaves more than any hop from it takes, with what is left from where that leads.
func (k *checker) checkHops(m int) error {
	all := uint32(1)<<len(k.q.Include) - 1
	for met := range all + 1 {
		for _, to := range k.nodes {
			for _, o := range k.ops {
				_, _, ok := k.step(o, to)
				if !ok || o.Spec.In.IsZero() || o.Name == k.q.To && met != all {
					continue
				}
				for _, r := range k.reasons(o, met) {
					behind := 0.0
					if o.Name != k.q.To {
						behind = k.away(m, to.ID, with(met, r))
					}
					for _, from := range k.nodes {
						if x := k.hop(m, from, to) - k.any[m] + behind; k.away(m, from.ID, met) > x+allowance {
							return fmt.Errorf("%s %d leaves %v, but over %s at %s it is %v", from.ID, met, k.away(m, from.ID, met), o.Name, to.ID, x)
						}
					}
				}
			}
		}
	}
	return nil
}

// hop is the least that any hop takes, whatever it carries.
func (k *checker) hop(m int, from, to *Node) float64 {
	least := math.Inf(1)
	for _, t := range k.transports() {
		v := vector{t.Latency.Seconds(), t.CPU}
		if t.Local != (from == to) && t.Local || !t.Local && !(speaks(from.Transports, t.Scheme) && speaks(to.Transports, t.Scheme)) {
			continue
		}
		if !t.Local {
			v[0] += k.lat[[2]string{from.Region, to.Region}]
			v[3] += k.brute.price[[2]string{from.Region, to.Region}]
		}
		least = min(least, k.metric(m, v, 0))
		if t.Trunk != nil && !t.Local && k.trunk(from.ID, to.ID) {
			v[0] += (t.Trunk.Latency - t.Latency).Seconds()
			v[1] = t.Trunk.CPU
			least = min(least, k.metric(m, v, 0))
		}
	}
	return least
}

func (k *checker) transports() []Transport {
	if k.parts.Transports == nil {
		return Transports()
	}
	return k.parts.Transports
}

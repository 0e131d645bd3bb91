package plan

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/operators"
)

// scale multiplies the counts of the long tests.
func scale() int {
	n, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// randomInstance makes a small world in which most things nearly fit.
func randomInstance(r *rand.Rand) (Parts, Request) {
	var p Parts
	nodes := 2 + r.IntN(3)
	regions := []string{"", "far", "moon"}[:1+r.IntN(3)]
	p.Transports = []Transport{
		{Scheme: "mem", Local: true}, {Scheme: "tcp", Latency: time.Millisecond, CPU: 0.01},
		{Scheme: "tcp", Media: "a/", Latency: 3 * time.Millisecond}, {Scheme: "rtp", Media: "a/", Latency: 2 * time.Millisecond, CPU: 0.1},
		{Scheme: "udp", Latency: 500 * time.Microsecond, Loses: true},
	}
	for i := range nodes {
		n := Node{ID: ca.ID(fmt.Sprintf("spiffe://%s/proxy/%d", pick(r, "d1", "d1", "d2"), i)), Region: pick(r, regions...), Load: pick(r, 0, 0.5, 1)}
		n.Cores, n.Memory = pick(r, 0.0, 1.5, 2, 4), pick[int64](r, 0, 3, 6)
		n.Transports = pick(r, nil, nil, nil, nil, []string{"tcp"}, []string{"mem", "rtp"})
		p.Nodes = append(p.Nodes, n)
	}
	for range r.IntN(3) {
		p.Links = append(p.Links, Link{From: pick(r, regions...), To: pick(r, regions...), Latency: time.Duration(r.IntN(30)) * time.Millisecond, Price: pick(r, 0, 0, 0.5)})
	}
	if r.IntN(2) == 0 {
		p.Transports[1].Trunk = &TrunkCost{Latency: 500 * time.Microsecond, CPU: pick(r, 0, 0.02)}
		p.Transports[3].Trunk = &TrunkCost{Latency: time.Millisecond, CPU: 0.05}
		for range 1 + r.IntN(3) {
			p.Trunks = append(p.Trunks, Trunk{pick(r, p.Nodes...).ID, pick(r, p.Nodes...).ID})
		}
	}
	p.Data = []Data{{Ref: "s@x", Size: 1 << 20, Nodes: []ca.ID{p.Nodes[0].ID}}}
	add := func(name, in, out string, most int) {
		o := op(name, in, out, time.Duration(r.IntN(20))*time.Millisecond, pick(r, 0, 0.25, 0.5, 1), int64(r.IntN(3)))
		o.Spec.Cost.Price, o.Spec.Cost.Quality = pick(r, 0.0, 0, 1), pick(r, 0, 1, 0.9, 0.5)
		o.Fixed = r.IntN(5) == 0
		o.Spec.Transports = pick(r, nil, nil, nil, nil, nil, nil, []string{"mem", "tcp"}, []string{"rtp"}, []string{"tcp", "udp"}, []string{"udp", "mem"})
		for _, i := range r.Perm(nodes)[:1+r.IntN(min(most, nodes))] {
			pl := Place{Node: p.Nodes[i].ID}
			if r.IntN(6) == 0 {
				k := o.Spec.Cost
				k.Latency, k.CPU = k.Latency*3, k.CPU/2
				pl.Cost = &k
			}
			o.Places = append(o.Places, pl)
		}
		if r.IntN(8) == 0 {
			o.Data = []string{"s@x"}
		}
		p.Operators = append(p.Operators, o)
	}
	ground := func() string {
		return pick(r, "a/x;r=8", "a/x;r=16", "a/y;r=8", "t/p;about=k", "t/p;about=l", "t/q;about=k")
	}
	loose := func(g string) string { // a pattern that takes the type
		switch {
		case r.IntN(3) > 0:
			return g
		case g[0] == 'a':
			return g[:3] + pick(r, "", ";r=$v", ";r=$v:4..20", ";r=8|16")
		}
		return g[:3] + pick(r, "", ";about=$v", ";about=k|l", ";about=*")
	}
	// A chain that fits goes in first, so that most worlds have a plan; then rivals, and what fits nowhere.
	at, spine := ground(), r.IntN(4)
	add("from", "", at, 2)
	n := 0
	for range spine {
		next := ground()
		add(fmt.Sprintf("o%d", n), loose(at), next, 3)
		n++
		if r.IntN(2) == 0 {
			add(fmt.Sprintf("o%d", n), loose(at), next, 3)
			n++
		}
		at = next
	}
	add("to", loose(at), "", 2)
	for range 2 + r.IntN(3) {
		in := pick(r, "a/x;r=$v", "a/x", "a/x;r=8", "a/x;r=$v:4..12", "a/y;r=$v", "a/y", "a/y;r=16", "t/p;about=$v", "t/p", "t/p;about=k", "t/p;about=l", "t/q;about=$v", "t/q;about=k|l")
		out := pick(r, "a/x;r=$v", "a/x;r=8", "a/x;r=$w:4..32", "a/x;r=8|16", "a/y;r=$v", "a/y;r=16", "t/p;about=$v", "t/p;about=$w", "t/p;about=k", "t/q;about=$v", "t/q;about=k|l", "t/p;about=$w:k|l;x=$w")
		add(fmt.Sprintf("o%d", n), in, out, 3)
		n++
	}
	q := Request{From: "from", To: "to", Steps: 2 + r.IntN(3)}
	for i := range pick(r, 0, 0, 1, 1, 1, 2, 3) {
		req := Requirement{Label: fmt.Sprintf("?%d", i)}
		for range 1 + r.IntN(2) {
			req.Any = append(req.Any, fmt.Sprintf("o%d", r.IntN(pick(r, n, max(spine, 1)))))
		}
		if i > 0 && r.IntN(2) == 0 {
			req.After = []int{r.IntN(i)}
		}
		q.Include = append(q.Include, req)
	}
	if r.IntN(2) == 0 {
		q.Bounds = Bounds{
			Latency: pick(r, 0, 0, 30*time.Millisecond, 60*time.Millisecond), CPU: pick(r, 0, 0, 1.1), Memory: pick[int64](r, 0, 0, 2),
			Price: pick(r, 0.0, 0, 1), Quality: pick(r, 0, 0, 0.6),
		}
		if r.IntN(4) == 0 {
			q.Bounds.Domains = []string{"d1"}
		}
	}
	if r.IntN(3) == 0 {
		q.Weights = Weights{Latency: r.Float64(), CPU: r.Float64(), Price: r.Float64(), Quality: r.Float64(), Load: pick(r, 0, 1.0), Steps: pick(r, 0, 0.01)}
	}
	return p, q
}

// brute is the model written down with no thought of speed, and none of the search's code.
type brute struct {
	p     Parts
	q     Request
	w     Weights
	lat   map[[2]string]float64
	price map[[2]string]float64
	best  float64
	chain []*Operator
	nodes []*Node
	types bool // places do not matter
}

func newBrute(p Parts, q Request) *brute {
	b := &brute{p: p, q: q, w: q.Weights, best: math.Inf(1), lat: map[[2]string]float64{}, price: map[[2]string]float64{}}
	if b.w == (Weights{}) {
		b.w = DefaultWeights()
	}
	var regions []string
	for _, n := range p.Nodes {
		regions = append(regions, n.Region)
	}
	for _, x := range regions {
		for _, y := range regions {
			b.lat[[2]string{x, y}] = 0.020
		}
		b.lat[[2]string{x, x}] = 0.001
	}
	for _, l := range p.Links {
		for _, k := range [][2]string{{l.From, l.To}, {l.To, l.From}} {
			if _, ok := b.lat[k]; ok {
				b.lat[k], b.price[k] = l.Latency.Seconds(), l.Price
			}
		}
	}
	for range regions { // to a fixed point
		for _, x := range regions {
			for _, y := range regions {
				for _, via := range regions {
					k, a, c := [2]string{x, y}, [2]string{x, via}, [2]string{via, y}
					b.lat[k] = min(b.lat[k], b.lat[a]+b.lat[c])
					b.price[k] = min(b.price[k], b.price[a]+b.price[c])
				}
			}
		}
	}
	return b
}

func (b *brute) operator(name string) *Operator {
	for i := range b.p.Operators {
		if b.p.Operators[i].Name == name {
			return &b.p.Operators[i]
		}
	}
	return nil
}

func (b *brute) node(id ca.ID) *Node {
	for i := range b.p.Nodes {
		if b.p.Nodes[i].ID == id {
			return &b.p.Nodes[i]
		}
	}
	return nil
}

func (b *brute) run() float64 {
	for steps := 0; steps <= b.q.Steps; steps++ {
		b.chain = []*Operator{b.operator(b.q.From)}
		b.chains(steps)
	}
	return b.best
}

func (b *brute) chains(left int) {
	if left == 0 {
		b.chain = append(b.chain, b.operator(b.q.To))
		b.judge()
		b.chain = b.chain[:len(b.chain)-1]
		return
	}
	for i := range b.p.Operators {
		o := &b.p.Operators[i]
		if o.Spec.In.IsZero() || o.Spec.Out.IsZero() || o.Spec.In.Media() != b.chain[len(b.chain)-1].Spec.Out.Media() {
			continue
		}
		b.chain = append(b.chain, o)
		b.chains(left - 1)
		b.chain = b.chain[:len(b.chain)-1]
	}
}

func (b *brute) judge() {
	var links []operators.Link
	for _, o := range b.chain {
		links = append(links, o.Spec.Link())
	}
	types, err := operators.Unify(links)
	if err != nil || !b.includes(0, map[int]int{}) {
		return
	}
	if b.types {
		b.best = 0
		return
	}
	b.nodes = nil
	b.place(types, 0, vector{})
}

// includes tries every way to give each requirement a step of its own.
func (b *brute) includes(r int, at map[int]int) bool {
	if r == len(b.q.Include) {
		for i, q := range b.q.Include {
			for _, a := range q.After {
				if at[a] > at[i] {
					return false
				}
			}
		}
		return true
	}
	for i := 1; i < len(b.chain)-1; i++ {
		taken := false
		for j := range r {
			taken = taken || at[j] == i
		}
		for _, name := range b.q.Include[r].Any {
			if !taken && b.chain[i].Name == name {
				at[r] = i
				if b.includes(r+1, at) {
					return true
				}
			}
		}
	}
	return false
}

func speaks(list []string, scheme string) bool {
	for _, s := range list {
		if s == scheme {
			return true
		}
	}
	return len(list) == 0
}

func (b *brute) place(types []connectors.Type, cost float64, used vector) {
	i := len(b.nodes)
	if i == len(b.chain) {
		if b.within(used) && cost < b.best {
			b.best = cost
		}
		return
	}
	o := b.chain[i]
	for _, pl := range o.Places {
		n := b.node(pl.Node)
		if !b.allowed(n) {
			continue
		}
		k := o.Spec.Cost
		if pl.Cost != nil {
			k = *pl.Cost
		}
		v := vector{time.Duration(k.Latency).Seconds(), k.CPU, float64(k.Memory), k.Price, 0}
		if o.Fixed {
			v[2] = 0
		}
		if k.Quality > 0 {
			v[4] = -math.Log(k.Quality)
		}
		step := b.weigh(v) + b.w.Load*(n.Load/max(n.Cores, 1))*(v[1]+0.01) + b.w.Steps
		if len(o.Data) > 0 && n.ID != b.p.Data[0].Nodes[0] {
			step += b.w.Data
		}
		b.nodes = append(b.nodes, n)
		if i == 0 {
			b.place(types, cost+step, used.add(v))
		} else {
			for _, h := range b.hops(i, types[i-1].Media()) {
				b.place(types, cost+step+b.weigh(h), used.add(v).add(h))
			}
		}
		b.nodes = b.nodes[:i]
	}
}

func (b *brute) weigh(v vector) float64 {
	return b.w.Latency*v[0] + b.w.CPU*v[1] + b.w.Memory*v[2]/(1<<30) + b.w.Price*v[3] + b.w.Quality*v[4]
}

func (b *brute) hops(i int, media string) (out []vector) {
	from, to := b.nodes[i-1], b.nodes[i]
	best := map[string]Transport{}
	for _, t := range b.p.Transports {
		if old, ok := best[t.Scheme]; len(media) >= len(t.Media) && media[:len(t.Media)] == t.Media && (!ok || len(old.Media) < len(t.Media)) {
			best[t.Scheme] = t
		}
	}
	for _, t := range best {
		if !reachedBy(b.chain[i-1], t) || !reachedBy(b.chain[i], t) {
			continue
		}
		v := vector{t.Latency.Seconds(), t.CPU}
		if t.Local {
			if from == to {
				out = append(out, v)
			}
			continue
		}
		if speaks(from.Transports, t.Scheme) && speaks(to.Transports, t.Scheme) {
			k := [2]string{from.Region, to.Region}
			v[0] += b.lat[k]
			v[3] += b.price[k]
			out = append(out, v)
			if t.Trunk != nil && b.trunk(from.ID, to.ID) {
				out = append(out, vector{t.Trunk.Latency.Seconds() + b.lat[k], t.Trunk.CPU, 0, b.price[k]})
			}
		}
	}
	return out
}

// reachedBy: "who names it bears it".
func reachedBy(o *Operator, t Transport) bool {
	if t.Scheme == "udp" && len(o.Spec.Transports) == 0 {
		return false
	}
	return speaks(o.Spec.Transports, t.Scheme)
}

func (b *brute) trunk(x, y ca.ID) bool {
	return x != y && slices.ContainsFunc(b.p.Trunks, func(t Trunk) bool { return t.From == x && t.To == y || t.From == y && t.To == x })
}

func (b *brute) allowed(n *Node) bool {
	if len(b.q.Bounds.Domains) == 0 {
		return true
	}
	for _, d := range b.q.Bounds.Domains {
		if d == n.ID.Domain() {
			return true
		}
	}
	return false
}

// within checks the bounds, and that no node is crowded.
func (b *brute) within(used vector) bool {
	q := b.q.Bounds
	if q.Latency > 0 && used[0] > q.Latency.Seconds()+1e-9 || q.CPU > 0 && used[1] > q.CPU+1e-9 || q.Memory > 0 && used[2] > float64(q.Memory)+1e-9 ||
		q.Price > 0 && used[3] > q.Price+1e-9 || q.Quality > 0 && used[4] > -math.Log(q.Quality)+1e-9 {
		return false
	}
	for i := range b.p.Nodes {
		n := &b.p.Nodes[i]
		var cpu, mem float64
		for j, at := range b.nodes {
			if at != n {
				continue
			}
			k := b.chain[j].Spec.Cost
			for _, pl := range b.chain[j].Places {
				if pl.Node == n.ID && pl.Cost != nil {
					k = *pl.Cost
				}
			}
			cpu += k.CPU
			if !b.chain[j].Fixed {
				mem += float64(k.Memory)
			}
		}
		used := false
		for _, at := range b.nodes {
			used = used || at == n
		}
		if used && (n.Cores > 0 && cpu > n.Cores-n.Load+1e-9 || n.Memory > 0 && mem > float64(n.Memory)) {
			return false
		}
	}
	return true
}

// The planner finds what trying everything finds, on small worlds with all bounds, orders and capacities.
func TestEqualToBruteForce(t *testing.T) {
	none, bounded, crowded := 0, 0, 0
	count := 300 * scale()
	for seed := range count {
		parts, q := randomInstance(rand.New(rand.NewPCG(uint64(seed), 1)))
		c, err := NewCatalogue(parts)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		want := newBrute(parts, q).run()
		got, err := c.Plan(context.Background(), q)
		var no *Refusal
		switch {
		case errors.As(err, &no):
			if none++; !math.IsInf(want, 1) {
				t.Errorf("seed %d: refused (%v), but there is a plan of cost %v", seed, err, want)
			}
			if no.Reason == NoBounds {
				bounded++
			}
			checkRefusal(t, seed, parts, q, no)
		case err != nil:
			t.Errorf("seed %d: %v", seed, err)
		case math.Abs(got.Cost-want) > 1e-9 || !got.Proven():
			t.Errorf("seed %d: cost %v (bound %v), brute force %v", seed, got.Cost, got.Bound, want)
		default:
			if err := verify(parts, q, got); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
		if p, err := newProblem(c, q); err == nil {
			if out := p.solve(context.Background()); out.best == nil != math.IsInf(want, 1) || out.best != nil && math.Abs(out.cost-want) > 1e-9 {
				t.Errorf("seed %d: the search alone finds cost %v, brute force %v", seed, out.cost, want)
			}
			if len(p.tracked) > 0 {
				crowded++
			}
		}
	}
	t.Logf("%d instances: %d without a plan, %d of them for their bounds; in %d steps competed for a node; 0 differences allowed", count, none, bounded, crowded)
}

// checkRefusal: the bounds named are too narrow together, and the nearest request has a plan.
func checkRefusal(t *testing.T, seed int, parts Parts, q Request, no *Refusal) {
	t.Helper()
	if no.Nearest != nil {
		n := *no.Nearest
		n.Weights = q.Weights
		if math.IsInf(newBrute(parts, n).run(), 1) {
			t.Errorf("seed %d: the nearest request has no plan: %v", seed, no)
		}
	}
	if err := checkCauses(parts, q, no); err != nil {
		t.Errorf("seed %d: %v: %v", seed, err, no)
	}
	if no.Reason == NoTypes {
		if err := checkConflict(parts, q, no); err != nil {
			t.Errorf("seed %d: %v: %v", seed, err, no)
		}
	}
	if no.Reason != NoBounds && no.Reason != NoPlace && no.Reason != NoTypes {
		return
	}
	free := q
	free.Bounds = Bounds{}
	if open := newBrute(parts, free).run(); (no.Reason == NoBounds) == math.IsInf(open, 1) {
		t.Errorf("seed %d: refused for %s, unbounded cost %v: %v", seed, no.Reason, open, no)
	}
}

// checkCauses: the causes together leave no plan. That any of them left out leaves one can be tried only where the steps
// are among them: otherwise a plan may be longer than what can be tried.
func checkCauses(parts Parts, q Request, no *Refusal) error {
	if no.Reason == BadRequest || no.Reason == UnknownName {
		return nil
	}
	possible := func(r Request) bool {
		if r.Steps == 0 {
			r.Steps = 5 // as many as can be tried
		}
		return !math.IsInf(newBrute(parts, r).run(), 1)
	}
	asks := q.asks()
	var set []ask
	for _, c := range no.Causes {
		at := slices.IndexFunc(asks, func(a ask) bool {
			return a.kind == c.Kind && (c.Name == "" || c.Kind == CauseBound && resourceNames[a.at] == c.Name || c.Kind == CauseRequirement && q.Include[a.at].Label == c.Name)
		})
		if at < 0 {
			return fmt.Errorf("%+v was not asked", c)
		}
		set = append(set, asks[at])
	}
	if possible(q.keeping(set)) {
		return fmt.Errorf("the causes %+v leave a plan", no.Causes)
	}
	for i, a := range set {
		if a.kind != CauseSteps && slices.ContainsFunc(set, func(a ask) bool { return a.kind == CauseSteps }) && !possible(q.keeping(slices.Delete(slices.Clone(set), i, i+1))) {
			return fmt.Errorf("the causes %+v are not the smallest set: %+v has no part in it", no.Causes, a)
		}
	}
	return nil
}

// checkConflict: no types meet all of a conflict, and some meet it without any one of what is in it.
func checkConflict(parts Parts, q Request, no *Refusal) error {
	fits := func(without string) bool {
		r := q
		r.Bounds, r.Include = Bounds{}, nil
		var set uint32
		for i, x := range q.Include {
			if slices.Contains(no.Conflict, x.Label) && x.Label != without {
				set |= 1 << i
			}
		}
		r.Include = q.part(set).Include
		if without == ConflictOrder {
			r = r.inAnyOrder()
		}
		if without == ConflictSteps {
			r.Steps = 5 // enough for these worlds, and not too many to try
		}
		b := newBrute(parts, r)
		b.types = true
		return !math.IsInf(b.run(), 1)
	}
	if fits("") {
		return fmt.Errorf("types meet the conflict %v", no.Conflict)
	}
	for _, x := range no.Conflict {
		if x != ConflictSteps && !fits(x) { // steps may want more than can be tried
			return fmt.Errorf("the conflict %v is not the smallest: %s has no part in it", no.Conflict, x)
		}
	}
	return nil
}

// verify follows a plan with the brute force's own arithmetic.
func verify(parts Parts, q Request, p *Plan) error {
	b := newBrute(parts, q)
	var links []operators.Link
	for _, s := range p.Steps {
		o := b.operator(s.Name)
		one := *o
		one.Places = nil
		for _, pl := range o.Places {
			if string(pl.Node) == s.NodeID {
				one.Places = []Place{pl}
			}
		}
		b.chain = append(b.chain, &one)
		links = append(links, o.Spec.Link())
	}
	types, err := operators.Unify(links)
	if err != nil {
		return err
	}
	for i, h := range p.Hops {
		if h.Type != types[i] {
			return fmt.Errorf("hop %d has type %v, not %v", i, h.Type, types[i])
		}
	}
	if !b.includes(0, map[int]int{}) {
		return fmt.Errorf("what is required is not all there")
	}
	b.place(types, 0, vector{})
	if math.Abs(b.best-p.Cost) > 1e-9 {
		return fmt.Errorf("the plan says cost %v, its parts make %v", p.Cost, b.best)
	}
	return nil
}

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

// Reason is the kind of thing that made a request impossible.
type Reason string

// Reasons.
const (
	BadRequest  Reason = "bad-request"  // the request contradicts itself or its form
	UnknownName Reason = "unknown-name" // the asker sees no such endpoint or operator
	NoTypes     Reason = "types"        // no chain of operators makes what is wanted of what is there
	NoPlace     Reason = "place"        // there are chains, but no nodes and transports that carry one
	NoBounds    Reason = "bounds"       // there are paths, but none within the bounds
)

// Refusal says why a request has no plan, with numbers, and what would have one.
type Refusal struct {
	Reason Reason `json:"reason"`
	// Subject is the name or the part of the request that it is about, when there is one.
	Subject string `json:"subject,omitempty"`
	// Text is for a person: one or more sentences.
	Text string `json:"text"`
	// Misses are the types that nearly fitted, the most promising first.
	Misses []Miss `json:"misses,omitempty"`
	// Short are the bounds that together cannot be met: leave any of them out, and there is a plan.
	Short []Shortfall `json:"short,omitempty"`
	// Nearest is a request like this one that has a plan: one bound is wider. nil when no bound alone would help.
	Nearest *Request `json:"nearest,omitempty"`
}

// Error is the text.
func (r *Refusal) Error() string { return r.Text }

// Miss is a place where types met and did not fit.
type Miss struct {
	From string `json:"from"` // the operator that offers
	To   string `json:"to"`   // the one that wants
	Why  string `json:"why"`
}

// Shortfall is a bound and the least that is possible while all the others hold.
type Shortfall struct {
	Bound string `json:"bound"` // latency, cpu, memory, price, quality or domains
	Asked string `json:"asked"`
	// Least is the least possible alone, without the other bounds; With, with them. "" when there is nothing at all.
	Least string `json:"least,omitempty"`
	With  string `json:"with,omitempty"`
}

// refuse finds out why there is no plan.
func (p *problem) refuse(ctx context.Context) error {
	free := p.req
	free.Bounds = Bounds{Domains: p.req.Bounds.Domains}
	if !p.feasible(ctx, free) {
		open := free
		open.Bounds, open.Without, open.WithoutOperators = Bounds{}, nil, nil
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("plan: there is none; the reason was not found: %w", ErrBudget)
		}
		if !p.feasible(ctx, open) {
			return p.refuseTypes(open)
		}
		return p.refuseNodes(ctx, free)
	}
	return p.refuseBounds(ctx)
}

func (p *problem) feasible(ctx context.Context, r Request) bool {
	q, err := newProblem(p.c, r)
	if err != nil {
		return false
	}
	return q.solve(ctx).best != nil
}

func (p *problem) refuseNodes(ctx context.Context, r Request) error {
	open := r
	open.Bounds.Domains = nil
	if len(r.Bounds.Domains) > 0 && p.feasible(ctx, open) {
		return &Refusal{
			Reason: NoBounds, Subject: "domains", Nearest: &open,
			Text:  fmt.Sprintf("domains bound %s: every path crosses another domain", strings.Join(r.Bounds.Domains, ", ")),
			Short: []Shortfall{{Bound: "domains", Asked: strings.Join(r.Bounds.Domains, ",")}},
		}
	}
	excluded := append(slices.Clone(r.Without), r.WithoutOperators...)
	return &Refusal{Reason: NoPlace, Subject: "without", Text: fmt.Sprintf("every path needs something that is excluded (%s)", strings.Join(excluded, ", "))}
}

// minimal returns the request with one resource as the whole objective.
func minimal(r Request, d int) Request {
	r.Weights = [resources]Weights{{Latency: 1}, {CPU: 1}, {Memory: 1}, {Price: 1}, {Quality: 1}}[d]
	return r
}

// least is the least total of a resource that a request allows; nil when it has no plan.
func (p *problem) least(ctx context.Context, r Request, d int) *Plan {
	q, err := newProblem(p.c, minimal(r, d))
	if err != nil {
		return nil
	}
	out := q.solve(ctx)
	if out.best == nil {
		return nil
	}
	plan, err := q.result(&out)
	if err != nil {
		return nil
	}
	return plan
}

// drop widens one bound to nothing.
func (b Bounds) drop(d int) Bounds {
	switch d {
	case resLatency:
		b.Latency = 0
	case resCPU:
		b.CPU = 0
	case resMemory:
		b.Memory = 0
	case resPrice:
		b.Price = 0
	case resLoss:
		b.Quality = 0
	}
	return b
}

// only keeps the bounds of a set of resources.
func (b Bounds) only(dims []int) Bounds {
	for d := range resources {
		if !slices.Contains(dims, d) {
			b = b.drop(d)
		}
	}
	return b
}

// refuseBounds finds a smallest set of bounds that cannot be met together, and which of them to widen least.
func (p *problem) refuseBounds(ctx context.Context) error {
	set := p.smallest(ctx)
	r := &Refusal{Reason: NoBounds}
	var texts []string
	gain := math.Inf(1)
	for _, d := range set {
		alone, others := p.req, p.req
		alone.Bounds = p.req.Bounds.only(nil)
		others.Bounds = p.req.Bounds.drop(d)
		a := p.least(ctx, alone, d)
		s := Shortfall{Bound: resourceNames[d], Asked: p.req.Bounds.text(d)}
		if a != nil {
			s.Least = a.text(d)
		}
		with := p.least(ctx, others, d)
		if with != nil {
			s.With = with.text(d)
			if over := with.over(d, p.lim[d]); over < gain {
				gain = over
				near := p.req
				near.Bounds = with.widen(p.req.Bounds, d)
				r.Nearest = &near
			}
		}
		r.Short = append(r.Short, s)
		texts = append(texts, boundText(d, s, a, len(set) == 1))
	}
	if len(r.Short) > 0 {
		r.Subject = r.Short[0].Bound
	}
	r.Text = strings.Join(texts, "; ")
	if len(set) > 1 {
		r.Text = "these bounds cannot hold together: " + r.Text
	}
	if ctx.Err() != nil {
		r.Text += " (the time for planning ran out: there may be a smaller reason)"
	}
	return r
}

// smallest is a smallest set of bounds that has no plan: by size, then by what is left when none can be taken away.
func (p *problem) smallest(ctx context.Context) []int {
	try := func(set []int) bool {
		r := p.req
		r.Bounds = p.req.Bounds.only(set)
		return !p.feasible(ctx, r) && ctx.Err() == nil
	}
	for i, a := range p.dims {
		if try([]int{a}) {
			return []int{a}
		}
		_ = i
	}
	for i, a := range p.dims {
		for _, b := range p.dims[i+1:] {
			if try([]int{a, b}) {
				return []int{a, b}
			}
		}
	}
	set := slices.Clone(p.dims)
	for i := 0; i < len(set); {
		if less := slices.Delete(slices.Clone(set), i, i+1); try(less) {
			set = less
		} else {
			i++
		}
	}
	return set
}

var resourceNames = [resources]string{"latency", "cpu", "memory", "price", "quality"}

func (b Bounds) text(d int) string {
	switch d {
	case resLatency:
		return b.Latency.String()
	case resCPU:
		return fmt.Sprintf("%g", b.CPU)
	case resMemory:
		return bytesText(b.Memory)
	case resPrice:
		return fmt.Sprintf("%g", b.Price)
	}
	return fmt.Sprintf("%g", b.Quality)
}

func (p *Plan) text(d int) string {
	return Bounds{Latency: p.Latency, CPU: round(p.CPU), Memory: p.Memory, Price: round(p.Price), Quality: round(p.Quality)}.text(d)
}

// over is by what share a plan exceeds a limit.
func (p *Plan) over(d int, limit float64) float64 {
	v := vector{p.Latency.Seconds(), p.CPU, float64(p.Memory), p.Price, -math.Log(p.Quality)}
	return v[d]/limit - 1
}

// widen is the bounds with one as wide as a plan needs.
func (p *Plan) widen(b Bounds, d int) Bounds {
	switch d {
	case resLatency:
		b.Latency = p.Latency
	case resCPU:
		b.CPU = p.CPU
	case resMemory:
		b.Memory = p.Memory
	case resPrice:
		b.Price = p.Price
	case resLoss:
		b.Quality = p.Quality
	}
	return b
}

func round(f float64) float64 { return math.Round(f*1e6) / 1e6 }

func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.3g GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.3g MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d B", n)
}

func boundText(d int, s Shortfall, a *Plan, alone bool) string {
	word := "least"
	if d == resLoss {
		word = "best"
	}
	text := fmt.Sprintf("%s bound %s: ", s.Bound, s.Asked)
	switch {
	case alone:
		text += fmt.Sprintf("the %s possible is %s", word, s.Least)
	case s.With != "":
		text += fmt.Sprintf("the %s possible within the others is %s, and %s without them", word, s.With, s.Least)
	default:
		text += fmt.Sprintf("the %s possible is %s without the others", word, s.Least)
	}
	if a != nil {
		if name, much := a.largest(d); name != "" {
			text += fmt.Sprintf(" (%s alone %s)", name, much)
		}
	}
	return text
}

// largest is the step that takes most of a resource.
func (p *Plan) largest(d int) (name, much string) {
	most := 0.0
	for _, s := range p.Steps {
		v := vector{s.Latency.Seconds(), s.CPU, float64(s.Memory), s.Price, -math.Log(s.Quality)}
		if v[d] > most+1e-12 {
			most, name = v[d], s.Name
			much = (&Plan{Latency: s.Latency, CPU: s.CPU, Memory: s.Memory, Price: s.Price, Quality: s.Quality}).text(d)
		}
	}
	return name, much
}

// refuseTypes says what could not be made of what, or, when types fit, that no place carries them.
func (p *problem) refuseTypes(r Request) error {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
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
		ref.Subject = p.req.To
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
	if len(ref.Misses) > 0 {
		ref.Text += "; nearest: " + brief(ref.Misses[0].Why)
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
}

type typeState struct {
	open int32
	mask uint32
}

func (p *problem) explore() *explored { return p.exploreWhere(func(int32) bool { return true }) }

// exploreWhere goes only over operators that f allows; taken has the others too.
func (p *problem) exploreWhere(f func(op int32) bool) *explored {
	x := &explored{p: p, goes: f, from: make(map[int32]int32), taken: make(map[int32]bool)}
	start, err := p.c.start(p.from)
	if err != nil {
		return x
	}
	seen := map[typeState]bool{{start, 0}: true}
	layer := []typeState{{start, 0}}
	x.from[start], x.order = int32(p.from), []int32{start}
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
	for _, sig := range p.t.byMedia[p.t.opens[s.open].o.Media()] {
		o := p.c.then(s.open, sig)
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
				if p.t.opens[o].shape < 0 || seen[t] {
					continue
				}
				seen[t] = true
				if _, known := x.from[o]; !known {
					x.from[o] = op
					x.order = append(x.order, o)
				}
				next = append(next, t)
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
			if p.t.opens[o].o.Media() != in.Media() || len(out) >= 8 {
				continue
			}
			from := p.c.ops[x.from[o]].Name
			_, err := p.t.opens[o].o.Then(from, operators.Link{Name: p.c.ops[op].Name, In: in, Out: p.c.ops[op].Spec.Out})
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
	o := &p.c.ops[op]
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
		about := a.outAbout
		if about == aboutSame {
			about = aboutAny
		}
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

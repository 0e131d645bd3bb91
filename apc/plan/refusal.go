package plan

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
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
	// Conflict is a smallest set of what was asked that no types meet together: labels of requirements, ConflictOrder,
	// ConflictSteps. Empty when types do not even lead from one endpoint to the other.
	Conflict []string `json:"conflict,omitempty"`
	// Causes are the smallest set of things asked that cannot hold together, of whatever kind: leave any one of them out, and
	// there is a path. Empty when there is none even between the bare endpoints.
	Causes []Cause `json:"causes,omitempty"`
	// Missing is the conversion with which types would meet.
	Missing *Conversion `json:"missing,omitempty"`
	// Nearest is a request like this one that has a plan: one bound is wider, the requirements come in any order, there
	// are more steps, or one of the causes is left out. nil when none of these alone would help.
	Nearest *Request `json:"nearest,omitempty"`
}

// Cause is one thing asked that has a part in a conflict.
type Cause struct {
	Kind CauseKind `json:"kind"`
	// Name is the requirement's label, the bound's name (latency, cpu, memory, price, quality), or the excluded node or
	// operator; "" for kinds that there is one of.
	Name string `json:"name,omitempty"`
	// Asked is what was asked, with its number; Needed the least change of it alone with which there would be a path, while
	// all the other causes hold. "" where nothing but leaving it out would do.
	Asked  string `json:"asked,omitempty"`
	Needed string `json:"needed,omitempty"`
}

// CauseKind is the kind of a cause.
type CauseKind string

// Kinds of causes.
const (
	CauseRequirement CauseKind = "requirement"
	CauseOrder       CauseKind = "order"   // the order of requirements
	CauseSteps       CauseKind = "steps"   // the most steps
	CauseBound       CauseKind = "bound"   // a bound on a resource, or the least quality
	CauseDomains     CauseKind = "domains" // the domains that data may cross
	CauseNode        CauseKind = "without-node"
	CauseOperator    CauseKind = "without-operator"
)

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
	err := p.reason(ctx)
	if no, ok := err.(*Refusal); ok {
		var without *Request
		if no.Causes, without = p.causes(ctx); no.Nearest == nil {
			no.Nearest = without
		}
	}
	return err
}

func (p *problem) reason(ctx context.Context) error {
	free := p.req
	free.Bounds = Bounds{Domains: p.req.Bounds.Domains}
	if !p.feasible(ctx, free) {
		open := free
		open.Bounds, open.Without, open.WithoutOperators = Bounds{}, nil, nil
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("plan: there is none; the reason was not found: %w", ErrBudget)
		}
		if !p.feasible(ctx, open) {
			return p.refuseTypes(ctx, open)
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

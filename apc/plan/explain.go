package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Explanation says what a plan costs, and why its best rivals lost. Its JSON form is that of its fields.
type Explanation struct {
	Plan   *Plan   `json:"plan"`
	Proven bool    `json:"proven"`
	Rivals []Rival `json:"rivals,omitempty"`
}

// Rival is the best plan without one thing that the best plan has.
type Rival struct {
	// Without is the operator or node that it does without.
	Without string `json:"without"`
	// Plan is nil when there is none: then it cannot be done without.
	Plan *Plan `json:"plan,omitempty"`
	// Why is what it loses by, a sentence.
	Why string `json:"why"`
}

// Explain finds the best plans without each operator and each node of a plan, at most most of them, the nearest first,
// and says what each loses by. The time budget of ctx covers them all; what it does not reach is left out.
func (c *Catalogue) Explain(ctx context.Context, r Request, p *Plan, most int) *Explanation {
	e := &Explanation{Plan: p, Proven: p.Proven()}
	seen := map[string]bool{p.key(): true}
	var lost, needed []Rival
	for _, alt := range p.dispensable() {
		q := r
		if alt.node {
			q.Without = append(slices.Clone(r.Without), alt.name)
		} else {
			q.WithoutOperators = append(slices.Clone(r.WithoutOperators), alt.name)
		}
		if ctx.Err() != nil {
			break
		}
		rival := c.solveOnly(ctx, q)
		switch {
		case rival == nil && ctx.Err() == nil:
			needed = append(needed, Rival{Without: alt.name, Why: "there is no path without it"})
		case rival == nil || seen[rival.key()]:
		default:
			seen[rival.key()] = true
			lost = append(lost, Rival{Without: alt.name, Plan: rival, Why: p.against(rival)})
		}
	}
	slices.SortStableFunc(lost, func(a, b Rival) int {
		if a.Plan.Cost < b.Plan.Cost {
			return -1
		} else if a.Plan.Cost > b.Plan.Cost {
			return 1
		}
		return 0
	})
	e.Rivals = append(lost, needed...)
	if most > 0 && len(e.Rivals) > most {
		e.Rivals = e.Rivals[:most]
	}
	return e
}

// solveOnly is the best plan, or nil; it does not look for reasons.
func (c *Catalogue) solveOnly(ctx context.Context, r Request) *Plan {
	p, err := newProblem(c, r)
	if err != nil {
		return nil
	}
	out := p.solve(ctx)
	if out.best == nil {
		return nil
	}
	plan, err := p.result(&out)
	if err != nil {
		return nil
	}
	return plan
}

type dispensable struct {
	name string
	node bool
}

// dispensable lists what of a plan is not fixed by the request: its operators and nodes but the endpoints'.
func (p *Plan) dispensable() (out []dispensable) {
	fixed := map[string]bool{p.Steps[0].NodeID: true, p.Steps[len(p.Steps)-1].NodeID: true}
	for _, s := range p.Steps[1 : len(p.Steps)-1] {
		for _, d := range []dispensable{{s.Name, false}, {s.NodeID, true}} {
			if !fixed[d.name] {
				fixed[d.name] = true
				out = append(out, d)
			}
		}
	}
	return out
}

// key is equal for plans of the same steps at the same nodes.
func (p *Plan) key() string {
	var b strings.Builder
	for _, s := range p.Steps {
		b.WriteString(s.Name + "@" + s.NodeID + "!")
	}
	return b.String()
}

// against says what another plan loses by: the resources in which it is worse.
func (p *Plan) against(q *Plan) string {
	var worse []string
	if d := q.Latency - p.Latency; d > time.Microsecond {
		worse = append(worse, fmt.Sprintf("latency %v more", d.Round(time.Microsecond)))
	}
	if d := q.CPU - p.CPU; d > 1e-6 {
		worse = append(worse, fmt.Sprintf("cpu %.3g more", d))
	}
	if d := q.Memory - p.Memory; d > 0 {
		worse = append(worse, "memory "+bytesText(d)+" more")
	}
	if d := q.Price - p.Price; d > 1e-9 {
		worse = append(worse, fmt.Sprintf("price %.3g more", d))
	}
	if p.Quality-q.Quality > 1e-6 {
		worse = append(worse, fmt.Sprintf("quality %.3g against %.3g", q.Quality, p.Quality))
	}
	if d := len(q.Steps) - len(p.Steps); d > 0 {
		worse = append(worse, fmt.Sprintf("%d more steps", d))
	}
	if q.crowding()-p.crowding() > 1e-9 {
		worse = append(worse, "busier nodes")
	}
	d := q.Cost - p.Cost
	if d < 1e-9 {
		return "equally good"
	}
	if len(worse) == 0 {
		worse = []string{"data to fetch"}
	}
	return fmt.Sprintf("dearer by %.4f: %s", d, strings.Join(worse, ", "))
}

// crowding is the load that a plan's steps meet.
func (p *Plan) crowding() (sum float64) {
	for _, s := range p.Steps {
		sum += s.Node.Load / max(s.Node.Cores, 1) * (s.CPU + crowd)
	}
	return sum
}

// Text is the plan for a person.
func (p *Plan) Text() string {
	var b strings.Builder
	gap := "proven best"
	if !p.Proven() {
		gap = fmt.Sprintf("the time ran out: at most %.1f%% dearer than the best", 100*(p.Cost-p.Bound)/p.Bound)
		if p.Bound <= 0 {
			gap = "the time ran out"
		}
	}
	fmt.Fprintf(&b, "cost %.4f, %s; latency %v, cpu %.3f, memory %s, price %.3g, quality %.3g\n", p.Cost, gap, p.Latency, p.CPU, bytesText(p.Memory), p.Price, p.Quality)
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "  %-24s at %-18s %.4f  %v\n", s.Name, short(s.NodeID), s.Cost, s.Latency)
		if i < len(p.Hops) {
			h := p.Hops[i]
			fmt.Fprintf(&b, "    | %-4s %s  %.4f  %v\n", h.Transport, brief(h.Type.String()), h.Cost, h.Latency)
		}
	}
	return b.String()
}

// Text is the explanation for a person.
func (e *Explanation) Text() string {
	var b strings.Builder
	b.WriteString(e.Plan.Text())
	for _, r := range e.Rivals {
		fmt.Fprintf(&b, "without %s: %s\n", short(r.Without), r.Why)
		if r.Plan != nil {
			var names []string
			for _, s := range r.Plan.Steps {
				names = append(names, s.Name+"@"+short(s.NodeID))
			}
			fmt.Fprintf(&b, "  %s\n", strings.Join(names, " ! "))
		}
	}
	return b.String()
}

// short is a node's ID without what all of them share.
func short(id string) string {
	rest, ok := strings.CutPrefix(id, "spiffe://")
	if _, path, found := strings.Cut(rest, "/"); ok && found {
		return path
	}
	return id
}

// brief shortens the hashes in a text.
func brief(s string) string {
	const mark = "@sha256:"
	var b strings.Builder
	for {
		i := strings.Index(s, mark)
		if i < 0 {
			return b.String() + s
		}
		i += len(mark)
		n := 0
		for i+n < len(s) && strings.IndexByte("0123456789abcdef", s[i+n]) >= 0 {
			n++
		}
		b.WriteString(s[:i+min(n, 8)])
		s = s[i+n:]
	}
}

// DOT is the plan as a graph for Graphviz: a box a node, an arrow a hop.
func (p *Plan) DOT() string {
	var b strings.Builder
	b.WriteString("digraph path {\n  rankdir=LR; node [shape=box];\n")
	for k, id := range p.nodeIDs() {
		fmt.Fprintf(&b, "  subgraph cluster_%d { label=%s;\n", k, quote(short(id)))
		for i, s := range p.Steps {
			if s.NodeID == id {
				fmt.Fprintf(&b, "    s%d [label=%s];\n", i, quote(s.Name))
			}
		}
		b.WriteString("  }\n")
	}
	for i, h := range p.Hops {
		fmt.Fprintf(&b, "  s%d -> s%d [label=%s];\n", i, i+1, quote(brief(h.Type.String())+" "+h.Transport+" "+h.Latency.String()))
	}
	return b.String() + "}\n"
}

// Mermaid is the plan as a Mermaid flow chart.
func (p *Plan) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for k, id := range p.nodeIDs() {
		fmt.Fprintf(&b, "  subgraph n%d[%s]\n", k, mermaid(short(id)))
		for i, s := range p.Steps {
			if s.NodeID == id {
				fmt.Fprintf(&b, "    s%d[%s]\n", i, mermaid(s.Name))
			}
		}
		b.WriteString("  end\n")
	}
	for i, h := range p.Hops {
		fmt.Fprintf(&b, "  s%d -->|%s| s%d\n", i, mermaid(brief(h.Type.String())+" "+h.Transport+" "+h.Latency.String()), i+1)
	}
	return b.String()
}

// nodeIDs are the nodes in the order that the data comes to them.
func (p *Plan) nodeIDs() (ids []string) {
	for _, s := range p.Steps {
		if !slices.Contains(ids, s.NodeID) {
			ids = append(ids, s.NodeID)
		}
	}
	return ids
}

// quote is a DOT string: names come from outside.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(clean(s)) + `"`
}

// mermaid is a Mermaid string; what could end it is written as an entity.
func mermaid(s string) string {
	return `"` + strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "`", "#96;").Replace(clean(s)) + `"`
}

// clean drops control characters.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

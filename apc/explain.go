package apc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
)

// explainTime bounds the search for rivals, beside planTime; maxRivals how many are told.
const (
	explainTime = 5 * time.Second
	maxRivals   = 8
)

// Explanation is why a request gets the plan that it gets, or none.
type Explanation struct {
	Request string `json:"request"`
	// Found is the best plan with its cost, the bound that proves it, and its best rivals; nil when there is no plan.
	Found *plan.Explanation `json:"found,omitempty"`
	// Refusal is what made the request impossible, with numbers; nil when there is a plan.
	Refusal *Refusal `json:"refusal,omitempty"`
}

// Refusal is why there is no plan.
type Refusal struct {
	Reason  plan.Reason      `json:"reason"`
	Subject string           `json:"subject,omitempty"`
	Text    string           `json:"text"`
	Misses  []plan.Miss      `json:"misses,omitempty"`
	Short   []plan.Shortfall `json:"short,omitempty"`
	// Conflict, Causes and Missing are as in plan.Refusal.
	Conflict []string         `json:"conflict,omitempty"`
	Causes   []plan.Cause     `json:"causes,omitempty"`
	Missing  *plan.Conversion `json:"missing,omitempty"`
	// Nearest is the nearest request that would succeed, on one line; "" when no one change to the request would help.
	Nearest string `json:"nearest,omitempty"`
}

// Explain says what Create would make and why nothing else, or why it would refuse. What it tells is computed of what
// the asker may see, and of nothing else.
func (c *Creator) Explain(ctx context.Context, asker ca.Peer, r Request) (Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, planTime+explainTime)
	defer cancel()
	first, stop := context.WithTimeout(ctx, planTime)
	defer stop()
	s, err := c.sketch(first, asker, r)
	return s.explain(ctx, r.Line, err)
}

// explain turns the outcome of a sketch into an explanation; errors that are no refusals are passed on.
func (s *sketch) explain(ctx context.Context, line string, err error) (Explanation, error) {
	e := Explanation{Request: line}
	var no *plan.Refusal
	switch {
	case errors.As(err, &no):
		e.Refusal = &Refusal{Reason: no.Reason, Subject: no.Subject, Text: no.Text, Misses: no.Misses, Short: no.Short, Conflict: no.Conflict, Causes: no.Causes, Missing: no.Missing}
		if no.Nearest != nil {
			e.Refusal.Nearest = lineOf(s.form, no.Nearest)
		}
	case err != nil:
		return e, err
	default:
		e.Found = s.catalogue.Explain(ctx, s.request, s.best, maxRivals)
	}
	return e, nil
}

// The forms that Render knows.
const (
	Text    = "text"
	JSON    = "json"
	DOT     = "dot"
	Mermaid = "mermaid"
)

// Render writes an explanation as text for a person, as JSON, or as a graph for Graphviz (DOT) or Mermaid. A refusal has
// no graph; its text stands in a comment then.
func (e *Explanation) Render(form string) (string, error) {
	switch {
	case form == JSON:
		b, err := json.MarshalIndent(e, "", "  ")
		return string(b) + "\n", err
	case form == Text:
		return e.text(), nil
	case form == DOT && e.Found != nil:
		return e.Found.Plan.DOT(), nil
	case form == DOT:
		return "digraph refused {\n" + comment("  // ", e.text()) + "}\n", nil
	case form == Mermaid && e.Found != nil:
		return e.Found.Plan.Mermaid(), nil
	case form == Mermaid:
		return "flowchart LR\n" + comment("  %% ", e.text()), nil
	}
	return "", fmt.Errorf("output %q: want text, json, dot or mermaid", form)
}

// text is prose with numbers. Names are told without the domain where there is but one.
func (e *Explanation) text() string {
	if e.Found != nil {
		return short(e.Found.Text())
	}
	if e.Refusal.Reason == plan.UnknownName { // it names commands to type
		return e.Refusal.text()
	}
	return short(e.Refusal.text())
}

func (r *Refusal) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "refused (%s): %s\n", r.Reason, r.Text)
	for _, m := range r.Misses {
		fmt.Fprintf(&b, "  %s -> %s: %s\n", m.From, m.To, m.Why)
	}
	if m := r.Missing; m != nil {
		fmt.Fprintf(&b, "  missing: what makes %s, which %s wants, of %s, which %s offers\n", m.Wants, m.To, m.Offers, m.From)
	}
	for _, s := range r.Short {
		fmt.Fprintf(&b, "  %s: asked %s", s.Bound, s.Asked)
		if s.With != "" {
			fmt.Fprintf(&b, ", possible within the other bounds %s", s.With)
		}
		if s.Least != "" && s.Least != s.With {
			fmt.Fprintf(&b, ", possible without any other bound %s", s.Least)
		}
		b.WriteString("\n")
	}
	switch len(r.Causes) {
	case 0:
	case 1:
		fmt.Fprintf(&b, "impossible by itself: %s\n", causeText(r.Causes[0]))
	default:
		b.WriteString("these cannot hold together; without any one of them there is a path:\n")
		for _, c := range r.Causes {
			fmt.Fprintf(&b, "  %s\n", causeText(c))
		}
	}
	if r.Nearest != "" {
		fmt.Fprintf(&b, "this would do: %s\n", r.Nearest)
	}
	return b.String()
}

// causeText says what one cause is, and what would do instead.
func causeText(c plan.Cause) string {
	text := map[plan.CauseKind]string{
		plan.CauseOrder: "the order of the required steps", plan.CauseSteps: "at most " + c.Asked + " steps", plan.CauseBound: c.Name + " " + c.Asked,
		plan.CauseDomains: "within " + c.Asked, plan.CauseNode: "without " + c.Name, plan.CauseOperator: "without " + c.Name,
	}[c.Kind]
	if text == "" {
		text = c.Name
	}
	if c.Needed != "" {
		text += " (" + c.Needed + " would do)"
	}
	return text
}

// domainOf is what a name begins with that the certificate authority of a domain has given.
var domainOf = regexp.MustCompile(`spiffe://[a-zA-Z0-9._-]+/`)

// short leaves out the domain of all names when it is the same.
func short(text string) string {
	all := domainOf.FindAllString(text, -1)
	slices.Sort(all)
	if len(slices.Compact(all)) != 1 {
		return text
	}
	return strings.ReplaceAll(text, all[0], "")
}

// comment puts a mark before each line.
func comment(mark, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(mark + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

package index

import (
	"fmt"
	"strings"
)

// Part is one conjunct of a query's plan in one class, or, added up, in several.
type Part struct {
	What   string // such as "/service/floor from 1 to 4"
	Size   int    // documents that it leaves, at most; counting stops at the size of the class
	Opened int    // classes in which it was the smallest and its documents were looked at
}

// Explain says how the class answers a query: its conjuncts that postings decide, with sizes. None means that every
// document is looked at.
func (c *Class) Explain(q *Query, by string) []Part {
	f := narrowed(q.filter, by)
	if f == nil || c.Len() == 0 {
		return nil
	}
	parts := flatten(allOf{f}, nil)
	out := make([]Part, len(parts))
	least := 0
	for i, p := range parts {
		out[i] = Part{What: describe(p), Size: min(c.Len(), c.estimate(p, c.Len(), nil))}
		if out[i].Size < out[least].Size {
			least = i
		}
	}
	out[least].Opened = 1
	return out
}

// narrowed adds the publisher to a filter.
func narrowed(f filter, by string) filter {
	if by == "" {
		return f
	}
	owned := &terms{kind: owner, from: bound{text: by}, to: bound{text: by}, exact: true}
	if f == nil {
		return owned
	}
	return allOf{f, owned}
}

// describe writes a filter for people.
func describe(f filter) string {
	switch f := f.(type) {
	case allOf:
		return join([]filter(f), " and ")
	case oneOfThem:
		return join([]filter(f), " or ")
	case *terms:
		return f.String()
	}
	return ""
}

func join(fs []filter, with string) string {
	var parts []string
	for _, f := range fs {
		if t, ok := f.(*terms); ok && t.kind == branch && len(fs) > 1 {
			continue // only there for completeness
		}
		parts = append(parts, describe(f))
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "(" + strings.Join(parts, with) + ")"
}

// String writes the path and what is wanted there.
func (t *terms) String() string {
	switch {
	case t.kind == owner:
		return "published by " + t.from.text
	case t.kind == numeric && t.from == t.to:
		return fmt.Sprintf("%s = %g", t.at, t.from.number)
	case t.kind == numeric:
		return fmt.Sprintf("%s from %g to %g", t.at, t.from.number, t.to.number)
	case t.kind == text && t.from == t.to:
		return fmt.Sprintf("%s = %q", t.at, t.from.text)
	case t.kind == text:
		return fmt.Sprintf("%s begins with %q", t.at, t.from.text)
	}
	return t.at.String()
}

// String writes the pattern as XPath does.
func (p pattern) String() string {
	var b strings.Builder
	for _, h := range p {
		b.WriteString("/")
		if h.deep {
			b.WriteString("/")
		}
		if h.attr {
			b.WriteString("@")
		}
		b.WriteString(h.local)
	}
	return b.String()
}

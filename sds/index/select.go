package index

import (
	"fmt"
	"strings"

	"ninja/sds/check"
)

// Number reads a decimal number as comparisons do.
func Number(s string) (float64, bool) { return number(s) }

// Selector names one place of a document, to order by its value.
type Selector struct{ steps []*step }

// Select compiles a selector: element names joined by '/', taken from the root element, the last of which may be an
// @attribute: "summary", "node/@cores". Prefixes are those of ns; a name without prefix is in any namespace.
func Select(path string, ns map[string]string) (*Selector, error) {
	var s Selector
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		st := &step{axis: child, space: anySpace, local: part}
		if local, ok := strings.CutPrefix(part, "@"); ok {
			st.axis, st.space, st.local = attribute, "", local
		}
		if prefix, local, ok := strings.Cut(st.local, ":"); ok {
			if st.space, ok = ns[prefix]; !ok {
				return nil, fmt.Errorf("order by %q: the prefix %s is not declared", path, prefix)
			}
			st.local = local
		}
		if st.local == "" || len(s.steps) >= check.MaxDepth || len(s.steps) > 0 && s.steps[len(s.steps)-1].axis == attribute {
			return nil, fmt.Errorf("order by %q: want a named number, or names joined by /, the last may be @attribute", path)
		}
		s.steps = append(s.steps, st)
	}
	return &s, nil
}

// Value is ValueIn of a document.
func (s *Selector) Value(d *check.Document) (value string, ok bool) { return s.ValueIn(Pack(d)) }

// ValueIn is the normalised value of the first such place.
func (s *Selector) ValueIn(t *Tree) (value string, ok bool) {
	e := evaluator{Tree: t, fuel: Fuel}
	s.from(&e, ref{0, -1}, 0, func(r ref) { value, ok = check.Normal(e.value(r)), true })
	return value, ok
}

// valuesMost bounds the values of one selector.
const valuesMost = 64

// ValuesIn are the normalised values of the first 64 such places.
func (s *Selector) ValuesIn(t *Tree) (values []string) {
	e := evaluator{Tree: t, fuel: Fuel}
	s.each(&e, ref{0, -1}, 0, func(r ref) bool {
		values = append(values, check.Normal(e.value(r)))
		return len(values) < valuesMost
	})
	return values
}

// each calls f with the places until it says false.
func (s *Selector) each(e *evaluator, at ref, n int, f func(ref) bool) (more bool) {
	if n == len(s.steps) {
		return f(at)
	}
	more = true
	s.steps[n].each(e, at, func(r ref) bool {
		more = s.each(e, r, n+1, f)
		return more
	})
	return more
}

func (s *Selector) from(e *evaluator, at ref, n int, f func(ref)) (found bool) {
	if n == len(s.steps) {
		f(at)
		return true
	}
	st := s.steps[n]
	st.each(e, at, func(r ref) bool {
		found = (st.where == nil || st.where.holds(e, r)) && s.from(e, r, n+1, f)
		return !found
	})
	return found
}

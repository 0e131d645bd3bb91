package index

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"ninja/sds/check"
)

// Query is a compiled question about one document. It is immutable.
type Query struct {
	where  cond
	filter filter // what the postings can say of it; nil is nothing
}

// Budgets of a query.
const (
	// MaxConditions bounds the size of a compiled query.
	MaxConditions = 256
	// MaxDeep is how many steps to any depth may lie within one another.
	MaxDeep = 3
	// Fuel is how many elements, attributes and postings one search may look at: about a sixth of a second.
	Fuel = 10_000_000
)

// ErrTooExpensive is returned for a search that used up its fuel.
var ErrTooExpensive = errors.New("the query is too expensive: it looked at too many elements; name more of what is wanted, and use fewer descendant steps within one another")

// All is the query that every document meets.
func All() *Query { return compiled(all(nil)) }

// And is met by the documents that meet every one of the queries.
func And(queries ...*Query) *Query {
	if len(queries) == 1 {
		return queries[0]
	}
	var w all
	for _, q := range queries {
		w = append(w, q.where)
	}
	return compiled(w)
}

func compiled(w cond) *Query { return &Query{where: w, filter: prepared(w.filter(nil))} }

// Match reports whether the document meets the query.
func (q *Query) Match(d *check.Document) (bool, error) {
	fuel := Fuel
	return q.Meets(Pack(d), &fuel)
}

// Meets is Match at the cost of fuel.
func (q *Query) Meets(t *Tree, fuel *int) (bool, error) {
	e := evaluator{Tree: t, fuel: *fuel}
	ok := q.where.holds(&e, ref{-1, -1})
	if *fuel = e.fuel; e.fuel < 0 {
		return false, ErrTooExpensive
	}
	return ok, nil
}

// evaluator is one document under evaluation. When the fuel is negative, answers mean nothing.
type evaluator struct {
	*Tree
	fuel int
}

// ref is a place in a document: an element, the attribute attr of it (from 0), or the document itself (node -1).
type ref struct{ node, attr int }

// value is the string-value of a place.
func (e *evaluator) value(r ref) string {
	switch {
	case r.attr >= 0:
		return e.attrText(r.attr)
	case r.node < 0:
		return e.Tree.value(0)
	}
	return e.Tree.value(r.node)
}

// cond is a condition on a place in a document.
type cond interface {
	holds(e *evaluator, at ref) bool
	// filter says what the postings can decide, given how the place is reached; nil is nothing. A document that meets
	// the condition always meets its filter.
	filter(at pattern) filter
	// size counts conditions.
	size() int
}

type (
	all []cond
	one []cond // at least one
	not struct{ cond }
	// step is met when a place in a direction with a name meets where.
	step struct {
		axis  axis
		space string // anySpace or the namespace's name
		local string // "*" is any
		where cond   // nil is no more conditions
	}
	// compare holds the string-value of the place against an operand.
	compare struct {
		op     op
		normal bool // white space normalised first
		text   []string
		number float64
	}
)

type axis byte

const (
	child axis = iota
	descendant
	attribute
	descendantAttribute // attributes of the place and of all within it
	self
)

// anySpace is a namespace test that every name passes. It cannot be a namespace's name.
const anySpace = "\x00"

type op byte

const (
	equals op = iota
	differs
	less
	atMost
	greater
	atLeast
	numberEquals
	numberDiffers
	contains
	prefix
	oneOf
)

func (a all) holds(e *evaluator, at ref) bool {
	for _, c := range a {
		if !c.holds(e, at) {
			return false
		}
	}
	return true
}

func (o one) holds(e *evaluator, at ref) bool {
	for _, c := range o {
		if c.holds(e, at) {
			return true
		}
	}
	return false
}

func (n not) holds(e *evaluator, at ref) bool { return !n.cond.holds(e, at) }

func (s *step) holds(e *evaluator, at ref) bool {
	found := false
	s.each(e, at, func(r ref) bool {
		found = s.where == nil || s.where.holds(e, r)
		return !found
	})
	return found
}

// each calls f for every place that the step reaches, in document order, until f says false or the fuel is used up.
func (s *step) each(e *evaluator, at ref, f func(ref) bool) {
	if s.axis == self {
		f(at)
		return
	}
	if at.attr >= 0 {
		return
	}
	switch s.axis {
	case attribute:
		if at.node >= 0 {
			s.attributes(e, at.node, f)
		}
	case child:
		if at.node < 0 {
			s.element(e, 0, f)
			return
		}
		for i, end := at.node+1, e.end(at.node); i < end; i = e.end(i) {
			if !s.element(e, i, f) {
				return
			}
		}
	default:
		i, end := 0, e.nodes
		if at.node >= 0 {
			i, end = at.node+1, e.end(at.node)
		}
		if s.axis == descendantAttribute && at.node >= 0 {
			i = at.node
		}
		for ; i < end; i++ {
			if s.axis == descendant && !s.element(e, i, f) || s.axis == descendantAttribute && !s.attributes(e, i, f) {
				return
			}
		}
	}
}

func (s *step) element(e *evaluator, i int, f func(ref) bool) bool {
	if e.fuel--; e.fuel < 0 {
		return false
	}
	if s.local != "*" && s.local != e.local(i) || s.space != anySpace && s.space != e.space(e.node(i)[nodeSpace]) {
		return true
	}
	return f(ref{i, -1})
}

func (s *step) attributes(e *evaluator, node int, f func(ref) bool) bool {
	from, to := e.Tree.attributes(node)
	if e.fuel -= 1 + to - from; e.fuel < 0 {
		return false
	}
	for j := from; j < to; j++ {
		if (s.local == "*" || s.local == e.attrLocal(j)) && (s.space == anySpace || s.space == e.space(e.attr(j)[attrSpace])) && !f(ref{node, j}) {
			return false
		}
	}
	return true
}

func (c *compare) holds(e *evaluator, at ref) bool {
	v := e.value(at)
	e.fuel -= 1 + len(v)/64
	return c.meets(v)
}

// meets holds a string-value against the operand.
func (c *compare) meets(v string) bool {
	if c.normal {
		v = check.Normal(v)
	}
	switch c.op {
	case equals:
		return v == c.text[0]
	case differs:
		return v != c.text[0]
	case contains:
		return strings.Contains(v, c.text[0])
	case prefix:
		return strings.HasPrefix(v, c.text[0])
	case oneOf:
		return slices.Contains(c.text, v)
	}
	n, ok := number(v)
	switch c.op {
	case less:
		return ok && n < c.number
	case atMost:
		return ok && n <= c.number
	case greater:
		return ok && n > c.number
	case atLeast:
		return ok && n >= c.number
	case numberEquals:
		return ok && n == c.number
	}
	return !ok || n != c.number // numberDiffers: what is no number differs from every number
}

// number reads a decimal number: digits with sign, point and exponent.
func number(s string) (float64, bool) {
	s = strings.Trim(s, " \t\r\n")
	if s == "" || len(s) > 64 || strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

func (a all) size() int { return sizes(a) }
func (o one) size() int { return sizes(o) }

func sizes(cs []cond) int {
	n := 1
	for _, c := range cs {
		n += c.size()
	}
	return n
}

func (n not) size() int { return 1 + n.cond.size() }

func (s *step) size() int {
	if s.where == nil {
		return 1
	}
	return 1 + s.where.size()
}

func (c *compare) size() int { return 1 + len(c.text) }

// deepest is how many steps to any depth lie within one another.
func deepest(c cond) int {
	n := 0
	switch c := c.(type) {
	case all:
		for _, d := range c {
			n = max(n, deepest(d))
		}
	case one:
		for _, d := range c {
			n = max(n, deepest(d))
		}
	case not:
		n = deepest(c.cond)
	case *firstOf:
		n = deepest(nest(c.path, c.where))
	case *step:
		if c.where != nil {
			n = deepest(c.where)
		}
		if c.axis == descendant || c.axis == descendantAttribute {
			n++
		}
	}
	return n
}

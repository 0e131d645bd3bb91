package index

import (
	"math"
	"strings"

	"ninja/sds/check"
)

// filter is what postings can decide of a condition: a superset of the documents that meet it.
type filter interface{}

type (
	allOf     []filter
	oneOfThem []filter
	// terms are the documents with a place reached by the pattern whose terms lie in [from, to].
	terms struct {
		at       pattern
		kind     kind
		from, to bound
		// Of the pattern, found out once for all classes by prepared.
		path  string
		exact bool
	}
)

// bound is one end of a range of values.
type bound struct {
	text   string
	number float64
}

// pattern says how a place is reached from the document.
type pattern []hop

type hop struct {
	deep  bool // any number of elements may lie between
	attr  bool
	local string // "*" is any
}

// prepared finds out what every class would have to find out of the filter.
func prepared(f filter) filter {
	switch f := f.(type) {
	case allOf:
		for _, g := range f {
			prepared(g)
		}
	case oneOfThem:
		for _, g := range f {
			prepared(g)
		}
	case *terms:
		f.path, f.exact = f.at.exact()
	}
	return f
}

func (p pattern) then(h hop) pattern { return append(p[:len(p):len(p)], h) }

// exact is the one path that the pattern stands for, if it is only one.
func (p pattern) exact() (string, bool) {
	var b strings.Builder
	for _, h := range p {
		if h.deep || h.local == "*" {
			return "", false
		}
		b.WriteByte('/')
		if h.attr {
			b.WriteByte('@')
		}
		b.WriteString(h.local)
	}
	return b.String(), true
}

// last is the last component that a path of the pattern has; ok is false when it can be any.
func (p pattern) last() (name string, ok bool) {
	h := p[len(p)-1]
	if h.attr {
		return "@" + h.local, h.local != "*"
	}
	return h.local, h.local != "*"
}

// matches reports whether the path is one of the pattern's.
func (p pattern) matches(path string) bool {
	return p.match(strings.Split(path[1:], "/"))
}

func (p pattern) match(parts []string) bool {
	if len(p) == 0 {
		return len(parts) == 0
	}
	h := p[0]
	for i := range parts {
		name, attr := strings.CutPrefix(parts[i], "@")
		if attr == h.attr && (h.local == "*" || h.local == name) && p[1:].match(parts[i+1:]) {
			return true
		}
		if !h.deep {
			return false
		}
	}
	return false
}

func (a all) filter(at pattern) filter {
	var out allOf
	for _, c := range a {
		if f := c.filter(at); f != nil {
			out = append(out, f)
		}
	}
	switch len(out) {
	case 0:
		return nil
	case 1:
		return out[0]
	}
	return out
}

func (o one) filter(at pattern) filter {
	var out oneOfThem
	for _, c := range o {
		f := c.filter(at)
		if f == nil {
			return nil
		}
		out = append(out, f)
	}
	return out
}

func (n not) filter(pattern) filter { return nil }

func (s *step) filter(at pattern) filter {
	if s.axis == self {
		if s.where == nil {
			return nil
		}
		return s.where.filter(at)
	}
	at = at.then(hop{
		deep:  s.axis == descendant || s.axis == descendantAttribute,
		attr:  s.axis == attribute || s.axis == descendantAttribute,
		local: s.local,
	})
	if s.where != nil {
		if f := s.where.filter(at); f != nil {
			return f
		}
	}
	if _, ok := at.last(); !ok {
		return nil
	}
	return &terms{at: at, kind: present}
}

func (c *compare) filter(at pattern) filter {
	if len(at) == 0 {
		return nil
	}
	if _, ok := at.last(); !ok {
		return nil
	}
	var out oneOfThem
	switch c.op {
	case equals, oneOf:
		for _, t := range c.text {
			v := indexed(t)
			out = append(out, &terms{at: at, kind: text, from: bound{text: v}, to: bound{text: v}})
		}
	case prefix:
		v := indexed(c.text[0])
		out = append(out, &terms{at: at, kind: text, from: bound{text: v}, to: bound{text: v + "\xff"}})
	case less, atMost:
		out = append(out, numbers(at, math.Inf(-1), c.number))
	case greater, atLeast:
		out = append(out, numbers(at, c.number, math.Inf(1)))
	case numberEquals:
		out = append(out, numbers(at, c.number, c.number))
	default:
		return nil
	}
	if !at[len(at)-1].attr {
		// The value of an element that holds elements is not indexed: verification decides about those documents.
		out = append(out, &terms{at: at, kind: branch})
	}
	if len(out) == 1 {
		return out[0]
	}
	return out
}

func numbers(at pattern, from, to float64) filter {
	return &terms{at: at, kind: numeric, from: bound{number: from}, to: bound{number: to}}
}

// maxIndexed is how much of a value stands in the index; verification decides about the rest.
const maxIndexed = 64

// indexed is what stands in the index of a value.
func indexed(v string) string {
	v = check.Normal(v)
	return v[:min(len(v), maxIndexed)]
}

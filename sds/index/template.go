package index

import (
	"fmt"
	"strings"

	"ninja/sds/check"
)

// QueryNamespace marks what a template says of an element beside its name and value.
const QueryNamespace = "urn:ninja:query:1"

// Template compiles a template: a partial document (ninja-architecture 6.1: "a XML service template"; the subset query
// model of 6.2). A document matches when its root matches the template's root, and an element matches when
//
//   - its name is the same; a name without namespace in the template matches in every namespace,
//   - its attributes have the values that the template's have,
//   - its value equals the template's text, if there is any, both with white space normalised,
//   - for every child of the template's element there is a child that matches it; order means nothing.
//
// Attributes of the namespace urn:ninja:query:1 (here q) on an element say more:
//
//	q:anywhere="true"     the element may stand at any depth below its parent's (the root: anywhere in the document)
//	q:absent="true"       there is no such element
//	q:exists="true"       there is such an element: what is meant anyway
//	q:equals="x"          the value, where text would not do (the empty value)
//	q:less="4" q:greater="4" q:at-most="4" q:at-least="4" q:between="4 7"
//	q:prefix="x" q:contains="x" q:one-of="x|y|z"
//
// The element <q:attribute name="cores" at-least="2"/> says the same of an attribute of the element it stands in: its
// own attributes without prefix are name, optionally namespace, and those above except anywhere.
//
// A template passes the strict checker first; errors are *check.Error or name what is wrong.
func Template(b []byte) (*Query, error) {
	d, err := check.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	c, err := templateElement(d, 0)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	return bounded(c)
}

// bounded refuses what is too large to ask.
func bounded(c cond) (*Query, error) {
	if n := c.size(); n > MaxConditions {
		return nil, fmt.Errorf("the query has %d conditions, more than %d: ask for less", n, MaxConditions)
	}
	if n := deepest(c); n > MaxDeep {
		return nil, fmt.Errorf("%d steps to any depth lie within one another, more than %d: name the elements between", n, MaxDeep)
	}
	return compiled(c), nil
}

// templateElement is the condition that element i of a template states about the place of its parent.
func templateElement(d *check.Document, i int) (cond, error) {
	n := &d.Nodes[i]
	if n.Space == QueryNamespace {
		if n.Local != "attribute" || n.Parent < 0 {
			return nil, fmt.Errorf("<%s> of the query namespace: only <attribute> within an element is known", n.Local)
		}
		return templateAttribute(d, i)
	}
	s := &step{axis: child, space: space(n.Space), local: n.Local}
	var where all
	absent := false
	for _, a := range d.Attributes(i) {
		if a.Space != QueryNamespace {
			where = append(where, &step{axis: attribute, space: a.Space, local: a.Local, where: equal(a.Value)})
			continue
		}
		switch c, err := comparison(a.Local, a.Value); {
		case a.Local == "anywhere" && a.Value == "true":
			s.axis = descendant
		case a.Local == "absent" && a.Value == "true":
			absent = true
		case err != nil:
			return nil, fmt.Errorf("<%s>: %w", n.Local, err)
		case c != nil:
			where = append(where, c)
		}
	}
	if d.Leaf(i) {
		if v := check.Normal(d.Value(i)); v != "" {
			where = append(where, equal(v))
		}
	}
	for j := i + 1; j < int(n.End); j = int(d.Nodes[j].End) {
		c, err := templateElement(d, j)
		if err != nil {
			return nil, err
		}
		where = append(where, c)
	}
	if len(where) > 0 {
		s.where = where
	}
	if absent {
		return not{s}, nil
	}
	return s, nil
}

// templateAttribute is the condition of <q:attribute>.
func templateAttribute(d *check.Document, i int) (cond, error) {
	s := &step{axis: attribute}
	var where all
	absent := false
	for _, a := range d.Attributes(i) {
		switch c, err := comparison(a.Local, a.Value); {
		case a.Space != "":
			return nil, fmt.Errorf("<q:attribute>: write its attributes without prefix")
		case a.Local == "name":
			s.local = a.Value
		case a.Local == "namespace":
			s.space = a.Value
		case a.Local == "absent" && a.Value == "true":
			absent = true
		case err != nil:
			return nil, fmt.Errorf("<q:attribute>: %w", err)
		case c != nil:
			where = append(where, c)
		}
	}
	if s.local == "" || !d.Leaf(i) || check.Normal(d.Value(i)) != "" {
		return nil, fmt.Errorf("<q:attribute> wants the attribute name and holds nothing")
	}
	if len(where) > 0 {
		s.where = where
	}
	if absent {
		return not{s}, nil
	}
	return s, nil
}

// space is the namespace test of a template's name.
func space(s string) string {
	if s == "" {
		return anySpace
	}
	return s
}

func equal(v string) cond {
	return &compare{op: equals, normal: true, text: []string{check.Normal(v)}}
}

// comparison reads one comparison; nil is one that says nothing.
func comparison(word, operand string) (cond, error) {
	ops := map[string]op{"less": less, "greater": greater, "at-most": atMost, "at-least": atLeast}
	if o, ok := ops[word]; ok {
		n, ok := number(operand)
		if !ok {
			return nil, fmt.Errorf("%s=%q: a number is wanted", word, operand)
		}
		return &compare{op: o, normal: true, number: n}, nil
	}
	switch word {
	case "exists":
		if operand == "true" {
			return nil, nil
		}
	case "between":
		low, high, _ := strings.Cut(check.Normal(operand), " ")
		from, ok := number(low)
		to, ok2 := number(high)
		if !ok || !ok2 {
			return nil, fmt.Errorf("between=%q: two numbers are wanted, as in between=\"4 7\"", operand)
		}
		return all{&compare{op: atLeast, normal: true, number: from}, &compare{op: atMost, normal: true, number: to}}, nil
	case "equals":
		return equal(operand), nil
	case "prefix":
		return &compare{op: prefix, normal: true, text: []string{operand}}, nil
	case "contains":
		return &compare{op: contains, normal: true, text: []string{operand}}, nil
	case "one-of":
		var set []string
		for v := range strings.SplitSeq(operand, "|") {
			set = append(set, check.Normal(v))
		}
		return &compare{op: oneOf, normal: true, text: set}, nil
	}
	return nil, fmt.Errorf("%s=%q is not known: the words are anywhere, absent, exists (each \"true\"), equals, less, greater, at-most, at-least, between, prefix, contains, one-of", word, operand)
}

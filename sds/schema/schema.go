// Package schema checks descriptions against the schema that they claim (ninja-architecture 6.1 keeps descriptions in
// XML so that they can be validated). A schema is a document type definition in a subset of XML 1.0, section 3.2 and
// 3.3: element and attribute-list declarations and comments; no entities, no notations, no prefixes, no
// defaults of references. A document says
// which schema it means by an attribute of its root element:
//
//	<service xmlns="urn:ninja:service:1" xmlns:s="urn:ninja:schema:1" s:schema="printer/2" kind="printer">
//
// Versions of a schema stand beside each other; each document is checked against its own. Names in a schema are the
// local names of elements and attributes, whatever their namespace; the claim itself needs no declaration. Any declared
// element may be the root. Defaults are checked, and not added to documents, whose bytes are signed.
//
// Both parsing and checking are bounded: content models are deterministic, as XML demands, so a document is checked in
// one pass without search.
package schema

import (
	"fmt"
	"strings"

	"ninja/sds/check"
)

// Namespace is that of the claiming attribute, schema.
const Namespace = "urn:ninja:schema:1"

// Budgets of one schema.
const (
	MaxBytes      = 64 << 10
	MaxElements   = 512
	MaxAttributes = check.MaxAttributes // of one element
	MaxPositions  = 256                 // names in one content model
	MaxDepth      = check.MaxDepth      // groups within groups
	maxFollow     = 1 << 16             // transitions of all content models
	maxErrors     = 16                  // that are told of one document
)

// Error says what was refused, where, and what to do about it.
type Error struct {
	Line    int    // from 1
	Element string // "" in a schema, outside any declaration
	Rule    string
	Remedy  string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Element == "" {
		return fmt.Sprintf("line %d: %s: %s", e.Line, e.Rule, e.Remedy)
	}
	return fmt.Sprintf("line %d: <%s>: %s: %s", e.Line, e.Element, e.Rule, e.Remedy)
}

// Errors are what is wrong with a document, the first 16.
type Errors []*Error

// Error implements error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "; ")
}

// Schema is a parsed schema. It is immutable.
type Schema struct{ elements map[string]*element }

// content is the kind of an element's content.
type content byte

const (
	undeclared content = iota // there are attributes only so far
	empty
	anything
	mixed    // text and elements of names
	children // elements by the model
)

type element struct {
	name       string
	content    content
	names      map[string]bool // of mixed
	model      *model
	text       string // the declared model, for errors
	attributes []*attribute
}

// attribute is one declaration.
type attribute struct {
	name     string
	kind     attributeKind
	values   []string // of an enumeration
	required bool
	fixed    bool
	value    string // of fixed, or the default
}

type attributeKind byte

const (
	cdata attributeKind = iota
	id
	idref
	idrefs
	nmtoken
	nmtokens
	enumeration
)

// Claim is the schema that a document says it follows, as NAME/VERSION.
func Claim(d *check.Document) (claim string, ok bool) {
	for _, a := range d.Attributes(0) {
		if a.Space == Namespace && a.Local == "schema" {
			return check.Normal(a.Value), true
		}
	}
	return "", false
}

// Check holds a document against the schema. Its error is Errors.
func (s *Schema) Check(d *check.Document) error {
	c := checker{Schema: s, d: d, ids: make(map[string]bool)}
	for i := range d.Nodes {
		c.node(i)
	}
	for _, r := range c.refs {
		if !c.ids[r.value] {
			c.fail(r.node, fmt.Sprintf("the reference %q leads nowhere", r.value), "give the element that is meant an ID of this value")
		}
	}
	if len(c.errors) == 0 {
		return nil
	}
	return c.errors
}

type checker struct {
	*Schema
	d      *check.Document
	ids    map[string]bool
	refs   []reference
	errors Errors
}

type reference struct {
	node  int
	value string
}

func (c *checker) fail(i int, rule, remedy string) {
	if len(c.errors) < maxErrors {
		c.errors = append(c.errors, &Error{c.d.Line(i), c.d.Nodes[i].Local, rule, remedy})
	}
}

func (c *checker) node(i int) {
	n := &c.d.Nodes[i]
	e := c.elements[n.Local]
	if e == nil || e.content == undeclared {
		c.fail(i, "the schema declares no such element", "remove it, or claim a version of the schema that has it")
		return
	}
	c.attributes(i, e)
	switch e.content {
	case empty:
		if !c.d.Empty(i) {
			c.fail(i, "it is declared EMPTY and holds something", "write <"+n.Local+"/>")
		}
	case mixed:
		for j := i + 1; j < int(n.End); j = int(c.d.Nodes[j].End) {
			if name := c.d.Nodes[j].Local; !e.names[name] {
				c.fail(j, "it may not stand in <"+n.Local+">", "allowed there: "+e.text)
			}
		}
	case children:
		c.children(i, e)
	}
}

// children walks the content model along the element's children.
func (c *checker) children(i int, e *element) {
	n := &c.d.Nodes[i]
	if c.d.Leaf(i) && check.Normal(c.d.Value(i)) != "" {
		c.fail(i, "it holds text", "it must hold "+e.text)
		return
	}
	at := 0
	for j := i + 1; j < int(n.End); j = int(c.d.Nodes[j].End) {
		next, ok := e.model.follow[at][c.d.Nodes[j].Local]
		if !ok {
			c.fail(j, "it may not stand here in <"+n.Local+">", "<"+n.Local+"> must hold "+e.text)
			return
		}
		at = next
	}
	if !e.model.last[at] {
		c.fail(i, "something is missing at its end", "it must hold "+e.text)
	}
}

func (c *checker) attributes(i int, e *element) {
	have := c.d.Attributes(i)
	for _, a := range have {
		if a.Space == Namespace {
			continue
		}
		decl := e.attribute(a.Local)
		if decl == nil {
			c.fail(i, "the attribute "+a.Local+" is not declared", "remove it")
			continue
		}
		if wrong := decl.wrong(a.Value); wrong != "" {
			c.fail(i, fmt.Sprintf("the attribute %s=%.40q", a.Local, a.Value), wrong)
			continue
		}
		c.identities(i, decl, a.Value)
	}
	for _, decl := range e.attributes {
		if !decl.required {
			continue
		}
		found := false
		for _, a := range have {
			found = found || a.Space != Namespace && a.Local == decl.name
		}
		if !found {
			c.fail(i, "the attribute "+decl.name+" is missing", "it is required")
		}
	}
}

// identities keeps what must be unique, and what must be there, in the whole document.
func (c *checker) identities(i int, decl *attribute, value string) {
	switch decl.kind {
	case id:
		v := check.Normal(value)
		if c.ids[v] {
			c.fail(i, fmt.Sprintf("the ID %.40q is used twice", v), "choose another")
		}
		c.ids[v] = true
	case idref, idrefs:
		for _, v := range strings.Fields(value) {
			c.refs = append(c.refs, reference{i, v})
		}
	}
}

func (e *element) attribute(name string) *attribute {
	for _, a := range e.attributes {
		if a.name == name {
			return a
		}
	}
	return nil
}

// wrong is what a value should be and is not; "" is nothing.
func (a *attribute) wrong(value string) string {
	v := value
	if a.kind != cdata {
		v = check.Normal(value)
	}
	switch a.kind {
	case id, idref:
		if !isName(v) {
			return "a name is wanted: a letter, then letters, digits and . - _"
		}
	case idrefs, nmtoken, nmtokens:
		parts := strings.Fields(v)
		if len(parts) == 0 || a.kind == nmtoken && len(parts) > 1 {
			return "a word is wanted"
		}
		for _, p := range parts {
			if a.kind == idrefs && !isName(p) || !isToken(p) {
				return "words of letters, digits and . - _ are wanted"
			}
		}
	case enumeration:
		for _, x := range a.values {
			if x == v {
				return a.unfixed(v)
			}
		}
		return "it must be one of " + strings.Join(a.values, ", ")
	}
	return a.unfixed(v)
}

func (a *attribute) unfixed(v string) string {
	if a.fixed && v != a.value {
		return fmt.Sprintf("it must be %q", a.value)
	}
	return ""
}

func isName(s string) bool {
	return s != "" && (s[0] == '_' || s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z') && isToken(s)
}

// isToken reports names of ASCII letters, as in package check; a prefix means nothing here.
func isToken(s string) bool {
	for i := range len(s) {
		if !nameByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

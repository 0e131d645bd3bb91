// Package check is the strict door that every description and every template passes before anything else looks at it:
// budgets on bytes, depth, attributes and values, and a refusal of whatever two XML parsers could read differently
// (ninja-architecture 6.1 keeps descriptions in XML; XML 1.0 fifth edition and Namespaces in XML 1.0 are the grammar).
//
// What is accepted is a subset of well-formed, namespace-well-formed XML 1.0:
//
//   - UTF-8 without byte order mark; an XML declaration may name version 1.0 and encoding UTF-8, nothing else.
//   - No DOCTYPE, so no entities but the five of XML and character references; no processing instructions.
//   - Names are ASCII (editions of XML differ beyond it); values are any Unicode that XML allows.
//   - No CDATA sections: some parsers give them as nodes of their own, which splits text. Write &lt; and &amp;.
//   - An element holds either elements or text, never both, and a comment never stands in an element that holds text.
//     Comments and the white space between elements mean nothing.
//   - Attribute values hold no literal tab or line end: XML makes them spaces, some parsers do not. Write &#9; or &#10;.
//   - No duplicate attribute, also after prefixes are resolved; no undeclared prefix; nothing but white space behind
//     the root element.
//
// Errors name line, rule and remedy. The work is one pass over the bytes, and its result is a compact tree, so that a
// document is parsed once.
package check

import (
	"fmt"
	"strings"
)

// Budgets of one document.
const (
	MaxBytes      = 64 << 10 // of a whole document
	MaxDepth      = 32       // elements within elements, the root included
	MaxAttributes = 64       // an element, namespace declarations included
	MaxValue      = 4 << 10  // bytes of one attribute value or one element's text, as written
	MaxName       = 128      // bytes of one name, prefix included
)

// Error says what was refused, where, and what to do about it.
type Error struct {
	Line   int    // from 1; 0 when the whole document is meant
	Rule   string // what was broken, such as "two attributes named x"
	Remedy string // what to do, such as "remove one"
}

// Error implements error.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Rule, e.Remedy)
	}
	return fmt.Sprintf("line %d: %s: %s", e.Line, e.Rule, e.Remedy)
}

// Document is a parsed document. It is immutable and may be read by many goroutines.
type Document struct {
	// Nodes are the elements in document order; Nodes[0] is the root.
	Nodes []Node
	// Attrs are the attributes of all elements, those of one element together; namespace declarations are left out.
	Attrs  []Attr
	source string
}

// Node is an element. Its subtree is Nodes[i:End].
type Node struct {
	Space, Local       string // Space is the namespace's name, "" for none
	Parent, End        int32  // Parent of the root is -1
	firstAttr, endAttr int32
	open, close        int32 // the content is source[open:close]
}

// Attr is an attribute, its value with references resolved.
type Attr struct{ Space, Local, Value string }

// Source is the document as it was written, so that nobody has to keep it beside its tree.
func (d *Document) Source() string { return d.source }

// Attributes are those of element i.
func (d *Document) Attributes(i int) []Attr {
	n := &d.Nodes[i]
	return d.Attrs[n.firstAttr:n.endAttr]
}

// Leaf reports whether element i has no elements within it.
func (d *Document) Leaf(i int) bool { return int(d.Nodes[i].End) == i+1 }

// Empty reports whether element i holds nothing at all, not even white space or a comment.
func (d *Document) Empty(i int) bool { return d.Nodes[i].open >= d.Nodes[i].close }

// Line is the line on which the start tag of element i ends, from 1.
func (d *Document) Line(i int) int {
	return 1 + strings.Count(d.source[:min(int(d.Nodes[i].open), len(d.source))], "\n")
}

// Content is where in the Source the content of element i stands.
func (d *Document) Content(i int) (from, to int) {
	n := &d.Nodes[i]
	return int(n.open), max(int(n.open), int(n.close))
}

// Value is the string-value of element i in the sense of XPath 1.0, 5.2: all the text within it, white space included.
func (d *Document) Value(i int) string {
	n := &d.Nodes[i]
	return Text(d.source[n.open:n.close])
}

// Text is the string-value of content that has been checked.
func Text(content string) string {
	if !strings.ContainsAny(content, "<&\r") {
		return content
	}
	var b strings.Builder
	for content != "" {
		at := strings.IndexByte(content, '<')
		if at < 0 {
			b.WriteString(resolve(content))
			break
		}
		b.WriteString(resolve(content[:at]))
		content = content[at+markup(content[at:]):]
	}
	return b.String()
}

// markup is the length of the tag or comment that checked content begins with.
func markup(s string) int {
	if strings.HasPrefix(s, "<!--") {
		return 4 + strings.Index(s[4:], "-->") + 3
	}
	var quote byte
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>':
			return i + 1
		}
	}
	return len(s)
}

// Normal is s as normalize-space of XPath leaves it: without white space at the ends, inner runs of it one space.
func Normal(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = !isSpace(s[i]) || s[i] == ' ' && i > 0 && i < len(s)-1 && s[i-1] != ' '
	}
	if plain {
		return s
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < 0x80 && isSpace(byte(r)) }), " ")
}

// isSpace reports the white space of XML.
func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

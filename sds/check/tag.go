package check

import (
	"fmt"
	"strconv"
	"strings"
)

// written is an attribute as it stands in the tag.
type written struct{ name, value string }

func (p *parser) startTag() *Error {
	if len(p.stack) == MaxDepth {
		return p.fail(fmt.Sprintf("elements nest deeper than %d", MaxDepth), "flatten the document")
	}
	if len(p.stack) > 0 {
		top := &p.stack[len(p.stack)-1]
		top.child = true
		if e := p.mixed(top); e != nil {
			return e
		}
	}
	p.i++
	name, e := p.name()
	if e != nil {
		return e
	}
	attrs, closed, e := p.tagRest(name)
	if e != nil {
		return e
	}
	outside := len(p.bound)
	if e := p.declare(attrs); e != nil {
		return e
	}
	parent := int32(-1)
	if len(p.stack) > 0 {
		parent = p.stack[len(p.stack)-1].node
	}
	n := Node{Parent: parent, firstAttr: int32(len(p.attrs)), open: int32(p.i), close: int32(p.i)}
	if n.Space, n.Local, e = p.resolveName(name, true); e != nil {
		return e
	}
	if e := p.attributes(attrs); e != nil {
		return e
	}
	n.endAttr = int32(len(p.attrs))
	p.nodes = append(p.nodes, n)
	p.stack = append(p.stack, level{node: int32(len(p.nodes) - 1), name: name, bound: outside})
	if closed {
		p.pop()
	}
	return nil
}

// name reads one name: NCName, or NCName:NCName, of ASCII.
func (p *parser) name() (string, *Error) {
	from := p.i
	colons, start := 0, true
	for ; p.i < len(p.s); p.i++ {
		c := p.s[p.i]
		if c == ':' && !start && colons == 0 {
			colons, start = 1, true
			continue
		}
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (start || !(c >= '0' && c <= '9' || c == '-' || c == '.')) {
			break
		}
		start = false
	}
	switch {
	case start:
		return "", p.fail("no name where one is wanted", "names are of ASCII letters, digits, '-', '_', '.', with at most one prefix; a plain < in text is written &lt;")
	case p.i-from > MaxName:
		return "", p.fail(fmt.Sprintf("a name of %d bytes is over %d", p.i-from, MaxName), "shorten it")
	}
	return p.s[from:p.i], nil
}

// tagRest reads what follows the name of a start tag.
func (p *parser) tagRest(tag string) (attrs []written, closed bool, e *Error) {
	for {
		spaced := p.space()
		rest := p.s[p.i:]
		switch {
		case strings.HasPrefix(rest, ">"):
			p.i++
			return attrs, false, nil
		case strings.HasPrefix(rest, "/>"):
			p.i += 2
			return attrs, true, nil
		case rest == "":
			return nil, false, p.fail("the tag <"+tag+" does not end", "close it with >")
		case !spaced:
			return nil, false, p.fail("the tag <"+tag+" goes on with something that is no attribute", "put white space before each attribute; names are ASCII")
		case len(attrs) == MaxAttributes:
			return nil, false, p.fail(fmt.Sprintf("more than %d attributes on <%s>", MaxAttributes, tag), "use elements")
		}
		a, e := p.attribute()
		if e != nil {
			return nil, false, e
		}
		attrs = append(attrs, a)
	}
}

// attribute reads one name="value".
func (p *parser) attribute() (written, *Error) {
	name, e := p.name()
	if e != nil {
		return written{}, e
	}
	p.space()
	if !strings.HasPrefix(p.s[p.i:], "=") {
		return written{}, p.fail("the attribute "+name+" has no value", `write `+name+`="..."`)
	}
	p.i++
	p.space()
	if p.i >= len(p.s) || p.s[p.i] != '"' && p.s[p.i] != '\'' {
		return written{}, p.fail("the value of the attribute "+name+" has no quotes", `write `+name+`="..."`)
	}
	end := strings.IndexByte(p.s[p.i+1:], p.s[p.i])
	if end < 0 {
		return written{}, p.fail("the value of the attribute "+name+" does not end", "close its quote")
	}
	v := p.s[p.i+1 : p.i+1+end]
	if at := strings.IndexAny(v, "<\t\n\r"); at >= 0 {
		return written{}, p.fail(fmt.Sprintf("the value of the attribute %s holds %q", name, v[at]), fmt.Sprintf("write &#%d;", v[at]))
	}
	if e := p.value(v, MaxValue); e != nil {
		return written{}, e
	}
	p.i += end + 2
	return written{name, resolve(v)}, nil
}

// declare binds the prefixes that a tag declares.
func (p *parser) declare(attrs []written) *Error {
	outside := len(p.bound)
	for _, a := range attrs {
		prefix, ok := strings.CutPrefix(a.name, "xmlns:")
		if !ok && a.name != "xmlns" {
			continue
		}
		if !ok {
			prefix = ""
		}
		switch {
		case prefix == "xml" || prefix == "xmlns" || a.value == xmlSpace || a.value == "http://www.w3.org/2000/xmlns/":
			return p.fail("a declaration of "+a.name+" that XML reserves", "use another prefix")
		case prefix != "" && a.value == "":
			return p.fail("the prefix "+prefix+" is bound to nothing", "name a namespace")
		case a.value != strings.TrimSpace(a.value):
			return p.fail("a namespace name with white space at its ends", "remove the white space")
		}
		for _, b := range p.bound[outside:] {
			if b.prefix == prefix {
				return p.fail("two attributes named "+a.name, "remove one")
			}
		}
		p.bound = append(p.bound, binding{prefix, a.value})
	}
	return nil
}

// resolveName splits a name and finds its namespace. Attributes without prefix are in none.
func (p *parser) resolveName(name string, element bool) (space, local string, e *Error) {
	prefix, local, ok := strings.Cut(name, ":")
	if !ok {
		prefix, local = "", name
		if !element {
			return "", local, nil
		}
	}
	switch prefix {
	case "xml":
		return xmlSpace, local, nil
	case "xmlns":
		return "", "", p.fail("an element named "+name, "XML reserves the prefix: use another")
	}
	for i := len(p.bound) - 1; i >= 0; i-- {
		if p.bound[i].prefix == prefix {
			return p.bound[i].space, local, nil
		}
	}
	if prefix != "" {
		return "", "", p.fail("the prefix "+prefix+" is not declared", `declare it with xmlns:`+prefix+`="..."`)
	}
	return "", local, nil
}

// attributes resolves and keeps the attributes of the tag that was just read.
func (p *parser) attributes(attrs []written) *Error {
	first := len(p.attrs)
	for _, a := range attrs {
		if a.name == "xmlns" || strings.HasPrefix(a.name, "xmlns:") {
			continue
		}
		space, local, e := p.resolveName(a.name, false)
		if e != nil {
			return e
		}
		for _, b := range p.attrs[first:] {
			if b.Space == space && b.Local == local {
				return p.fail("two attributes named "+a.name, "remove one")
			}
		}
		p.attrs = append(p.attrs, Attr{space, local, a.value})
	}
	return nil
}

// resolve replaces the references of a checked value and makes its line ends newlines (XML 1.0, 2.11).
func resolve(v string) string {
	if !strings.ContainsAny(v, "&\r") {
		return v
	}
	var b strings.Builder
	for i := 0; i < len(v); {
		switch v[i] {
		case '&':
			r, size := reference(v[i:])
			b.WriteRune(r)
			i += size
		case '\r':
			b.WriteByte('\n')
			if i++; i < len(v) && v[i] == '\n' {
				i++
			}
		default:
			b.WriteByte(v[i])
			i++
		}
	}
	return b.String()
}

// maxReference is the longest reference that is looked at, its & and ; included.
const maxReference = 12

// reference reads the reference that s begins with; size is 0 when it is none.
func reference(s string) (r rune, size int) {
	end := strings.IndexByte(s[:min(len(s), maxReference)], ';')
	if end < 0 {
		return 0, 0
	}
	switch name := s[1:end]; name {
	case "lt":
		return '<', end + 1
	case "gt":
		return '>', end + 1
	case "amp":
		return '&', end + 1
	case "quot":
		return '"', end + 1
	case "apos":
		return '\'', end + 1
	default:
		digits, ok := strings.CutPrefix(name, "#")
		base := 10
		if hex, isHex := strings.CutPrefix(digits, "x"); isHex {
			digits, base = hex, 16
		}
		n, err := strconv.ParseUint(digits, base, 32)
		if !ok || err != nil || n > 0x10ffff || !isChar(rune(n)) {
			return 0, 0
		}
		return rune(n), end + 1
	}
}

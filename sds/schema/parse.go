package schema

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"ninja/sds/check"
)

// Parse reads a schema. Its error is an *Error.
func Parse(b []byte) (*Schema, error) {
	p := &parser{s: string(b), out: &Schema{make(map[string]*element)}}
	if len(b) > MaxBytes {
		return nil, p.fail(fmt.Errorf("%d bytes are over %d", len(b), MaxBytes))
	}
	for i, r := range p.s {
		if r == utf8.RuneError || r < ' ' && !isSpace(byte(r)) {
			p.i = i
			return nil, p.fail(fmt.Errorf("a character that XML does not allow, or no UTF-8"))
		}
	}
	for {
		if p.space(); p.i == len(p.s) {
			break
		}
		if err := p.declaration(); err != nil {
			return nil, p.fail(err)
		}
	}
	for _, e := range p.out.elements {
		if e.content != undeclared {
			return p.out, nil
		}
	}
	return nil, p.fail(fmt.Errorf("no element is declared"))
}

// parser reads one schema by recursive descent.
type parser struct {
	s    string
	i    int
	name string // of the element being declared
	size int    // transitions of all content models
	out  *Schema
}

const understood = "understood are <!ELEMENT name model>, <!ATTLIST name attribute type default> and comments"

func (p *parser) fail(err error) *Error {
	at := min(p.i, len(p.s))
	return &Error{1 + strings.Count(p.s[:at], "\n"), p.name, err.Error(), understood}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// space skips white space and says whether there was any.
func (p *parser) space() bool {
	from := p.i
	for p.i < len(p.s) && isSpace(p.s[p.i]) {
		p.i++
	}
	return p.i > from
}

func (p *parser) take(symbol string) bool {
	if !strings.HasPrefix(p.s[p.i:], symbol) {
		return false
	}
	p.i += len(symbol)
	return true
}

// word reads a token, which is a name unless any will do.
func (p *parser) word(any bool) (string, error) {
	from := p.i
	for p.i < len(p.s) && nameByte(p.s[p.i]) {
		p.i++
	}
	w := p.s[from:p.i]
	if len(w) > check.MaxName || w == "" || !any && !isName(w) {
		return "", fmt.Errorf("a name without prefix of at most %d letters, digits and . - _ is wanted", check.MaxName)
	}
	return w, nil
}

func (p *parser) declaration() error {
	p.name = ""
	switch {
	case p.take("<!--"):
		end := strings.Index(p.s[p.i:], "--")
		if end < 0 || !strings.HasPrefix(p.s[p.i+end:], "-->") {
			return fmt.Errorf("a comment with -- inside or without end")
		}
		p.i += end + 3
		return nil
	case p.take("<!ELEMENT"):
		return p.element()
	case p.take("<!ATTLIST"):
		return p.attlist()
	}
	return fmt.Errorf("a declaration that is not understood")
}

// subject reads the name of the element that a declaration is about.
func (p *parser) subject() (*element, error) {
	if !p.space() {
		return nil, fmt.Errorf("white space is wanted")
	}
	name, err := p.word(false)
	if err != nil {
		return nil, err
	}
	p.name = name
	e := p.out.elements[name]
	if e == nil {
		if len(p.out.elements) == MaxElements {
			return nil, fmt.Errorf("more than %d elements", MaxElements)
		}
		e = &element{name: name}
		p.out.elements[name] = e
	}
	return e, nil
}

func (p *parser) element() error {
	e, err := p.subject()
	if err != nil {
		return err
	}
	if e.content != undeclared {
		return fmt.Errorf("the element is declared twice")
	}
	if !p.space() {
		return fmt.Errorf("a content model is wanted")
	}
	from := p.i
	switch {
	case p.take("EMPTY"):
		e.content = empty
	case p.take("ANY"):
		e.content = anything
	case p.take("("):
		p.space()
		if p.take("#PCDATA") {
			err = p.mixed(e)
		} else {
			err = p.children(e)
		}
	default:
		err = fmt.Errorf("a content model is wanted: EMPTY, ANY or ( ... )")
	}
	if err != nil {
		return err
	}
	e.text = check.Normal(p.s[from:p.i])
	return p.end()
}

// end reads the end of a declaration.
func (p *parser) end() error {
	if p.space(); !p.take(">") {
		return fmt.Errorf("the declaration does not end with >")
	}
	return nil
}

// mixed reads what follows (#PCDATA.
func (p *parser) mixed(e *element) error {
	e.content, e.names = mixed, make(map[string]bool)
	for p.space(); p.take("|"); p.space() {
		p.space()
		n, err := p.word(false)
		if err != nil {
			return err
		}
		if e.names[n] {
			return fmt.Errorf("%s is named twice", n)
		}
		if e.names[n] = true; len(e.names) > MaxPositions {
			return fmt.Errorf("the content model has more than %d names", MaxPositions)
		}
	}
	if !p.take(")") || !p.take("*") && len(e.names) > 0 {
		return fmt.Errorf("text beside elements is written (#PCDATA | name | ...)*")
	}
	return nil
}

func (p *parser) children(e *element) error {
	b := newBuilder(&p.size)
	x, err := p.group(b, 1)
	if err != nil {
		return err
	}
	e.content = children
	e.model, err = b.finish(x)
	return err
}

// group reads what follows a parenthesis, to its end and what is marked behind it.
func (p *parser) group(b *builder, depth int) (x part, err error) {
	if depth > MaxDepth {
		return x, fmt.Errorf("groups within groups deeper than %d", MaxDepth)
	}
	var join byte
	for first := true; ; first = false {
		p.space()
		var y part
		if p.take("(") {
			y, err = p.group(b, depth+1)
		} else {
			y, err = p.single(b)
		}
		if err == nil {
			switch {
			case first:
				x = y
			case join == ',':
				x, err = b.then(x, y)
			default:
				x = b.or(x, y)
			}
		}
		if err != nil {
			return x, err
		}
		p.space()
		if p.take(")") {
			return p.marked(b, x)
		}
		if p.i == len(p.s) || p.s[p.i] != ',' && p.s[p.i] != '|' || join != 0 && p.s[p.i] != join {
			return x, fmt.Errorf("a group is names joined by , or by |, not both, and ends with )")
		}
		join = p.s[p.i]
		p.i++
	}
}

func (p *parser) single(b *builder) (part, error) {
	n, err := p.word(false)
	if err != nil {
		return part{}, err
	}
	x, err := b.name(n)
	if err != nil {
		return x, err
	}
	return p.marked(b, x)
}

// marked reads one of ? * + if it comes next.
func (p *parser) marked(b *builder, x part) (part, error) {
	if p.i < len(p.s) && strings.IndexByte("?*+", p.s[p.i]) >= 0 {
		p.i++
		return b.times(x, p.s[p.i-1])
	}
	return x, nil
}

func (p *parser) attlist() error {
	e, err := p.subject()
	if err != nil {
		return err
	}
	for {
		spaced := p.space()
		if p.take(">") {
			return nil
		}
		if !spaced {
			return fmt.Errorf("white space is wanted")
		}
		a, err := p.attribute()
		if err != nil {
			return err
		}
		if e.attribute(a.name) != nil {
			continue // the first declaration counts: XML 1.0, 3.3
		}
		if a.kind == id && slices.ContainsFunc(e.attributes, func(o *attribute) bool { return o.kind == id }) {
			return fmt.Errorf("an element has one ID attribute")
		}
		if e.attributes = append(e.attributes, a); len(e.attributes) > MaxAttributes {
			return fmt.Errorf("more than %d attributes", MaxAttributes)
		}
	}
}

// kinds of attributes, the longer ones first where one begins another.
var kinds = []struct {
	word string
	kind attributeKind
}{{"CDATA", cdata}, {"IDREFS", idrefs}, {"IDREF", idref}, {"ID", id}, {"NMTOKENS", nmtokens}, {"NMTOKEN", nmtoken}}

func (p *parser) attribute() (*attribute, error) {
	name, err := p.word(false)
	if err != nil {
		return nil, err
	}
	a := &attribute{name: name}
	if !p.space() {
		return nil, fmt.Errorf("the type of %s is wanted", name)
	}
	if p.take("(") {
		err = p.values(a)
	} else {
		err = fmt.Errorf("the type of %s is wanted: CDATA, ID, IDREF, IDREFS, NMTOKEN, NMTOKENS or (one|another)", name)
		for _, k := range kinds {
			if p.take(k.word) {
				a.kind, err = k.kind, nil
				break
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if !p.space() {
		return nil, fmt.Errorf("the default of %s is wanted: #REQUIRED, #IMPLIED, #FIXED \"value\" or \"value\"", name)
	}
	return a, p.standard(a)
}

// values reads an enumeration behind its parenthesis.
func (p *parser) values(a *attribute) error {
	a.kind = enumeration
	for {
		p.space()
		v, err := p.word(true)
		if err != nil {
			return err
		}
		if slices.Contains(a.values, v) {
			return fmt.Errorf("%s is named twice", v)
		}
		if a.values = append(a.values, v); len(a.values) > MaxPositions {
			return fmt.Errorf("an enumeration of more than %d values", MaxPositions)
		}
		if p.space(); p.take(")") {
			return nil
		}
		if !p.take("|") {
			return fmt.Errorf("an enumeration is written (one|another)")
		}
	}
}

// standard reads what holds when the attribute is not there.
func (p *parser) standard(a *attribute) error {
	switch {
	case p.take("#REQUIRED"):
		a.required = true
		return nil
	case p.take("#IMPLIED"):
		return nil
	case p.take("#FIXED"):
		if a.fixed = true; !p.space() {
			return fmt.Errorf("white space is wanted")
		}
	}
	if p.i == len(p.s) || p.s[p.i] != '"' && p.s[p.i] != '\'' {
		return fmt.Errorf("the default of %s is wanted in quotes", a.name)
	}
	quote := p.s[p.i : p.i+1]
	p.i++
	v, _, ok := strings.Cut(p.s[p.i:], quote)
	if !ok || strings.ContainsAny(v, "<&\n\r\t") || len(v) > check.MaxValue {
		return fmt.Errorf("a default is short text in quotes without <, &, tabs and line ends")
	}
	p.i += len(v) + 1
	if a.kind != cdata {
		v = check.Normal(v)
	}
	if a.kind == id || a.kind == idref || a.kind == idrefs { // of references XML has them, and parsers disagree about them
		return fmt.Errorf("an ID or a reference to one has no default")
	}
	a.value = v
	if wrong := a.wrong(v); wrong != "" {
		return fmt.Errorf("the default %q of %s: %s", v, a.name, wrong)
	}
	return nil
}

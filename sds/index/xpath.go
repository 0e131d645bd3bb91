package index

import (
	"fmt"
	"strconv"
	"strings"

	"ninja/sds/check"
)

// MaxXPath bounds an expression, in bytes.
const MaxXPath = 4096

// XPath compiles an expression of a subset of XPath 1.0 to the same plan as a template. A document matches when the
// expression is true, or selects something, at the document node. The subset:
//
//	expression  = and-or of tests, with parentheses and not(...)
//	test        = path                          it selects something
//	            | path OP literal               OP: = != < <= > >=; literal: 'text', "text" or a number
//	            | normalize-space(path) OP literal
//	            | contains(path, 'text') | starts-with(path, 'text')
//	path        = /a/b  //a  a/b[...]  .//a  a/@b  @b  .  with * for any name
//	[...]       = an expression; paths in it are relative
//
// A comparison with a path is true when any selected place meets it; the functions look at the first, as XPath says,
// and contains and starts-with of nothing selected are false, as in xmlquery. A
// name without prefix means the name in any namespace (XPath would say: in none), so that documents which declare a
// default namespace can be asked without ceremony; the prefixes of ns name namespaces exactly. Not in the subset, and
// refused with a word about it: positions, other axes and functions, text(), arithmetic, union.
func XPath(expr string, ns map[string]string) (*Query, error) {
	if len(expr) > MaxXPath {
		return nil, fmt.Errorf("XPath: %d bytes are over %d: ask for less", len(expr), MaxXPath)
	}
	p := &xparser{s: expr, ns: ns}
	c, err := p.or()
	if err == nil && p.space() < len(expr) {
		err = p.fail("something follows the expression")
	}
	if err != nil {
		return nil, err
	}
	return bounded(c)
}

// xparser is a parse by recursive descent.
type xparser struct {
	s     string
	i     int
	depth int // of predicates, parentheses and not()
	inner int // of predicates
	ns    map[string]string
}

func (p *xparser) fail(format string, args ...any) error {
	return fmt.Errorf("XPath %q at %d: %s; supported are paths with / // @ * [ ], and, or, not(), = != < <= > >= with a literal, contains(), starts-with(), normalize-space()", p.s, p.i+1, fmt.Sprintf(format, args...))
}

// space skips white space and returns the place.
func (p *xparser) space() int {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.i]) >= 0 {
		p.i++
	}
	return p.i
}

// take reads the symbol if it comes next.
func (p *xparser) take(symbol string) bool {
	p.space()
	if !strings.HasPrefix(p.s[p.i:], symbol) {
		return false
	}
	p.i += len(symbol)
	return true
}

// word reads the word if it comes next and ends there.
func (p *xparser) word(w string) bool {
	at := p.space()
	if p.take(w) && (p.i == len(p.s) || !nameByte(p.s[p.i])) {
		return true
	}
	p.i = at
	return false
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

func (p *xparser) or() (cond, error) {
	if p.depth++; p.depth > check.MaxDepth {
		return nil, p.fail("nested deeper than %d", check.MaxDepth)
	}
	defer func() { p.depth-- }()
	var out one
	for {
		c, err := p.and()
		if err != nil {
			return nil, err
		}
		if out = append(out, c); !p.word("or") {
			break
		}
	}
	if len(out) == 1 {
		return out[0], nil
	}
	return out, nil
}

func (p *xparser) and() (cond, error) {
	var out all
	for {
		c, err := p.test()
		if err != nil {
			return nil, err
		}
		if out = append(out, c); !p.word("and") {
			break
		}
	}
	if len(out) == 1 {
		return out[0], nil
	}
	return out, nil
}

// test reads one test.
func (p *xparser) test() (cond, error) {
	at := p.space()
	switch {
	case p.take("("):
		return p.closed(p.or())
	case p.call("not"):
		c, err := p.closed(p.or())
		if err != nil {
			return nil, err
		}
		return not{c}, nil
	case p.call("contains"):
		return p.textFunction(contains)
	case p.call("starts-with"):
		return p.textFunction(prefix)
	case p.call("normalize-space"):
		path, err := p.path()
		if err == nil {
			_, err = p.closed(nil, nil)
		}
		if err != nil {
			return nil, err
		}
		return p.comparison(path, true)
	}
	p.i = at
	path, err := p.path()
	if err != nil {
		return nil, err
	}
	return p.comparison(path, false)
}

// call reads the name of a function and its parenthesis.
func (p *xparser) call(name string) bool {
	at := p.space()
	if p.word(name) && p.take("(") {
		return true
	}
	p.i = at
	return false
}

// closed wants a closing parenthesis behind c.
func (p *xparser) closed(c cond, err error) (cond, error) {
	if err == nil && !p.take(")") {
		err = p.fail("a ) is missing")
	}
	return c, err
}

// textFunction reads the rest of contains or starts-with.
func (p *xparser) textFunction(o op) (cond, error) {
	path, err := p.path()
	if err != nil {
		return nil, err
	}
	if !p.take(",") {
		return nil, p.fail("a comma and a text are wanted")
	}
	text, ok := p.quoted()
	if !ok {
		return nil, p.fail("a text in quotes is wanted")
	}
	if _, err := p.closed(nil, nil); err != nil {
		return nil, err
	}
	return &firstOf{path, &compare{op: o, text: []string{text}}}, nil
}

// normalised holds normalize-space of the first place of a path against c; that of no place is the empty string.
func normalised(path []*step, c *compare) cond {
	f := &firstOf{path, c}
	if c.meets("") {
		return one{f, not{nest(path, nil)}}
	}
	return f
}

// comparison reads the operator and literal that may follow a path.
func (p *xparser) comparison(path []*step, normal bool) (cond, error) {
	var word string
	for _, w := range []string{"!=", "<=", ">=", "=", "<", ">"} {
		if p.take(w) {
			word = w
			break
		}
	}
	if word == "" {
		if normal {
			return normalised(path, &compare{op: differs, normal: true, text: []string{""}}), nil
		}
		return nest(path, nil), nil
	}
	c := &compare{normal: normal}
	if text, ok := p.quoted(); ok {
		c.text = []string{text}
	} else if number, ok := p.number(); ok {
		c.number = number
	} else {
		return nil, p.fail("a literal is wanted behind %s", word)
	}
	if !c.operator(word) {
		return one{}, nil // order against what is no number: never
	}
	if normal {
		return normalised(path, c), nil
	}
	return nest(path, c), nil
}

// operator sets the operation of a comparison; ok is false when it cannot be met.
func (c *compare) operator(word string) (ok bool) {
	if len(c.text) > 0 && word == "=" {
		c.op = equals
		return true
	}
	if len(c.text) > 0 && word == "!=" {
		c.op = differs
		return true
	}
	if len(c.text) > 0 {
		if c.number, ok = number(c.text[0]); !ok {
			return false
		}
		c.text = nil
	}
	c.op = map[string]op{"=": numberEquals, "!=": numberDiffers, "<": less, "<=": atMost, ">": greater, ">=": atLeast}[word]
	return true
}

func (p *xparser) quoted() (string, bool) {
	if at := p.space(); at < len(p.s) && (p.s[at] == '\'' || p.s[at] == '"') {
		if end := strings.IndexByte(p.s[at+1:], p.s[at]); end >= 0 {
			p.i = at + end + 2
			return p.s[at+1 : at+1+end], true
		}
	}
	return "", false
}

func (p *xparser) number() (float64, bool) {
	at := p.space()
	end := at
	for end < len(p.s) && strings.IndexByte("0123456789.-", p.s[end]) >= 0 {
		end++
	}
	n, err := strconv.ParseFloat(p.s[at:end], 64)
	if err != nil {
		return 0, false
	}
	p.i = end
	return n, true
}

// path reads a location path. Absolute ones stand only outside predicates.
func (p *xparser) path() ([]*step, error) {
	deep := p.take("//")
	absolute := deep || p.take("/")
	if absolute && p.inner > 0 {
		return nil, p.fail("a path within [ ] is relative: begin it with a name, @ or .//")
	}
	var path []*step
	for {
		s, err := p.step(deep)
		if err != nil {
			return nil, err
		}
		if path = append(path, s); len(path) > check.MaxDepth {
			return nil, p.fail("a path of more than %d steps", check.MaxDepth)
		}
		if deep = p.take("//"); !deep && !p.take("/") {
			return path, nil
		}
		if s.axis == attribute || s.axis == descendantAttribute {
			return nil, p.fail("nothing lies below an attribute")
		}
	}
}

// step reads one step with its predicates.
func (p *xparser) step(deep bool) (*step, error) {
	s := &step{axis: child, space: anySpace}
	if p.take(".") {
		if strings.HasPrefix(p.s[p.i:], ".") || deep {
			return nil, p.fail("only child, descendant and attribute steps")
		}
		s.axis, s.local = self, "*"
		return s, nil
	}
	isAttribute := p.take("@")
	switch {
	case isAttribute && deep:
		s.axis = descendantAttribute
	case isAttribute:
		s.axis = attribute
	case deep:
		s.axis = descendant
	}
	if err := p.nameTest(s, isAttribute); err != nil {
		return nil, err
	}
	var where all
	for p.take("[") {
		p.inner++
		c, err := p.or()
		p.inner--
		if err != nil {
			return nil, err
		}
		if !p.take("]") {
			return nil, p.fail("a ] is missing")
		}
		where = append(where, c)
	}
	if len(where) > 0 {
		s.where = where
	}
	return s, nil
}

// nameTest reads *, name, prefix:name or prefix:*.
func (p *xparser) nameTest(s *step, isAttribute bool) error {
	if p.take("*") {
		s.local = "*"
		return nil
	}
	name := p.ncName()
	if name == "" {
		return p.fail("a name, *, @ or . is wanted")
	}
	s.local = name
	if isAttribute {
		s.space = ""
	}
	rest := p.s[p.i:]
	if strings.HasPrefix(rest, "::") || strings.HasPrefix(rest, "(") {
		return p.fail("%s is not supported here", name+rest[:strings.IndexAny(rest, "(:")+1])
	}
	if !strings.HasPrefix(rest, ":") {
		return nil
	}
	p.i++
	space, ok := p.ns[name]
	if name == "xml" {
		space, ok = "http://www.w3.org/XML/1998/namespace", true
	}
	if !ok || space == "" {
		return p.fail("the prefix %s is not declared", name)
	}
	s.space = space
	if strings.HasPrefix(p.s[p.i:], "*") {
		p.i++
		s.local = "*"
		return nil
	}
	if s.local = p.ncName(); s.local == "" {
		return p.fail("a name is wanted behind the prefix %s", name)
	}
	return nil
}

func (p *xparser) ncName() string {
	at := p.space()
	end := at
	for end < len(p.s) && nameByte(p.s[end]) {
		end++
	}
	if end == at || strings.IndexByte("0123456789-.", p.s[at]) >= 0 || end-at > check.MaxName {
		return ""
	}
	p.i = end
	return p.s[at:end]
}

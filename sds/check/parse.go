package check

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// xmlSpace is the namespace of the prefix xml, which needs no declaration.
const xmlSpace = "http://www.w3.org/XML/1998/namespace"

// Parse checks b and returns its tree, or an *Error. It keeps a copy of b.
func Parse(b []byte) (*Document, error) {
	if len(b) > MaxBytes {
		return nil, &Error{0, fmt.Sprintf("%d bytes are over the %d of a document", len(b), MaxBytes), "publish less, or refer to external data by hash"}
	}
	p := &parser{s: string(b)}
	if e := p.document(); e != nil {
		return nil, e
	}
	return &Document{Nodes: exact(p.nodes), Attrs: exact(p.attrs), source: p.s}, nil
}

// exact is s in no more memory than it needs: documents are kept for long, and by the million.
func exact[T any](s []T) []T { return append(make([]T, 0, len(s)), s...) }

// parser is one pass over the bytes.
type parser struct {
	s     string
	i     int
	nodes []Node
	attrs []Attr
	stack []level
	bound []binding
}

// level is an element that is still open.
type level struct {
	node    int32
	name    string // as written
	bound   int    // how many bindings were in force outside it
	text    bool   // it holds text
	child   bool   // it holds elements
	comment bool   // it holds a comment
}

type binding struct{ prefix, space string }

// fail makes the error of the present place.
func (p *parser) fail(rule, remedy string) *Error {
	at := min(p.i, len(p.s))
	return &Error{1 + strings.Count(p.s[:at], "\n"), rule, remedy}
}

func (p *parser) document() *Error {
	if e := p.characters(); e != nil {
		return e
	}
	if e := p.declaration(); e != nil {
		return e
	}
	for p.i < len(p.s) {
		if e := p.item(); e != nil {
			return e
		}
		if len(p.nodes) > 0 && len(p.stack) == 0 {
			return p.trailer()
		}
	}
	if len(p.stack) > 0 {
		return p.fail("<"+p.stack[len(p.stack)-1].name+"> is not closed", "add its end tag")
	}
	return p.fail("no root element", "write one element that holds the document")
}

// characters refuses bytes that are no characters of XML anywhere.
func (p *parser) characters() *Error {
	if strings.HasPrefix(p.s, "\ufeff") {
		return p.fail("a byte order mark", "save as UTF-8 without one")
	}
	for i := 0; i < len(p.s); {
		c := p.s[i]
		if c >= 0x20 && c < utf8.RuneSelf || c == '\n' || c == '\t' || c == '\r' {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(p.s[i:])
		if p.i = i; r == utf8.RuneError && size == 1 {
			return p.fail("bytes that are not UTF-8", "save the document as UTF-8")
		}
		if !isChar(r) {
			return p.fail(fmt.Sprintf("the character U+%04X", r), "XML does not allow it: remove it")
		}
		i += size
	}
	p.i = 0
	return nil
}

// isChar is the production Char of XML 1.0.
func isChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= 0x10ffff
}

// declaration accepts one plain XML declaration.
func (p *parser) declaration() *Error {
	if !strings.HasPrefix(p.s, "<?xml") || len(p.s) > 5 && !isSpace(p.s[5]) {
		return nil
	}
	end := strings.Index(p.s, "?>")
	if end < 0 {
		return p.fail("the XML declaration does not end", "close it with ?>")
	}
	switch strings.ReplaceAll(Normal(p.s[5:end]), "'", `"`) {
	case `version="1.0"`, `version="1.0" encoding="UTF-8"`, `version="1.0" encoding="utf-8"`:
		p.i = end + 2
		return nil
	}
	return p.fail("this XML declaration", `write <?xml version="1.0" encoding="UTF-8"?> or leave it out`)
}

// item reads one tag, comment or run of text.
func (p *parser) item() *Error {
	rest := p.s[p.i:]
	switch {
	case rest[0] != '<':
		return p.text()
	case strings.HasPrefix(rest, "<!--"):
		return p.comment()
	case strings.HasPrefix(rest, "<![CDATA["):
		return p.fail("a CDATA section", "write the text with &lt; and &amp;")
	case strings.HasPrefix(rest, "<!"):
		return p.fail("a DOCTYPE or other declaration", "remove it: a schema is claimed by attribute")
	case strings.HasPrefix(rest, "<?"):
		return p.fail("a processing instruction", "remove it")
	case strings.HasPrefix(rest, "</"):
		return p.endTag()
	}
	return p.startTag()
}

// trailer accepts white space behind the root.
func (p *parser) trailer() *Error {
	for ; p.i < len(p.s); p.i++ {
		if !isSpace(p.s[p.i]) {
			return p.fail("something behind the root element", "a document is one element: remove the rest")
		}
	}
	return nil
}

func (p *parser) text() *Error {
	end := strings.IndexByte(p.s[p.i:], '<')
	if end < 0 {
		end = len(p.s) - p.i
	}
	t := p.s[p.i : p.i+end]
	if strings.TrimLeft(t, " \n\t\r") == "" {
		p.i += end
		return nil
	}
	if len(p.stack) == 0 {
		return p.fail("text outside the root element", "move it into an element")
	}
	if e := p.value(t, MaxValue); e != nil {
		return e
	}
	if strings.Contains(t, "]]>") {
		return p.fail("]]> in text", "write ]]&gt;")
	}
	top := &p.stack[len(p.stack)-1]
	top.text = true
	if e := p.mixed(top); e != nil {
		return e
	}
	p.i += end
	return nil
}

// mixed refuses an element that holds text beside something that splits it.
func (p *parser) mixed(l *level) *Error {
	if l.text && l.child {
		return p.fail("<"+l.name+"> holds text beside elements", "put the text into an element of its own")
	}
	if l.text && l.comment {
		return p.fail("<"+l.name+"> holds a comment within its text", "move the comment out of the element")
	}
	return nil
}

func (p *parser) comment() *Error {
	end := strings.Index(p.s[p.i+4:], "--")
	if end < 0 || !strings.HasPrefix(p.s[p.i+4+end:], "-->") {
		return p.fail("a comment with -- inside or without end", "close it with --> and keep -- out of it")
	}
	if len(p.stack) > 0 {
		top := &p.stack[len(p.stack)-1]
		top.comment = true
		if e := p.mixed(top); e != nil {
			return e
		}
	}
	p.i += 4 + end + 3
	return nil
}

func (p *parser) endTag() *Error {
	if len(p.stack) == 0 {
		return p.fail("an end tag without its start", "remove it")
	}
	top := p.stack[len(p.stack)-1]
	p.nodes[top.node].close = int32(p.i)
	p.i += 2
	if !strings.HasPrefix(p.s[p.i:], top.name) {
		return p.fail("an end tag that does not close <"+top.name+">", "write </"+top.name+">")
	}
	p.i += len(top.name)
	p.space()
	if p.i >= len(p.s) || p.s[p.i] != '>' {
		return p.fail("an end tag that does not close <"+top.name+">", "write </"+top.name+">")
	}
	p.i++
	p.pop()
	return nil
}

func (p *parser) pop() {
	top := p.stack[len(p.stack)-1]
	p.nodes[top.node].End = int32(len(p.nodes))
	p.bound = p.bound[:top.bound]
	p.stack = p.stack[:len(p.stack)-1]
}

// space skips white space and says whether there was any.
func (p *parser) space() bool {
	from := p.i
	for p.i < len(p.s) && isSpace(p.s[p.i]) {
		p.i++
	}
	return p.i > from
}

// value checks the references of a value and its length.
func (p *parser) value(v string, limit int) *Error {
	if len(v) > limit {
		return p.fail(fmt.Sprintf("a value of %d bytes is over %d", len(v), limit), "shorten it, or refer to external data by hash")
	}
	for rest := v; ; {
		at := strings.IndexByte(rest, '&')
		if at < 0 {
			return nil
		}
		_, size := reference(rest[at:])
		if size == 0 {
			return p.fail("& that begins no known reference", "write &amp;")
		}
		rest = rest[at+size:]
	}
}

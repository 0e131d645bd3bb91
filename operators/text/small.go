package text

import (
	"html"
	"net/url"
	"slices"
	"strings"
)

// SmallScreen distils a page for a small screen (ninja-architecture, section 4: distillation): headings, paragraphs, rows
// of tables and items as lines of their own, links to pages, mail and telephones, the words for pictures. Scripts, styles,
// forms, attributes and every other link go. It reads any input, as browsers do, and never fails; nothing of the input gets
// into the output but as escaped text.
func SmallScreen(page string) string {
	s := small{block: "p", space: true}
	for page != "" {
		i := strings.IndexByte(page, '<')
		if i < 0 {
			i = len(page)
		}
		s.text(html.UnescapeString(page[:i]))
		if page = page[i:]; page == "" {
			break
		}
		var t markup
		t, page = nextTag(page)
		s.tag(t)
	}
	s.flush("p")
	return "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>" + html.EscapeString(strings.TrimSpace(s.title.String())) +
		"</title></head><body>\n" + s.out.String() + "</body></html>\n"
}

// small is a page on its way to a small screen.
type small struct {
	out, line, title strings.Builder
	block            string // what the line is: h2, li or p
	words            bool   // the line has some
	space            bool   // the line ends in a space, or is empty
	link             bool   // a link is open in the line
	inTitle, titled  bool
}

func (s *small) text(t string) {
	if s.inTitle {
		s.title.WriteString(t)
		return
	}
	var b strings.Builder
	for _, r := range t {
		if strings.ContainsRune(" \t\r\n\f\u00a0", r) {
			if !s.space {
				b.WriteByte(' ')
			}
			s.space = true
			continue
		}
		b.WriteRune(r)
		s.space, s.words = false, true
	}
	s.line.WriteString(html.EscapeString(b.String()))
}

func (s *small) tag(t markup) {
	switch name := t.name; {
	case name == "title":
		s.inTitle = !t.closing && !s.titled
		s.titled = true
	case s.inTitle: // nothing is marked up in a title
	case name == "a" && !t.closing:
		s.unlink()
		if to := destination(t.attribute("href")); to != "" {
			s.line.WriteString(`<a href="` + html.EscapeString(to) + `">`)
			s.link = true
		}
	case name == "a":
		s.unlink()
	case name == "img":
		if alt := strings.TrimSpace(t.attribute("alt")); alt != "" {
			s.text("[" + alt + "] ")
		}
	case name == "td" || name == "th":
		if !t.closing && s.words {
			s.text(" | ")
		}
	case name == "li" && !t.closing:
		s.flush("li")
	case len(name) == 2 && name[0] == 'h' && name[1] >= '1' && name[1] <= '6' && !t.closing:
		s.flush("h2")
	case isBlock(name):
		s.flush("p")
	}
}

func (s *small) unlink() {
	if s.link {
		s.line.WriteString("</a>")
		s.link = false
	}
}

// flush ends the line, and says what the next one is.
func (s *small) flush(next string) {
	s.unlink()
	if s.words {
		s.out.WriteString("<" + s.block + ">" + strings.TrimSpace(s.line.String()) + "</" + s.block + ">\n")
	}
	s.line.Reset()
	s.words, s.space, s.block = false, true, next
}

// maxLink bounds the address of a link in bytes.
const maxLink = 2000

// destination is where a link leads that a small screen can follow, "" for any other.
func destination(href string) string {
	u, err := url.Parse(strings.TrimSpace(href))
	if err != nil || len(href) > maxLink {
		return ""
	}
	switch {
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil:
		return u.String()
	case (u.Scheme == "tel" || u.Scheme == "mailto") && u.Opaque != "":
		return u.Scheme + ":" + u.Opaque
	}
	return ""
}

// markup is one tag: its name in small letters, and what stands behind the name.
type markup struct {
	name, rest string
	closing    bool
}

// nextTag cuts the tag that page begins with, and all within it that is never read: comments, scripts, styles. It reads
// each byte a few times at most, whatever they are.
func nextTag(page string) (t markup, rest string) {
	if after, ok := strings.CutPrefix(page, "<!--"); ok {
		_, rest, _ = strings.Cut(after, "-->")
		return markup{}, rest
	}
	inside, rest, _ := strings.Cut(page[1:], ">")
	inside, t.closing = strings.CutPrefix(inside, "/")
	end := strings.IndexAny(inside, " \t\r\n\f/")
	if end < 0 {
		end = len(inside)
	}
	const longestName = 16
	if end > longestName {
		return markup{}, rest
	}
	t.name, t.rest = strings.ToLower(inside[:end]), inside[end:]
	if !t.closing && slices.Contains([]string{"script", "style", "template", "noscript"}, t.name) {
		rest = behind(rest, t.name)
	}
	return t, rest
}

// behind is what follows the closing tag of an element whose content is not read; nothing when it is not closed.
func behind(page, name string) string {
	for {
		i := strings.Index(page, "</")
		if i < 0 {
			return ""
		}
		page = page[i+2:]
		if len(page) >= len(name) && strings.EqualFold(page[:len(name)], name) {
			_, page, _ = strings.Cut(page, ">")
			return page
		}
	}
}

// attribute is the value of an attribute, with its entities read, "" when there is none.
func (t markup) attribute(name string) string {
	rest := t.rest
	for rest != "" {
		rest = strings.TrimLeft(rest, " \t\r\n\f/")
		end := strings.IndexAny(rest, "= \t\r\n\f/")
		if end < 0 {
			return ""
		}
		key := rest[:end]
		rest = strings.TrimLeft(rest[end:], " \t\r\n\f")
		value, is := strings.CutPrefix(rest, "=")
		if !is {
			if end == 0 { // nothing that could be a name: go on behind it
				rest = rest[min(1, len(rest)):]
			}
			continue
		}
		value = strings.TrimLeft(value, " \t\r\n\f")
		if value != "" && (value[0] == '"' || value[0] == '\'') {
			value, rest, _ = strings.Cut(value[1:], value[:1])
		} else if i := strings.IndexAny(value, " \t\r\n\f"); i >= 0 {
			value, rest = value[:i], value[i:]
		} else {
			rest = ""
		}
		if strings.EqualFold(key, name) {
			return html.UnescapeString(value)
		}
	}
	return ""
}

func isBlock(name string) bool {
	switch name {
	case "p", "div", "br", "h1", "h2", "h3", "h4", "h5", "h6", "tr", "ul", "ol", "li", "table", "section", "article", "pre", "blockquote", "hr",
		"header", "footer", "nav", "main", "dl", "dt", "dd", "form", "body", "option":
		return true
	}
	return false
}

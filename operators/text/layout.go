package text

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"ninja/connectors"
	"ninja/operators"
)

// newWrap breaks lines at the width that the output type says, in characters.
func newWrap(ctx context.Context, env operators.Env) (operators.Operator, error) {
	width, err := within(env.Out.Get("width"), 8, 1000)
	if err != nil {
		return nil, fmt.Errorf("wrap to %v: width: %w", env.Out, err)
	}
	return plain(func(s string) string { return Wrap(s, width) })(ctx, env)
}

// newShorten cuts text to the length that the output type says, in bytes of UTF-8, at a word, with three dots.
func newShorten(ctx context.Context, env operators.Env) (operators.Operator, error) {
	limit, err := within(env.Out.Get("limit"), 16, 100000)
	if err != nil {
		return nil, fmt.Errorf("shorten to %v: limit: %w", env.Out, err)
	}
	return plain(func(s string) string { return Shorten(s, limit) })(ctx, env)
}

func within(s string, lo, hi int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < lo || n > hi {
		return 0, fmt.Errorf("%q: want a whole number from %d to %d", s, lo, hi)
	}
	return n, nil
}

// Wrap breaks the lines of a text so that none is longer than width characters; longer words are cut.
func Wrap(s string, width int) string {
	var out []string
	for line := range strings.SplitSeq(lf(s), "\n") {
		now, used := "", 0
		for _, word := range strings.Fields(line) {
			n := utf8.RuneCountInString(word)
			for ; n > width; n -= width {
				if now != "" {
					out, now, used = append(out, now), "", 0
				}
				cut := characters(word, width)
				out, word = append(out, word[:cut]), word[cut:]
			}
			if now != "" && used+1+n > width {
				out, now, used = append(out, now), "", 0
			}
			if now != "" {
				now, used = now+" ", used+1
			}
			now, used = now+word, used+n
		}
		out = append(out, now)
	}
	return strings.Join(out, "\n")
}

// characters is how many bytes the first n characters of a text have.
func characters(s string, n int) (bytes int) {
	for ; n > 0 && bytes < len(s); n-- {
		_, size := utf8.DecodeRuneInString(s[bytes:])
		bytes += size
	}
	return bytes
}

// Shorten cuts a text to at most limit bytes.
func Shorten(s string, limit int) string {
	const dots = "..."
	if len(s) <= limit {
		return s
	}
	cut := limit - len(dots)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	if i := strings.LastIndexByte(s[:cut], ' '); i > cut/2 {
		cut = i
	}
	return strings.TrimSpace(s[:cut]) + dots
}

// newSelect makes text of the elements of an XML document that have the name in the argument "element", one a line.
func newSelect(ctx context.Context, env operators.Env) (operators.Operator, error) {
	name := env.Args["element"]
	if name == "" {
		return nil, errors.New("argument element: the name of an XML element is wanted")
	}
	return one(func(doc string) (string, error) { return Select(doc, name) })(ctx, env)
}

// Select lists the text of the elements with a local name, one a line.
func Select(doc, name string) (string, error) {
	d := xml.NewDecoder(strings.NewReader(doc))
	var lines []string
	var b strings.Builder
	depth, since := 0, 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return strings.Join(lines, "\n"), nil
		}
		if err != nil {
			return "", fmt.Errorf("select %s: %w", name, err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if depth++; depth > maxDepth {
				return "", fmt.Errorf("select %s: elements nest deeper than %d", name, maxDepth)
			}
			if since == 0 && t.Name.Local == name {
				since = depth
				b.Reset()
			}
		case xml.CharData:
			if since > 0 {
				b.Write(t)
			}
		case xml.EndElement:
			if depth == since {
				lines, since = append(lines, strings.Join(strings.Fields(b.String()), " ")), 0
			}
			depth--
		}
	}
}

// maxTemplate bounds a template in bytes.
const maxTemplate = 16 << 10

// newTemplate puts text into the places of the argument "template": {{.}} is the text as it is, {{.line}} in one line,
// {{.html}}, {{.json}} and {{.vcard}} written as these want it. A template comes from a description: there is nothing in it
// that computes.
func newTemplate(ctx context.Context, env operators.Env) (operators.Operator, error) {
	parts, err := parseTemplate(env.Args["template"])
	if err != nil {
		return nil, fmt.Errorf("argument template: %w", err)
	}
	return one(func(s string) (string, error) {
		var b strings.Builder
		for _, p := range parts {
			b.WriteString(p.text)
			if p.place != nil {
				b.WriteString(p.place(s))
			}
			if b.Len() > connectors.MaxPayload {
				return "", errTooLong
			}
		}
		return b.String(), nil
	})(ctx, env)
}

// templatePart is text, and then a place.
type templatePart struct {
	text  string
	place func(string) string
}

// places are how a text can be written.
func places() map[string]func(string) string {
	return map[string]func(string) string{
		".": func(s string) string { return s }, ".html": html.EscapeString,
		".line": func(s string) string { return strings.Join(strings.Fields(s), " ") },
		".json": func(s string) string {
			b, err := json.Marshal(s)
			if err != nil {
				panic(err) // strings always marshal
			}
			return string(b[1 : len(b)-1])
		},
		".vcard": strings.NewReplacer(`\`, `\\`, ";", `\;`, ",", `\,`, "\r\n", `\n`, "\n", `\n`, "\r", `\n`).Replace, // RFC 6350, 3.4
	}
}

func parseTemplate(t string) (parts []templatePart, err error) {
	if len(t) > maxTemplate {
		return nil, fmt.Errorf("%d bytes: at most %d are allowed", len(t), maxTemplate)
	}
	known, some := places(), false
	for t != "" {
		text, after, found := strings.Cut(t, "{{")
		if !found {
			parts = append(parts, templatePart{text: t})
			break
		}
		name, rest, closed := strings.Cut(after, "}}")
		place, ok := known[name]
		if !closed || !ok {
			return nil, fmt.Errorf("{{%.20s: want {{.}}, {{.line}}, {{.html}}, {{.json}} or {{.vcard}}", name)
		}
		parts, t, some = append(parts, templatePart{text, place}), rest, true
	}
	if !some {
		return nil, errors.New("there is no place for the text: want {{.}} in it")
	}
	return parts, nil
}

package text

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/template"
	"unicode/utf8"

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
			for n := utf8.RuneCountInString(word); n > width; n = utf8.RuneCountInString(word) {
				if now != "" {
					out, now, used = append(out, now), "", 0
				}
				runes := []rune(word)
				out, word = append(out, string(runes[:width])), string(runes[width:])
			}
			n := utf8.RuneCountInString(word)
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

// newTemplate puts text into the argument "template", a template of text/template in which {{.}} is the text.
func newTemplate(ctx context.Context, env operators.Env) (operators.Operator, error) {
	t, err := template.New("text").Option("missingkey=error").Parse(env.Args["template"])
	if err != nil {
		return nil, fmt.Errorf("argument template: %w", err)
	}
	return one(func(s string) (string, error) {
		var b strings.Builder
		if err := t.Execute(&b, s); err != nil {
			return "", err
		}
		return b.String(), nil
	})(ctx, env)
}

package text

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ninja/connectors"
	"ninja/operators"
)

// programs are all of this package with types and arguments that they are made with.
func programs() map[string]operators.Env {
	out := func(s string) operators.Env { return operators.Env{Out: connectors.MustType(s)} }
	all := map[string]operators.Env{"wrap": out("text/plain;width=8"), "shorten": out("text/plain;limit=100"),
		"select": {Args: map[string]string{"element": "say"}}, "template": {Args: map[string]string{"template": "a {{.}} b {{.vcard}}"}}}
	var r operators.Registry
	Register(&r)
	for _, key := range r.Keys() {
		if _, there := all[key]; !there {
			all[key] = operators.Env{}
		}
	}
	return all
}

// Documents as large as an ADU may be (a part of that in every day's test), made so as to keep each operator busy: none does
// more than read them a few times, what comes out fits into an ADU, and the path outlives it.
func TestHostileDocuments(t *testing.T) {
	size := connectors.MaxPayload / 8
	if os.Getenv("NINJA_PROVE") != "" {
		size = connectors.MaxPayload
	}
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	const answer = `<answer xmlns="urn:ninja:answer:1" about="a" lang="en" status="found">`
	for name, doc := range map[string]string{
		"scripts": fill("<script></script>"), "an open script each": fill("<script></s"), "no ends": fill("<"), "comments": fill("<!--"),
		"entities": fill("&amp;"), "one word": fill("x"), "wide": fill("語"), "numbers": fill("999999999 "), "ends of lines": fill("\n"),
		"quotes": fill("\""), "angles": fill("<>"), "backspaces": fill("a\b"), "bad UTF-8": fill("\xff\xfe"), "nothing": "", "lists": fill("<li>"),
		"tables": fill("<table><tr><td>"), "links": fill(`<a href="http://x.example/">y</a>`), "deep": answer + fill("<a>")[:size/2],
		"says": answer + fill("<say>&lt;&lt;</say>")[:size/2], "attributes": "<p " + fill("a=b ")[:size/2] + ">", "addresses": fill("www.x.example "),
		"headings": fill("#"), "commas": fill(","), "half a page": fill("<p title='")[:size/2],
	} {
		for program, env := range programs() {
			notes := 0
			env.Note = func(string, string) { notes++ }
			got := run(t, program, env, connectors.ADU{Payload: []byte(doc), Mark: connectors.EndOfDocument}, connectors.ADU{Payload: []byte("after"), Mark: connectors.EndOfDocument})
			for _, a := range got {
				if len(a.Payload) > connectors.MaxPayload {
					t.Errorf("%s of %s: %d bytes come out", program, name, len(a.Payload))
				}
			}
			if len(got) == 0 && notes == 0 {
				t.Errorf("%s of %s: nothing came out, and nothing was noted", program, name)
			}
		}
	}
}

// A template is a text with places for what flows, and nothing else: no loops, calls or definitions.
func TestTemplatesAreNoPrograms(t *testing.T) {
	var r operators.Registry
	Register(&r)
	for _, bad := range []string{"", "{{range 1000000000000}}x{{end}}", "{{range 1000000000000}}{{end}}", `{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`,
		"{{printf \"%1000000000d\" 1}}", "{{", "{{.", "{{.x}}", "{{ . }}", "}}{{", strings.Repeat("x", maxTemplate+1)} {
		if _, err := r.Make(context.Background(), "template", operators.Env{Args: map[string]string{"template": bad}}); err == nil {
			t.Errorf("%.60q is made", bad)
		}
	}
	in := "a<b>\n\"c\"; d, \\"
	for template, want := range map[string]string{
		"{{.}}": in, "<p>{{.html}}</p>": "<p>a&lt;b&gt;\n&#34;c&#34;; d, \\</p>", `{"x":"{{.json}}"}`: `{"x":"a\u003cb\u003e\n\"c\"; d, \\"}`,
		"NOTE:{{.vcard}}": `NOTE:a<b>\n"c"\; d\, \\`, "{{.line}}!": `a<b> "c"; d, \!`, "{{.}}{{.}}}": in + in + "}",
	} {
		got := run(t, "template", operators.Env{Args: map[string]string{"template": template}}, connectors.ADU{Payload: []byte(in), Mark: connectors.EndOfDocument})
		if len(got) != 1 || string(got[0].Payload) != want {
			t.Errorf("%s: %+v, want %q", template, got, want)
		}
	}
}

// What a small screen gets of a page: text, headings, lists, links, the words for pictures; no scripts, styles, forms or
// attributes, and nothing that opens something else than a page, a mail or a call.
func TestSmallScreen(t *testing.T) {
	page := `<html><head><title>Shop &amp; co</title><style>p{}</style></head><body onload="x()"><h1 class=a>Open <i>now</i></h1><script>evil()</script>
<p style="x">Call <a href="tel:+1302">us</a> or <a href='javascript:evil()'>click</a> or <a href="https://x.example/?a=1&amp;b=2" onclick="e()">read on</a></p>
<img src="x.png" alt="A map"><table><tr><th>Day</th><th>From</th></tr><tr><td>Mon</td><td>9</td></tr></table><ul><li>one<li>two</ul><form><input></form>
<svg onload=e()><b>bold</b></body></html>`
	want := `<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>Shop &amp; co</title></head><body>
<h2>Open now</h2>
<p>Call <a href="tel:+1302">us</a> or click or <a href="https://x.example/?a=1&amp;b=2">read on</a></p>
<p>[A map]</p>
<p>Day | From</p>
<p>Mon | 9</p>
<li>one</li>
<li>two</li>
<p>bold</p>
</body></html>
`
	if got := SmallScreen(page); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func FuzzSmallScreen(f *testing.F) {
	f.Add(`<p onclick=x>a<a href="javascript:x">b</a><img alt="<script>">`)
	f.Add(`<a href='http://x"y'>z</a><h9><title>`)
	f.Fuzz(func(t *testing.T, page string) {
		got := SmallScreen(page)
		if !utf8.ValidString(got) {
			t.Errorf("%q is no text", got)
		}
		again := strings.ToLower(got)
		for _, bad := range []string{"<script", "<style", "javascript:", "<img", "<iframe", "<svg", "onclick=x>"} {
			if i := strings.Index(again, bad); i >= 0 && strings.Contains(bad, "<") {
				t.Errorf("%q is in %q", bad, got)
			}
		}
		for _, part := range strings.Split(again, "<a ")[1:] {
			if !strings.HasPrefix(part, `href="http://`) && !strings.HasPrefix(part, `href="https://`) && !strings.HasPrefix(part, `href="tel:`) && !strings.HasPrefix(part, `href="mailto:`) {
				t.Errorf("a link %.60q", part)
			}
		}
	})
}

// Every operator takes any bytes: it ends, and what comes out fits into an ADU and, where text comes out, is text.
func FuzzOperators(f *testing.F) {
	f.Add([]byte("<p>a</p> 12 # x\n- y"))
	f.Add([]byte(answer))
	f.Add([]byte("a,\"b\"\n\x00\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for program, env := range programs() {
			begun := time.Now()
			for _, a := range run(t, program, env, connectors.ADU{Payload: b, Mark: connectors.EndOfDocument}) {
				if len(a.Payload) > connectors.MaxPayload || program != "utf8-to-latin1" && !utf8.Valid(a.Payload) {
					t.Errorf("%s: %d bytes, text %v", program, len(a.Payload), utf8.Valid(a.Payload))
				}
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Error(fmt.Sprint(program, " took ", took))
			}
		}
	})
}

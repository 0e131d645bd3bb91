package text

import (
	"context"
	"io"
	"strings"
	"testing"

	"ninja/connectors"
	"ninja/operators"
)

const answer = `<?xml version="1.0"?>
<answer xmlns="urn:ninja:answer:1" xmlns:m="urn:x" about="directions" lang="en" status="found">
  <heard>six fifteen &amp; main</heard>
  <say>Driving to  615
   Main Street.</say>
  <m:say>not ours</m:say><route><say>not at this depth</say></route>
  <say/><say>Turn <b>left</b> &lt;here&gt;.</say>
</answer>`

func TestParseAnswer(t *testing.T) {
	a, err := ParseAnswer([]byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	if a.About != "directions" || a.Lang != "en" || a.Status != "found" || a.Heard != "six fifteen & main" ||
		strings.Join(a.Say, "|") != "Driving to 615 Main Street.|Turn left <here>." {
		t.Errorf("%+v", a)
	}
	for _, bad := range []string{"", "<answer/>", `<answer xmlns="urn:ninja:answer:1">`, `<x xmlns="urn:ninja:answer:1"/>`,
		`<!DOCTYPE answer [<!ENTITY a "b">]><answer xmlns="urn:ninja:answer:1"/>`, `<answer xmlns="urn:ninja:answer:1"/><answer xmlns="urn:ninja:answer:1"/>`,
		`<answer xmlns="urn:ninja:answer:1">` + strings.Repeat("<a>", 40) + strings.Repeat("</a>", 40) + "</answer>"} {
		if a, err := ParseAnswer([]byte(bad)); err == nil {
			t.Errorf("%q is taken for the answer %+v", bad, a)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(answer))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := ParseAnswer(b); err == nil {
			if pages, err := a.page(); err != nil || strings.Contains(strings.ToLower(pages[0]), "<script") {
				t.Errorf("markup gets through: %q %v", pages, err)
			}
		}
	})
}

func FuzzFromHTML(f *testing.F) {
	f.Add("<p>a<b>c</b><script>x</script>&amp;")
	f.Add("<!--<style></")
	f.Fuzz(func(t *testing.T, s string) { FromHTML(s) })
}

// hop is both ends of an operator under test.
type hop struct{ in, out []connectors.ADU }

func (h *hop) Read(context.Context) (connectors.ADU, error) {
	if len(h.in) == 0 {
		return connectors.ADU{}, io.EOF
	}
	a := h.in[0]
	h.in = h.in[1:]
	return a, nil
}
func (h *hop) Write(_ context.Context, a connectors.ADU) error { h.out = append(h.out, a); return nil }
func (h *hop) Events() <-chan connectors.Event                 { return nil }
func (h *hop) Signal(connectors.Event) error                   { return nil }
func (h *hop) Close() error                                    { return nil }

func run(t *testing.T, program string, env operators.Env, adus ...connectors.ADU) []connectors.ADU {
	t.Helper()
	var r operators.Registry
	Register(&r)
	op, err := r.Make(context.Background(), program, env)
	if err != nil {
		t.Fatal(err)
	}
	h := &hop{in: adus}
	if err := op.Run(context.Background(), h, h); err != nil {
		t.Fatal(err)
	}
	return h.out
}

// One ADU a sentence, the last one marked; a document that cannot be read is told of and does not end the path.
func TestAnswerToText(t *testing.T) {
	var faults []string
	env := operators.Env{Note: func(kind, text string) { faults = append(faults, kind+": "+text) }}
	got := run(t, "answer-to-text", env, connectors.ADU{Payload: []byte("<broken")}, connectors.ADU{Payload: []byte(answer), Mark: connectors.EndOfDocument})
	if len(got) != 2 || string(got[0].Payload) != "Driving to 615 Main Street." || got[0].Mark != 0 ||
		string(got[1].Payload) != "Turn left <here>." || got[1].Mark != connectors.EndOfDocument {
		t.Errorf("%+v", got)
	}
	if len(faults) != 1 || !strings.HasPrefix(faults[0], "fault: answer: ") {
		t.Errorf("faults: %q", faults)
	}
}

func TestConversions(t *testing.T) {
	out := func(s string) operators.Env { return operators.Env{Out: connectors.MustType(s)} }
	arg := func(k, v string) operators.Env { return operators.Env{Args: map[string]string{k: v}} }
	for _, tc := range []struct {
		program  string
		env      operators.Env
		in, want string
	}{
		{"answer-to-json", operators.Env{}, answer, `{"about":"directions","lang":"en","status":"found","heard":"six fifteen \u0026 main","say":["Driving to 615 Main Street.","Turn left \u003chere\u003e."]}`},
		{"html-to-text", operators.Env{}, "<html><head><title>x</title></head><h1>A &amp; B</h1><p>one\n two<br>three<script>if (a<b) c</script><ul><li>x<li>y</ul><!-- <p>no</p> -->z</html>",
			"A & B\none two\nthree\n- x\n- y\nz"},
		{"html-to-text", operators.Env{}, "a < b<", "a"},
		{"text-to-html", operators.Env{}, "a<b\nc\n\nd", "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title></title></head><body>\n<p>a&lt;b<br>\nc</p>\n<p>d</p>\n</body></html>\n"},
		{"upper-case", operators.Env{}, "größe 5", "GRÖßE 5"},
		{"lower-case", operators.Env{}, "ÄB", "äb"},
		{"to-crlf", operators.Env{}, "a\nb\r\nc", "a\r\nb\r\nc"},
		{"from-crlf", operators.Env{}, "a\r\nb\n", "a\nb\n"},
		{"to-t140", operators.Env{}, "\ufeffa\r\nb", "a\u2028b"},
		{"from-t140", operators.Env{}, "\bhelk\blo\u2028you\a", "hello\nyou"},
		{"utf8-to-latin1", operators.Env{}, "é€", "\xe9?"},
		{"latin1-to-utf8", operators.Env{}, "\xe9", "é"},
		{"numbers-to-words", operators.Env{}, "615 Main, 0, 1000000, 20015, A1, 42.", "six hundred fifteen Main, zero, one million, twenty thousand fifteen, A1, forty two."},
		{"markdown-to-html", operators.Env{}, "# T<\n\n- a\nb", "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title></title></head><body>\n<h1>T&lt;</h1>\n<li>a</li>\n<p>b</p>\n</body></html>\n"},
		{"csv-to-html", operators.Env{}, "a,\"b<\"\n", "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title></title></head><body><table>\n<tr><td>a</td><td>b&lt;</td></tr>\n</table></body></html>\n"},
		{"json-lines", operators.Env{}, "a\n\"b\"\n", `["a","\"b\""]`},
		{"wrap", out("text/plain;width=10"), "one two three\n\nabcdefghijklm x", "one two\nthree\n\nabcdefghij\nklm x"},
		{"shorten", out("text/plain;limit=16"), "this is rather long", "this is..."},
		{"shorten", out("text/plain;limit=16"), "short", "short"},
		{"select", arg("element", "heard"), answer, "six fifteen & main"},
		{"template", arg("template", "<{{.}}>"), "x", "<x>"},
	} {
		got := run(t, tc.program, tc.env, connectors.ADU{Payload: []byte(tc.in), Mark: connectors.EndOfDocument})
		if len(got) != 1 || string(got[0].Payload) != tc.want || got[0].Mark != connectors.EndOfDocument {
			t.Errorf("%s of %q:\n%q, want\n%q", tc.program, tc.in, got[0].Payload, tc.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	var r operators.Registry
	Register(&r)
	for program, env := range map[string]operators.Env{
		"wrap": {Out: connectors.MustType("text/plain;width=7")}, "shorten": {Out: connectors.MustType("text/plain")},
		"select": {}, "template": {Args: map[string]string{"template": "{{"}},
	} {
		if _, err := r.Make(context.Background(), program, env); err == nil {
			t.Errorf("%s is made of %v", program, env)
		}
	}
	for _, n := range []int{8, 20, 400} {
		if got := Wrap(strings.Repeat("wörd ", 300), n); strings.ContainsFunc(got, func(r rune) bool { return r == '\t' }) || len([]rune(strings.SplitN(got, "\n", 2)[0])) > n {
			t.Errorf("a line is longer than %d", n)
		}
	}
}

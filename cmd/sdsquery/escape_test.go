package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"ninja/sds"
	"ninja/sds/check"
)

// times is a small count, or the full one when proving (NINJA_PROVE).
func times(small, full int) int {
	if os.Getenv("NINJA_PROVE") != "1" {
		return small
	}
	if n, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE")); err == nil && n > 0 {
		return full * n
	}
	return full
}

// hostile are pieces that bend one output or another, if they get there as they are.
var hostile = []string{
	"\x1b[2J", "\x1b]0;title\a", "\u009b31m", "\r", "\n+ spiffe://d/base/b#forged", "\t", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\u0085", "\x7f",
	"</description></entry>", "<script>alert(1)</script>", "]]>", "<!--", "&lt;", "&#27;", `","id":"forged`, `\u001b`, `\`, `"`, "'", "$(reboot)", "`reboot`",
	"\U000e0041", "\U0010ffff", "e\u0301\u0301\u0301\u0301\u0301\u0301\u0301", "プリンター", "𝄞", " ", "\u00a0", "x", "printer", "=cmd|' /C calc'!A0",
}

// text draws some of it, and characters of any kind.
func text(r *rand.Rand) string {
	var b strings.Builder
	for range 1 + r.IntN(6) {
		if r.IntN(4) > 0 {
			b.WriteString(hostile[r.IntN(len(hostile))])
			continue
		}
		c := rune(r.IntN(0x300))
		if r.IntN(3) == 0 {
			c = rune(r.IntN(0x110000))
		}
		b.WriteRune(c) // of a surrogate it makes U+FFFD
	}
	return b.String()
}

// description draws a document that a server takes, and whose owner means no good.
func description(r *rand.Rand) []byte {
	escaped := func(s string) string {
		var b strings.Builder
		_ = xml.EscapeText(&b, []byte(s))
		return strings.ReplaceAll(b.String(), "\u0085", "&#x85;")
	}
	for {
		d := fmt.Appendf(nil, `<service kind="%s" name="%s"><summary>%s</summary><a b="%s">%s</a></service>`,
			escaped(text(r)), escaped(text(r)), escaped(text(r)), escaped(text(r)), escaped(text(r)))
		if _, err := check.Parse(d); err == nil {
			return d
		}
	}
}

// Threats, row 26: "control bytes and markup from descriptions: escape at every output; 10^6 random descriptions through
// tools". Tables, XML, JSON, columns and events: nothing that moves a cursor, no line or element or member more than there
// are services.
func TestDescriptionsThroughEveryOutput(t *testing.T) {
	r := rand.New(rand.NewPCG(26, 26))
	n := times(300, 1_000_000)
	const together = 4
	for range n / together {
		var found []sds.Found
		for range together {
			f := service("p", string(description(r)))
			f.Values = [][]string{{text(r), text(r)}}
			f.Numbers = map[string]float64{text(r): 1}
			found = append(found, f)
		}
		for _, kind := range []string{"table", "xml", "json"} {
			var all, event bytes.Buffer
			o := &options{Output: kind, Columns: []string{"a/@b"}}
			w, err := o.writer(terminal{out: &all, width: r.IntN(200)})
			if err == nil {
				err = w.all(found)
			}
			if err == nil {
				w, err = o.writer(terminal{out: &event})
			}
			if err == nil {
				err = w.event(sds.WatchEvent{Kind: sds.Enter, Found: found[0]})
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all.String() + event.String() {
				if c != '\n' && !(c == '\t' && kind == "xml") && !unicode.IsPrint(c) {
					t.Fatalf("%s has %q:\n%q\n%q", kind, c, all.String(), event.String())
				}
			}
			whole(t, kind, all.Bytes(), event.Bytes(), found)
		}
	}
	t.Logf("PROVE %d random hostile descriptions through table, XML, JSON and events: no control character, no line, element or member that is not ours", n)
}

// whole fails unless an output has the shape that it would have with harmless descriptions, and their text within.
func whole(t *testing.T, kind string, all, event []byte, found []sds.Found) {
	t.Helper()
	switch kind {
	case "table":
		if n := bytes.Count(all, []byte("\n")); n != len(found)+1 || bytes.Count(event, []byte("\n")) != 1 {
			t.Fatalf("%d lines of %d services:\n%s%s", n, len(found), all, event)
		}
	case "xml":
		d, err := check.Parse(all)
		if err != nil {
			t.Fatalf("%v\n%s", err, all)
		}
		entries := 0
		for i := range d.Nodes {
			if d.Nodes[i].Space == "urn:ninja:found:1" && d.Nodes[i].Local == "entry" {
				entries++
			}
		}
		if entries != len(found) {
			t.Fatalf("%d entries of %d services:\n%s", entries, len(found), all)
		}
	case "json":
		var list []object
		if err := json.Unmarshal(all, &list); err != nil || len(list) != len(found) {
			t.Fatalf("%v\n%s", err, all)
		}
		for i := range list {
			if list[i].Description != string(found[i].Description) || list[i].ID != found[i].ID {
				t.Fatalf("%q became %q", found[i].Description, list[i].Description)
			}
		}
	}
}

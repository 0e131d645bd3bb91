package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/alecthomas/kong"
	"pgregory.net/rapid"

	"ninja/sds"
	"ninja/sds/check"
	"ninja/sds/index"
)

// fake answers from a list, as the server would.
type fake []sds.Found

// Page cuts what Query finds; a cursor is how many were told.
func (f fake) Page(ctx context.Context, q sds.Query) (p sds.Page, err error) {
	p.Found, err = f.Query(ctx, q)
	at := 0
	if len(q.After) > 0 {
		at = int(q.After[0])
	}
	p.Found = p.Found[min(at, len(p.Found)):]
	if q.Limit > 0 && len(p.Found) > q.Limit {
		p.Found, p.More, p.Cursor = p.Found[:q.Limit], true, []byte{byte(at + q.Limit)}
	}
	for i, x := range p.Found {
		if len(q.Select) > 0 {
			x.Description, x.Values = nil, [][]string{{"v", "w"}, nil}
			p.Found[i] = x
		}
	}
	return p, err
}

func (f fake) Query(_ context.Context, q sds.Query) (out []sds.Found, err error) {
	x := index.All()
	if q.XPath != "" {
		if x, err = index.XPath(q.XPath, nil); err != nil {
			return nil, err
		}
	}
	for _, s := range f {
		d, err := check.Parse(s.Description)
		if err != nil {
			return nil, err
		}
		if ok, err := x.Match(d); err != nil {
			return nil, err
		} else if ok {
			out = append(out, s)
		}
	}
	return out, nil
}

func (f fake) Count(ctx context.Context, q sds.Query) (int, error) {
	found, err := f.Query(ctx, q)
	return len(found), err
}

func (f fake) Explain(context.Context, sds.Query) (sds.Explanation, error) {
	return sds.Explanation{Classes: 2, Services: 40, Verified: 3, Found: 2, Parts: []index.Part{{What: "/service/@kind = \"a\"", Size: 3, Opened: 1}, {What: "/service/floor", Size: 9}}}, nil
}

func (f fake) Watch(ctx context.Context, _ sds.Query, tell func(sds.WatchEvent)) error {
	for _, s := range f {
		tell(sds.WatchEvent{Kind: sds.Enter, Found: s})
		tell(sds.WatchEvent{Kind: sds.Leave, Found: sds.Found{ID: s.ID}})
	}
	return errors.New("the server went away")
}

func service(name, description string) sds.Found {
	return sds.Found{ID: "spiffe://d/base/b#" + name, Owner: "spiffe://d/base/b", Name: name, Version: 3, Age: 1500 * time.Millisecond, Numbers: map[string]float64{"load": 0.25}, Description: []byte(description)}
}

var printers = fake{
	service("p1", `<service xmlns="urn:ninja:service:1" kind="printer" name="lobby-laser"><summary>Beside the lift</summary><floor> 2 </floor><node cores="4"/></service>`),
	service("p2", `<service xmlns="urn:ninja:service:1" kind="printer" name="attic"><floor>5</floor><operator name="lobby"/></service>`),
	service("m", `<service xmlns="urn:ninja:service:1" kind="map's &quot;end&quot;" name="map"/>`),
}

// asks parses a command line and asks the fake.
func asks(t *testing.T, f finder, width int, args ...string) (out, errs string, code int) {
	t.Helper()
	var o options
	p, err := kong.New(&o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = p.Parse(args); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	term := terminal{in: strings.NewReader(""), out: &stdout, err: &stderr, width: width}
	q, err := o.query(term.in)
	if err != nil {
		return "", err.Error(), failed(term, err)
	}
	code = o.ask(context.Background(), term, f, q)
	return stdout.String(), stderr.String(), code
}

func TestQuickTerms(t *testing.T) {
	for _, tc := range []struct {
		terms string
		want  string
		code  int
	}{
		{"kind=printer", "p1 p2", 0}, {"kind=printer floor<4", "p1", 0}, {"floor=2", "p1", 0}, {"name=~lobby", "p1", 0},
		{"//operator/@name=lobby", "p2", 0}, {"node/@cores>=4", "p1", 0}, {"node", "p1", 0}, {"kind!=printer", "m", 0},
		{"name=attic|map", "p2 m", 0}, {"kind=~map's", "m", 0}, {"kind=scanner", "", 1}, {"floor<many", "", 2}, {"=x", "", 2},
		{`kind='"`, "", 2}, {"a!b", "", 2},
	} {
		out, errs, code := asks(t, printers, 0, append([]string{"-o", "json"}, strings.Fields(tc.terms)...)...)
		var list []object
		if code != exitFailed {
			if err := json.Unmarshal([]byte(out), &list); err != nil {
				t.Fatal(err)
			}
		}
		var names []string
		for _, o := range list {
			names = append(names, o.Name)
		}
		if strings.Join(names, " ") != tc.want || code != tc.code {
			t.Errorf("%s: %v, code %d, %s; want %s, code %d", tc.terms, names, code, errs, tc.want, tc.code)
		}
	}
}

func TestTable(t *testing.T) {
	out, _, code := asks(t, printers, 60, "kind=printer", "-c", "floor,load")
	want := `NAME  KIND     OWNER   FLOOR  LOAD  AGE   NUMBERS    SUMMARY
p1    printer  base/b  2      0.25  1.5s  load=0.25  Beside…
p2    printer  base/b  5      0.25  1.5s  load=0.25
`
	if out != want || code != exitFound {
		t.Errorf("code %d\n%s", code, out)
	}
	if out, _, code := asks(t, printers, 0, "--count", "kind=printer"); out != "2\n" || code != exitFound {
		t.Errorf("count: %q %d", out, code)
	}
	if out, _, _ := asks(t, printers, 0, "--count", "-o", "json", "kind=printer"); out != "{\"count\":2}\n" {
		t.Errorf("count in JSON: %q", out)
	}
	if out, _, _ := asks(t, printers, 0, "--explain", "-o", "json", "kind=a"); !strings.Contains(out, `"services": 40`) || !strings.Contains(out, `"opened": 1`) {
		t.Errorf("explain in JSON: %s", out)
	}
	if out, _, code := asks(t, printers, 0, "--explain", "kind=a"); code != exitFound || out != `you may find 40 services, in 2 visibility classes
  /service/@kind = "a": 3  <- looked up
  /service/floor: 9
3 were looked at, 2 match
` {
		t.Errorf("explain: %d\n%s", code, out)
	}
	if out, errs, code := asks(t, printers, 0, "--watch"); code != exitFailed || !strings.Contains(errs, "went away") ||
		!strings.HasPrefix(out, "+ spiffe://d/base/b#p1  printer  base/b  1.5s  load=0.25  Beside the lift\n- spiffe://d/base/b#p1\n") {
		t.Errorf("watch: %d %s\n%s", code, errs, out)
	}
}

// Wide characters take two columns and marks none, so that columns stand and lines fit.
func TestTableOfWideText(t *testing.T) {
	f := fake{
		service("a", `<service kind="プリンター"><summary>三階の会議室の隣にある</summary></service>`),
		service("b", `<service kind="printer"><summary>e&#x301;te&#x301; beside the lift, on the left</summary></service>`),
	}
	out, _, _ := asks(t, f, 50)
	want := "NAME  KIND        OWNER   AGE   NUMBERS    SUMMARY\na     プリンター  base/b  1.5s  load=0.25  三階の…\nb     printer     base/b  1.5s  load=0.25  e\u0301te\u0301 be…\n"
	if out != want {
		t.Errorf("\n%s\nwant\n%s", out, want)
	}
	if got := plain("a" + strings.Repeat("\u0301", 9)); got != "a"+strings.Repeat("\u0301", maxMarks)+strings.Repeat(`\u0301`, 5) {
		t.Errorf("marks: %q", got)
	}
}

func TestPagesAndLeanColumns(t *testing.T) {
	out, errs, code := asks(t, printers, 0, "--limit", "1", "-c", "floor", "kind=printer")
	if !strings.Contains(out, "p1") || strings.Contains(out, "p2") || !strings.Contains(errs, "the first 1; there are more: --all") || code != exitFound {
		t.Errorf("limit: %d %s\n%s", code, errs, out)
	}
	out, errs, code = asks(t, printers, 0, "--limit", "1", "--all", "kind=printer")
	if !strings.Contains(out, "p1") || !strings.Contains(out, "p2") || errs != "" || code != exitFound {
		t.Errorf("all: %d %s\n%s", code, errs, out)
	}
	out, _, _ = asks(t, printers, 0, "--lean", "-c", "node/@cores,floor", "name=attic")
	if want := "NAME  OWNER   NODE/@CORES  AGE   NUMBERS\np2    base/b  v, w         1.5s  load=0.25\n"; out != want {
		t.Errorf("lean:\n%s", out)
	}
	out, _, _ = asks(t, printers, 0, "--lean", "-c", "node/@cores,floor", "-o", "json", "name=attic")
	if !strings.Contains(strings.Join(strings.Fields(out), ""), `"values":{"floor":null,"node/@cores":["v","w"]}`) {
		t.Errorf("lean json:\n%s", out)
	}
	for _, args := range [][]string{{"--lean"}, {"--lean", "-c", "a", "-o", "xml"}, {"--step", "load=1"}} {
		if _, _, code := asks(t, printers, 0, args...); code != exitFailed {
			t.Errorf("%v: %d", args, code)
		}
	}
}

// TestDescriptionsCannotBendTheOutput is row 26 of the threats: control bytes and markup from descriptions.
func TestDescriptionsCannotBendTheOutput(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\x1b[2J", "\u009b31m", "\u202e", "</description>", "a\tb\nc", "\u2028", "𝄞", "\U000e0001"}))
	rapid.Check(t, func(t *rapid.T) {
		var b bytes.Buffer
		v := text.Draw(t, "v") + text.Draw(t, "w")
		fmt.Fprintf(&b, `<service kind="`)
		_ = xml.EscapeText(&b, []byte(v))
		b.WriteString(`"><summary>`)
		_ = xml.EscapeText(&b, []byte(v))
		b.WriteString("</summary></service>")
		want, err := check.Parse(b.Bytes())
		if err != nil {
			return
		}
		f := service("p", b.String())
		f.Numbers = map[string]float64{v[:min(len(v), 32)]: 1}
		for _, kind := range []string{"table", "xml", "json"} {
			var out bytes.Buffer
			w, err := (&options{Output: kind}).writer(terminal{out: &out})
			if err == nil {
				err = w.all([]sds.Found{f})
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range out.String() {
				if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
					t.Fatalf("%s: %q", kind, out.String())
				}
			}
			switch kind {
			case "table":
				if n := strings.Count(out.String(), "\n"); n != 2 {
					t.Fatalf("%d lines: %q", n, out.String())
				}
			case "xml":
				d, err := check.Parse(out.Bytes())
				if err != nil {
					t.Fatalf("%v: %s", err, out.String())
				}
				last := len(d.Nodes) - 1
				if d.Value(last) != want.Value(1) {
					t.Fatalf("%q became %q", want.Value(1), d.Value(last))
				}
			case "json":
				var list []object
				if err := json.Unmarshal(out.Bytes(), &list); err != nil || list[0].Description != b.String() {
					t.Fatalf("%v: %s", err, out.String())
				}
			}
		}
	})
}

func TestTemplateFile(t *testing.T) {
	o := options{File: "-"}
	if _, err := o.query(strings.NewReader("<a>\n<b></a>")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
	q, err := o.query(strings.NewReader("<a/>"))
	if err != nil || string(q.Template) != "<a/>" {
		t.Error(q, err)
	}
	if _, err := (&options{Terms: []string{"a=b"}, XPath: "/a"}).query(io.LimitReader(nil, 0)); err == nil {
		t.Error("terms and XPath were taken together")
	}
	if q, _ := (&options{Sort: "-load"}).query(nil); q.OrderBy != "load" || !q.Descending {
		t.Error(q)
	}
}

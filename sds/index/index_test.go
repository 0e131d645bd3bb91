package index

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"ninja/sds/check"
)

func TestRefusedQueries(t *testing.T) {
	for template, want := range map[string]string{
		`<a`: "line 1", `<a b="1" b="2"/>`: "two attributes",
		`<a xmlns:q="urn:ninja:query:1" q:less="x"/>`:                "a number is wanted",
		`<a xmlns:q="urn:ninja:query:1" q:between="4"/>`:             "two numbers",
		`<a xmlns:q="urn:ninja:query:1" q:lesser="4"/>`:              "is not known: the words are",
		`<a xmlns:q="urn:ninja:query:1" q:anywhere="yes"/>`:          "is not known",
		`<q:attribute xmlns:q="urn:ninja:query:1" name="x"/>`:        "only <attribute> within an element",
		`<a xmlns:q="urn:ninja:query:1"><q:b/></a>`:                  "only <attribute>",
		`<a xmlns:q="urn:ninja:query:1"><q:attribute/></a>`:          "wants the attribute name",
		"<a>" + strings.Repeat("<b c='1'/>", MaxConditions) + "</a>": "conditions, more than 256",
		`<a xmlns:q="urn:ninja:query:1" q:anywhere="true">` + strings.Repeat(`<b q:anywhere="true">`, 3) + strings.Repeat(`</b>`, 3) + `</a>`: "any depth",
	} {
		if _, err := Template([]byte(template)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", template, err, want)
		}
	}
	for expr, want := range map[string]string{
		"": "at 1: a name", "/": "a name", "/a[": "a name", "/a[b": "a ] is missing", "/a b": "something follows", "/a[1]": "a name", "/a/..": "only child", "/a/text()": "text( is not supported",
		"/a/child::b": "not supported", "/a[/b]": "relative", "/n:a": "prefix n is not declared", "/@a/b": "below an attribute", "/a = b": "a literal", "contains(/a)": "comma",
		"contains(/a, 1)": "in quotes", "not(/a": "a ) is missing", strings.Repeat("(", 40): "nested deeper", "/a" + strings.Repeat("/a", 40): "more than 32 steps",
		strings.Repeat("a", MaxXPath+1): "over 4096", "//a//a//a//a": "any depth", "count(/a) = 1": "count( is not supported",
	} {
		if _, err := XPath(expr, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", expr, err, want)
		}
	}
	for _, s := range []string{"", "/", "a//b", "@a/b", "n:a", strings.Repeat("a/", 40)} {
		if _, err := Select(s, nil); err == nil {
			t.Errorf("order by %q was taken", s)
		}
	}
}

func TestNamespaces(t *testing.T) {
	d, err := check.Parse([]byte(`<a xmlns="u:1" xmlns:p="u:2" p:x="1" x="2"><p:b>v</p:b></a>`))
	if err != nil {
		t.Fatal(err)
	}
	ns := map[string]string{"q": "u:1", "r": "u:2"}
	for expr, want := range map[string]bool{
		"/a": true, "/q:a": true, "/r:a": false, "/a/b": true, "/a/r:b": true, "/a/q:b": false, "/a/@x = 2": true, "/a/@r:x = 1": true, "/a/@q:x": false, "/a/@x = 1": false, "/q:*/r:*": true, "/r:*": false,
	} {
		q, err := XPath(expr, ns)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := q.Match(d); ok != want || err != nil {
			t.Errorf("%s: %v %v", expr, ok, err)
		}
	}
	for template, want := range map[string]bool{
		`<a><b>v</b></a>`: true, `<a xmlns="u:1"/>`: true, `<a xmlns="u:2"/>`: false, `<a xmlns:z="u:2" z:x="1"/>`: true, `<a x="1"/>`: false, `<a><b xmlns="u:2">v</b></a>`: true,
		`<b xmlns:q="urn:ninja:query:1" q:anywhere="true"/>`: true, `<b/>`: false, `<a xmlns:q="urn:ninja:query:1"><q:attribute name="x" namespace="u:2" less="2"/></a>`: true,
	} {
		q, err := Template([]byte(template))
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := q.Match(d); ok != want || err != nil {
			t.Errorf("%s: %v %v", template, ok, err)
		}
	}
}

// A hostile document and a hostile query together cost no more than the fuel.
func TestFuel(t *testing.T) {
	d, err := check.Parse([]byte(strings.Repeat("<a>", 31) + strings.Repeat("<a/>", 16000) + strings.Repeat("</a>", 31)))
	if err != nil {
		t.Fatal(err)
	}
	q, err := XPath("//a[.//a[not(not(.//a/@x)) or .//a/@y or .//a/@z or .//a/@w]]", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Match(d); !errors.Is(err, ErrTooExpensive) {
		t.Error(err)
	}
	e := (&Class{}).Edit()
	e.Add(&Doc{Tree: Pack(d)})
	fuel := Fuel
	if _, err := e.Done().Search(q, "", &fuel, nil); !errors.Is(err, ErrTooExpensive) {
		t.Error(err)
	}
}

// Snapshots do not change under those who read them.
func TestSnapshotsStay(t *testing.T) {
	doc := func(i int) *Doc {
		d, err := check.Parse(fmt.Appendf(nil, "<a><b>%d</b></a>", i))
		if err != nil {
			t.Fatal(err)
		}
		return &Doc{Tree: Pack(d), Item: fmt.Sprint(i)}
	}
	count := func(c *Class) int { return len(search(t, c, All())) }
	var snapshots []*Class
	c := &Class{}
	var slots []uint32
	for i := range 1000 {
		snapshots = append(snapshots, c)
		e := c.Edit()
		slots = append(slots, e.Add(doc(i)))
		c = e.Done()
	}
	for i, s := range snapshots {
		if n := count(s); n != i || s.Len() != i {
			t.Fatalf("snapshot %d has %d documents", i, n)
		}
	}
	full := c
	for _, s := range slots {
		e := c.Edit()
		e.Remove(s)
		c = e.Done()
	}
	if count(full) != 1000 || count(c) != 0 || !c.places.empty() || !c.names.empty() || !c.owners.empty() || !c.ids.empty() {
		t.Error("something is left in the dictionary")
	}
}

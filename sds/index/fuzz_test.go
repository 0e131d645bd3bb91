package index

import (
	"errors"
	"testing"

	"ninja/sds/check"
)

// fuzzDocuments are what fuzzed queries are asked about.
var fuzzDocuments = []string{
	`<service xmlns="urn:ninja:service:1" kind="printer" name="p"><summary>A printer</summary><floor>2</floor><node cores="4"/></service>`,
	`<service kind="proxy"><operator name="a"><in>x</in></operator><operator name="b"><in> y z </in><operator><in>1e1</in></operator></operator></service>`,
	`<a><a><a><a x="1" y="-2.5">10</a></a></a><b/></a>`, `<a/>`, `<a x=""> </a>`,
}

// agree fails when postings and verification say other things than verification alone.
func agree(t *testing.T, c *Class, q *Query, what string) {
	found := map[any]bool{}
	fuel := Fuel
	_, err := c.Search(q, "", &fuel, func(d *Doc) bool { found[d.Item] = true; return true })
	if errors.Is(err, ErrTooExpensive) {
		return
	}
	for _, s := range fuzzDocuments {
		d, err := check.Parse([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		ok, err := q.Match(d)
		if err == nil && ok != found[s] {
			t.Fatalf("%s\n%s: matches %v, found %v", what, s, ok, found[s])
		}
	}
}

func FuzzTemplate(f *testing.F) {
	c := classOf(f, fuzzDocuments)
	for _, s := range append(fuzzDocuments,
		`<service xmlns:q="urn:ninja:query:1"><operator q:anywhere="true"><in q:one-of="x|y z"/></operator></service>`,
		`<q:a xmlns:q="urn:ninja:query:1"/>`, `<a xmlns:q="urn:ninja:query:1" q:anywhere="true" q:between="1 20"><q:attribute name="x" at-least="1"/></a>`,
		`<a xmlns:q="urn:ninja:query:1"><b q:absent="true" q:prefix="x"/><c q:equals="" q:exists="true" q:contains="1"/></a>`,
	) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := Template(b); err == nil {
			agree(t, c, q, string(b))
		}
	})
}

func FuzzXPath(f *testing.F) {
	c := classOf(f, fuzzDocuments)
	for _, s := range []string{
		`/service[@kind='printer' and floor < 4]/node/@cores`, `//a[.//a[@x = 1]] or not(//b)`, `normalize-space(//in)='y z'`, `contains(/a, '10')`,
		`//@*`, `/*[starts-with(summary,"A")][node/@cores >= '4']`, `//n:a`, `((//a))`, `/a[. != 10]`, `/a[..]`, `//text()`, `/a[1]`, `- 1`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if q, err := XPath(s, map[string]string{"n": "urn:ninja:service:1"}); err == nil {
			agree(t, c, q, s)
		}
		if s, err := Select(s, nil); err == nil {
			for _, d := range c.docs[0][:c.size] {
				if d != nil {
					s.ValueIn(d.Tree)
				}
			}
		}
	})
}

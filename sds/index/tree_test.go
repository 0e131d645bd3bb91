package index

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ninja/sds/check"
)

// same holds a tree against the document that it was made of.
func same(t interface{ Fatalf(string, ...any) }, source string) {
	d, err := check.Parse([]byte(source))
	if err != nil {
		return
	}
	p := Pack(d)
	if p.Source() != source || p.Len() != len(d.Nodes) {
		t.Fatalf("%q: %d elements of %d", source, p.Len(), len(d.Nodes))
	}
	for i, n := range d.Nodes {
		if p.local(i) != n.Local || p.space(p.node(i)[nodeSpace]) != n.Space || p.end(i) != int(n.End) || p.leaf(i) != d.Leaf(i) || p.value(i) != d.Value(i) {
			t.Fatalf("%q: element %d is %q in %q to %d, %q; want %+v, %q", source, i, p.local(i), p.space(p.node(i)[nodeSpace]), p.end(i), p.value(i), n, d.Value(i))
		}
		from, to := p.attributes(i)
		if to-from != len(d.Attributes(i)) {
			t.Fatalf("%q: element %d has %d attributes", source, i, to-from)
		}
		for k, a := range d.Attributes(i) {
			if j := from + k; p.attrLocal(j) != a.Local || p.space(p.attr(j)[attrSpace]) != a.Space || p.attrText(j) != a.Value {
				t.Fatalf("%q: attribute %q in %q is %q; want %+v", source, p.attrLocal(j), p.space(p.attr(j)[attrSpace]), p.attrText(j), a)
			}
		}
	}
}

func TestTreeIsTheDocument(t *testing.T) {
	long := strings.Repeat("x", check.MaxValue)
	whole := "<a " + strings.Repeat("v", 10) + `="` // of as many bytes as there may be, the last of them its end
	for i := range 20 {
		whole += strings.Repeat("y", 3000) + `" b` + string(rune('a'+i)) + `="`
	}
	whole += `"`
	whole += strings.Repeat(" ", check.MaxBytes-len(whole)-2) + "/>"
	for _, s := range []string{
		`<a/>`, `<?xml version="1.0"?><a b="b">a</a>`, `<a xmlns="u:1" xmlns:p="u:2" p:x="1" x="1"><p:b>v</p:b><b/></a>`, `<a xmlns:p="a&amp;b"><p:a x="&lt;" y="&#65;B"> t&gt; </p:a></a>`,
		`<a b=""><a a=""/><!-- c --><b>` + long + `</b></a>`, `<aa a="aa"><a aa="a">aa</a></aa>`, whole, `<a>` + strings.Repeat("<b/>", 16000) + `</a>`,
	} {
		if _, err := check.Parse([]byte(s)); err != nil {
			t.Fatalf("%.80q: %v", s, err)
		}
		same(t, s)
	}
	rapid.Check(t, func(t *rapid.T) { same(t, element(t, 3)) })
}

func FuzzTree(f *testing.F) {
	f.Add(`<a xmlns:p="a&amp;b"><p:a x="&lt;" y="&#65;B"> t&gt; </p:a></a>`)
	f.Add(`<service xmlns="urn:ninja:service:1" kind="k"><n c="1">2</n></service>`)
	f.Fuzz(func(t *testing.T, s string) { same(t, s) })
}

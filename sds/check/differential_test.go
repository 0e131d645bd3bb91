package check

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/antchfx/xmlquery"
	"pgregory.net/rapid"
)

// seeds are documents that mutations start from, good and bad.
var seeds = []string{
	`<a/>`, `<a b="1" c='2'>x</a>`, "<a>\r\n<b>x &amp; y</b><!-- c --><c/></a>",
	`<?xml version="1.0"?><p:a xmlns:p="u" xmlns="v" p:x="&#10;"><b xml:lang="en"/><p:c> &#x41; </p:c></p:a>`,
	`<service xmlns="urn:ninja:service:1" kind="printer" name="p"><summary>A &lt;printer&gt;</summary><node control="10.0.0.5:7000" data="10.0.0.5:7001" cores="2"/></service>`,
	`<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`, `<a><![CDATA[x]]></a>`, `<a><?p x?></a>`, `<a b="1" b="2"/>`, `<p:a/>`, `<a/><b/>`,
	"<a>x<!-- -->y</a>", "<a b='\n'/>", "<a xmlns='u'><b xmlns=''><c/></b></a>", "<a xmlns:p='u'><b xmlns:p='v' p:c='1'/></a>",
}

// outline writes a tree with everything that matters, in one form for all parsers.
type outline struct{ strings.Builder }

func (o *outline) start(space, local string, attrs []Attr) {
	fmt.Fprintf(o, "(%q %q", space, local)
	for _, a := range attrs {
		fmt.Fprintf(o, " %q %q=%q", a.Space, a.Local, a.Value)
	}
}

func (o *outline) text(s string) {
	if strings.Trim(s, " \t\r\n") != "" {
		fmt.Fprintf(o, " %q", s)
	}
}

func ours(d *Document) string {
	var o outline
	var walk func(i int)
	walk = func(i int) {
		o.start(d.Nodes[i].Space, d.Nodes[i].Local, d.Attributes(i))
		if d.Leaf(i) {
			o.text(d.Value(i))
		}
		for j := i + 1; j < int(d.Nodes[i].End); j = int(d.Nodes[j].End) {
			walk(j)
		}
		o.WriteString(")")
	}
	walk(0)
	return o.String()
}

// standard reads with encoding/xml.
func standard(b []byte) (string, error) {
	var o outline
	d := xml.NewDecoder(bytes.NewReader(b))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return o.String(), nil
		}
		if err != nil {
			return "", err
		}
		switch t := token.(type) {
		case xml.StartElement:
			var attrs []Attr
			for _, a := range t.Attr {
				if a.Name.Space != "xmlns" && (a.Name.Space != "" || a.Name.Local != "xmlns") {
					attrs = append(attrs, Attr{a.Name.Space, a.Name.Local, a.Value})
				}
			}
			o.start(t.Name.Space, t.Name.Local, attrs)
		case xml.EndElement:
			o.WriteString(")")
		case xml.CharData:
			o.text(string(t))
		}
	}
}

// library reads with xmlquery.
func library(b []byte) (string, error) {
	doc, err := xmlquery.Parse(bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	var o outline
	var walk func(n *xmlquery.Node)
	walk = func(n *xmlquery.Node) {
		for ; n != nil; n = n.NextSibling {
			switch n.Type {
			case xmlquery.ElementNode:
				var attrs []Attr
				for _, a := range n.Attr {
					if a.Name.Space != "xmlns" && (a.Name.Space != "" || a.Name.Local != "xmlns") {
						attrs = append(attrs, Attr{a.NamespaceURI, a.Name.Local, a.Value})
					}
				}
				o.start(n.NamespaceURI, n.Data, attrs)
				walk(n.FirstChild)
				o.WriteString(")")
			case xmlquery.TextNode, xmlquery.CharDataNode:
				o.text(n.Data)
			}
		}
	}
	walk(doc.FirstChild)
	return o.String(), nil
}

// oneMeaning fails when a document that the checker accepts means something else to another parser.
func oneMeaning(t interface{ Fatalf(string, ...any) }, b []byte) {
	d, err := Parse(b)
	if err != nil {
		return
	}
	want := ours(d)
	for name, parse := range map[string]func([]byte) (string, error){"encoding/xml": standard, "xmlquery": library} {
		got, err := parse(b)
		if err != nil || got != want {
			t.Fatalf("%q\n%s: %s %v\n    ours: %s", b, name, got, err, want)
		}
	}
}

// FuzzOneMeaning is row 2 of the threats: whatever is accepted, three parsers read alike.
func FuzzOneMeaning(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) { oneMeaning(t, b) })
}

// TestMutationsHaveOneMeaning splices and mutates the seeds, which the fuzzer does for longer.
func TestMutationsHaveOneMeaning(t *testing.T) {
	pieces := rapid.OneOf(rapid.SampledFrom(seeds), rapid.SampledFrom([]string{
		"<", ">", "/", "&", ";", "=", `"`, "'", "<a>", "</a>", "<b/>", "<!--", "-->", "xmlns:p='u'", "p:", "]]>", "\r", "\n", " ", "&#13;", "&#xa;", "x", "\u0085", "\u2028",
	}))
	accepted, n := 0, times(100, 200_000)
	if err := flag.Set("rapid.checks", fmt.Sprint(n)); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(seeds).Draw(t, "seed")
		for range rapid.IntRange(0, 3).Draw(t, "mutations") {
			at := rapid.IntRange(0, len(s)).Draw(t, "at")
			s = s[:at] + pieces.Draw(t, "piece") + s[min(len(s), at+rapid.IntRange(0, 3).Draw(t, "cut")):]
		}
		if _, err := Parse([]byte(s)); err == nil {
			accepted++
		}
		oneMeaning(t, []byte(s))
	})
	if accepted == 0 {
		t.Error("no mutation was accepted: the test tests nothing")
	}
	t.Logf("PROVE one meaning: of %d mutated documents %d are accepted, and three parsers read each of them alike", n, accepted)
}

func BenchmarkParse(b *testing.B) {
	doc := []byte(seeds[4])
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if _, err := Parse(doc); err != nil {
			b.Fatal(err)
		}
	}
}

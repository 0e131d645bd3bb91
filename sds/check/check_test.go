package check

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

func TestAccepts(t *testing.T) {
	for _, s := range []string{
		`<a/>`,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- before --><a>\n <!-- between --><b>x</b>\n</a>\n",
		`<a xmlns="u:1" xmlns:p="u:2" p:x="1" x="2"><p:b xml:lang="en">&lt;&#65;&#x42;&apos;&quot;&gt;&amp;</p:b></a>`,
		`<a b='"' c="'">é€𝄞</a>`,
		strings.Repeat("<a>", MaxDepth) + strings.Repeat("</a>", MaxDepth),
		"<a>" + strings.Repeat("x", MaxValue) + "</a>",
	} {
		if _, err := Parse([]byte(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	attributes := func(n int) (s string) {
		for i := range n {
			s += fmt.Sprintf(" a%d='1'", i)
		}
		return s
	}
	for _, tc := range []struct{ name, doc, want string }{
		{"empty", "", "line 1: no root element"},
		{"two roots", "<a/>\n<b/>", "line 2: something behind the root"},
		{"trailing junk", "<a/>x", "something behind the root"},
		{"leading junk", "x<a/>", "text outside"},
		{"mark", "\ufeff<a/>", "byte order mark"},
		{"doctype", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "DOCTYPE"},
		{"entity", "<a>\n\n&b;</a>", "& that begins no known reference: write &amp;"},
		{"entity in attribute", "<a b='&b;'/>", "& that begins"},
		{"bare ampersand", "<a>a & b; c</a>", "& that begins"},
		{"null reference", "<a>&#0;</a>", "& that begins"},
		{"instruction", "<a><?php x?></a>", "processing instruction"},
		{"cdata", "<a><![CDATA[x]]></a>", "CDATA"},
		{"split text", "<a>x<!-- -->y</a>", "comment within its text"},
		{"comment before text", "<a><!-- -->y</a>", "comment within its text"},
		{"comment with --", "<a><!-- -- --></a>", "comment with --"},
		{"mixed", "<a>x<b/></a>", "text beside elements"},
		{"mixed after", "<a><b/>x</a>", "text beside elements"},
		{"duplicate", "<a\nb='1'\nb='2'/>", "line 3: two attributes named b: remove one"},
		{"duplicate by namespace", "<a xmlns:p='u' xmlns:q='u' p:b='1' q:b='2'/>", "two attributes named q:b"},
		{"duplicate declaration", "<a xmlns='u' xmlns='v'/>", "two attributes named xmlns"},
		{"undeclared", "<p:a/>", "prefix p is not declared"},
		{"undeclared attribute", "<a p:b='1'/>", "prefix p is not declared"},
		{"out of scope", "<a><b xmlns:p='u'/><p:c/></a>", "prefix p is not declared"},
		{"unbound prefix", "<a xmlns:p=''/>", "bound to nothing"},
		{"reserved", "<a xmlns:xml='u'/>", "reserves"},
		{"reserved namespace", "<a xmlns='http://www.w3.org/2000/xmlns/'/>", "reserves"},
		{"colons", "<a:b:c/>", "goes on with something"},
		{"unicode name", "<é/>", "no name"},
		{"unclosed", "<a><b></b>", "<a> is not closed"},
		{"crossed", "<a><b></a></b>", "does not close <b>"},
		{"prefix of the name", "<ab></a>", "does not close <ab>"},
		{"more than the name", "<a></ab>", "does not close <a>"},
		{"end first", "</a>", "end tag without"},
		{"no quotes", "<a b=1/>", "no quotes"},
		{"no value", "<a b/>", "no value"},
		{"no space", "<a b='1'c='2'/>", "goes on with something"},
		{"less in attribute", "<a b='<'/>", "write &#60;"},
		{"newline in attribute", "<a b='x\ny'/>", "write &#10;"},
		{"]]>", "<a>]]></a>", "write ]]&gt;"},
		{"not UTF-8", "<a>\xff</a>", "not UTF-8"},
		{"latin1", `<?xml version="1.0" encoding="ISO-8859-1"?><a/>`, "this XML declaration"},
		{"late declaration", " <?xml version='1.0'?><a/>", "processing instruction"},
		{"control", "<a>\x01</a>", "U+0001"},
		{"U+FFFE", "<a>\ufffe</a>", "U+FFFE"},
		{"bytes", "<a>" + strings.Repeat("<b>x</b>", MaxBytes/8) + "</a>", "over the 65536"},
		{"depth", strings.Repeat("<a>", MaxDepth+1), "nest deeper than 32"},
		{"attributes", "<a" + attributes(MaxAttributes+1) + "/>", "more than 64 attributes"},
		{"value", "<a b='" + strings.Repeat("x", MaxValue+1) + "'/>", "over 4096"},
		{"text", "<a>" + strings.Repeat("x", MaxValue+1) + "</a>", "over 4096"},
		{"name", "<" + strings.Repeat("x", MaxName+1) + "/>", "over 128"},
	} {
		_, err := Parse([]byte(tc.doc))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), tc.want) || e.Remedy == "" {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if _, err := Parse([]byte("<a" + attributes(MaxAttributes) + "/>")); err != nil {
		t.Error(err)
	}
}

func TestTree(t *testing.T) {
	d, err := Parse([]byte("<a xmlns='u' x='1&amp;'>\n <b c='2'> x&#13;\r\n y </b>\n <!--<b>--><c><d>z</d></c></a>"))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Nodes) != 4 || d.Nodes[3].Parent != 2 || d.Nodes[2].End != 4 || d.Leaf(2) || !d.Leaf(1) || d.Nodes[3].Space != "u" {
		t.Errorf("%+v", d.Nodes)
	}
	if v := d.Value(1); v != " x\r\n y " {
		t.Errorf("%q", v)
	}
	if v := d.Value(0); v != "\n  x\r\n y \n z" {
		t.Errorf("%q", v)
	}
	if a := d.Attributes(0); len(a) != 1 || a[0] != (Attr{"", "x", "1&"}) {
		t.Errorf("%+v", a)
	}
	for in, want := range map[string]string{"": "", "a": "a", " a": "a", "a  b": "a b", "a\tb\n": "a b", "a b": "a b", " ": "", "\u00a0a": "\u00a0a"} {
		if got := Normal(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// TestXMLLintAgrees: what is accepted is well-formed to another parser too.
func TestXMLLintAgrees(t *testing.T) {
	lint, err := exec.LookPath("xmllint")
	if err != nil {
		t.Log("xmllint is not installed (libxml2-utils): the comparison with encoding/xml and xmlquery has to do")
		return
	}
	for _, s := range seeds {
		if _, err := Parse([]byte(s)); err != nil {
			continue
		}
		c := exec.Command(lint, "--noout", "-")
		c.Stdin = strings.NewReader(s)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s: %s", s, out)
		}
	}
}

package index

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/antchfx/xmlquery"
	"github.com/antchfx/xpath"
	"pgregory.net/rapid"

	"ninja/sds/check"
)

var (
	elementNames   = rapid.SampledFrom([]string{"a", "b", "c"})
	attributeNames = rapid.SampledFrom([]string{"x", "y"})
	someValues     = rapid.SampledFrom([]string{"", "1", "2", "10", "-1.5", "u", "v", "v w", " u ", "uv", "1e1"})
	someNumbers    = rapid.SampledFrom([]string{"1", "2", "10", "-1.5", "3"})
)

// element draws the text of an element.
func element(t *rapid.T, depth int) string {
	name := elementNames.Draw(t, "name")
	var b strings.Builder
	b.WriteString("<" + name)
	for _, a := range rapid.SliceOfNDistinct(attributeNames, 0, 2, rapid.ID).Draw(t, "attributes") {
		fmt.Fprintf(&b, " %s=%q", a, someValues.Draw(t, "value"))
	}
	b.WriteString(">")
	if n := rapid.IntRange(0, 3).Draw(t, "children"); n > 0 && depth > 0 {
		for range n {
			b.WriteString(element(t, depth-1))
		}
	} else {
		b.WriteString(someValues.Draw(t, "text"))
	}
	return b.String() + "</" + name + ">"
}

// expression draws an XPath expression of the subset.
func expression(t *rapid.T, depth int, inner bool) string {
	kinds := 7
	if depth == 0 {
		kinds = 5
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return location(t, depth, inner)
	case 1:
		return location(t, depth, inner) + rapid.SampledFrom([]string{"=", "!="}).Draw(t, "op") + "'" + someValues.Draw(t, "literal") + "'"
	case 2:
		return location(t, depth, inner) + rapid.SampledFrom([]string{" = ", " != ", " < ", " <= ", " > ", " >= "}).Draw(t, "op") + someNumbers.Draw(t, "number")
	case 3:
		return rapid.SampledFrom([]string{"contains", "starts-with"}).Draw(t, "function") + "(" + ordered(t, depth, inner) + ", '" + someValues.Draw(t, "literal") + "')"
	case 4:
		return "normalize-space(" + ordered(t, depth, inner) + ") = '" + someValues.Draw(t, "literal") + "'"
	case 5:
		return "not(" + expression(t, depth-1, inner) + ")"
	}
	return "(" + expression(t, depth-1, inner) + rapid.SampledFrom([]string{" and ", " or "}).Draw(t, "join") + expression(t, depth-1, inner) + ")"
}

// location draws a path.
func location(t *rapid.T, depth int, inner bool) string {
	var b strings.Builder
	switch {
	case !inner:
		b.WriteString(rapid.SampledFrom([]string{"/", "//"}).Draw(t, "root"))
	case rapid.IntRange(0, 5).Draw(t, "self") == 0:
		return "."
	case rapid.IntRange(0, 3).Draw(t, "deep") == 0:
		b.WriteString(".//")
	}
	steps := rapid.IntRange(1, 3).Draw(t, "steps")
	for i := range steps {
		if i > 0 {
			b.WriteString(rapid.SampledFrom([]string{"/", "/", "//"}).Draw(t, "slash"))
		}
		if i == steps-1 && (inner || i > 0) && rapid.Bool().Draw(t, "attribute") {
			b.WriteString("@" + attributeNames.Draw(t, "name"))
			break
		}
		b.WriteString(rapid.OneOf(elementNames, rapid.Just("*")).Draw(t, "name"))
		if depth > 0 && rapid.IntRange(0, 2).Draw(t, "predicate") == 0 {
			b.WriteString("[" + expression(t, depth-1, true) + "]")
		}
	}
	return b.String()
}

// ordered draws a path for a function that looks at the first place: without descendant steps, whose places the library
// does not select in document order.
func ordered(t *rapid.T, depth int, inner bool) string {
	return rapid.Custom(func(t *rapid.T) string { return location(t, depth, inner) }).Filter(func(s string) bool { return !strings.Contains(s, "//") }).Draw(t, "ordered")
}

// library evaluates an expression with xmlquery.
func library(t *rapid.T, expr, document string) bool {
	tree, err := xmlquery.Parse(strings.NewReader(document))
	if err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	e, err := xpath.Compile(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	switch v := e.Evaluate(xmlquery.CreateXPathNavigator(tree)).(type) {
	case bool:
		return v
	case *xpath.NodeIterator:
		return v.MoveNext()
	default:
		t.Fatalf("%s: %T", expr, v)
		return false
	}
}

// classOf indexes the documents, after some others came and went.
func classOf(t interface{ Fatal(...any) }, documents []string) *Class {
	c := &Class{}
	for _, d := range documents {
		tree, err := check.Parse([]byte(d))
		if err != nil {
			t.Fatal(err)
		}
		e := c.Edit()
		gone := e.Add(&Doc{Owner: "gone", Tree: Pack(tree), Item: "gone"})
		c = e.Done()
		e = c.Edit()
		e.Add(&Doc{Owner: "o", Tree: Pack(tree), Item: d})
		e.Remove(gone)
		c = e.Done()
	}
	return c
}

func search(t interface{ Fatalf(string, ...any) }, c *Class, q *Query) []string {
	fuel := Fuel
	var out []string
	if _, err := c.Search(q, "", &fuel, func(d *Doc) bool { out = append(out, d.Item.(string)); return true }); err != nil {
		t.Fatalf("%v", err)
	}
	slices.Sort(out)
	return out
}

// TestXPathMeansTheSame compares with the library, document by document.
func TestXPathMeansTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		documents := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return element(t, 3) }), 1, 8).Draw(t, "documents")
		c := classOf(t, documents)
		for range 4 {
			expr := expression(t, 2, false)
			q, err := XPath(expr, nil)
			if err != nil {
				if strings.Contains(err.Error(), "any depth") {
					continue
				}
				t.Fatal(err)
			}
			var want []string
			for _, d := range documents {
				if library(t, expr, d) {
					want = append(want, d)
				}
			}
			slices.Sort(want)
			if got := search(t, c, q); !slices.Equal(got, want) {
				t.Fatalf("%s\n got %q\nwant %q", expr, got, want)
			}
		}
	})
}

// template draws a template and the equivalent XPath.
func template(t *rapid.T, depth int, axis, deep string) (xml, expr string) {
	name := elementNames.Draw(t, "name")
	xml, expr = "<"+name, axis+name
	absent := axis == "" && rapid.IntRange(0, 5).Draw(t, "absent") == 0
	if rapid.IntRange(0, 3).Draw(t, "anywhere") == 0 {
		xml, expr = xml+` q:anywhere="true"`, deep+name
	}
	say := func(x, e string) { xml, expr = xml+" "+x, expr+"["+e+"]" }
	for _, a := range rapid.SliceOfNDistinct(attributeNames, 0, 1, rapid.ID).Draw(t, "attributes") {
		v := someValues.Draw(t, "value")
		say(fmt.Sprintf("%s=%q", a, v), fmt.Sprintf("@%s and normalize-space(@%s)='%s'", a, a, check.Normal(v)))
	}
	n, v := someNumbers.Draw(t, "number"), someValues.Draw(t, "operand")
	switch rapid.IntRange(0, 12).Draw(t, "comparison") {
	case 0:
		say(fmt.Sprintf("q:less=%q", n), ". < "+n)
	case 1:
		say(fmt.Sprintf("q:at-least=%q", n), ". >= "+n)
	case 2:
		say(fmt.Sprintf("q:between=\"1 %s\"", n), ". >= 1 and . <= "+n)
	case 3:
		say(fmt.Sprintf("q:prefix=%q", v), fmt.Sprintf("starts-with(normalize-space(.), '%s')", v))
	case 4:
		say(fmt.Sprintf("q:contains=%q", v), fmt.Sprintf("contains(normalize-space(.), '%s')", v))
	case 5:
		say(`q:one-of="u|v w|2"`, "normalize-space(.)='u' or normalize-space(.)='v w' or normalize-space(.)='2'")
	case 6:
		say(fmt.Sprintf("q:equals=%q", v), fmt.Sprintf("normalize-space(.)='%s'", check.Normal(v)))
	}
	if absent {
		xml += ` q:absent="true"`
	}
	if axis != "" {
		xml += ` xmlns:q="` + QueryNamespace + `"`
	}
	xml += ">"
	if rapid.IntRange(0, 3).Draw(t, "attribute element") == 0 {
		xml += fmt.Sprintf(`<q:attribute name="x" greater="%s"/>`, n)
		expr += fmt.Sprintf("[@x > %s]", n)
	}
	if depth > 0 && rapid.Bool().Draw(t, "children") {
		for range rapid.IntRange(1, 2).Draw(t, "count") {
			x, e := template(t, depth-1, "", ".//")
			xml, expr = xml+x, expr+"["+e+"]"
		}
	} else if v := someValues.Draw(t, "text"); check.Normal(v) != "" && !strings.HasSuffix(xml, "/>") {
		xml, expr = xml+v, expr+fmt.Sprintf("[normalize-space(.)='%s']", check.Normal(v))
	}
	if xml += "</" + name + ">"; absent {
		expr = "not(" + expr + ")"
	}
	return xml, expr
}

// TestTemplateMeansTheSame compares templates with the XPath that means the same, evaluated by the library.
func TestTemplateMeansTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		documents := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return element(t, 3) }), 1, 8).Draw(t, "documents")
		c := classOf(t, documents)
		for range 4 {
			xml, expr := template(t, 2, "/", "//")
			q, err := Template([]byte(xml))
			if err != nil {
				t.Fatal(xml, err)
			}
			var want []string
			for _, d := range documents {
				if library(t, expr, d) {
					want = append(want, d)
				}
			}
			slices.Sort(want)
			if got := search(t, c, q); !slices.Equal(got, want) {
				t.Fatalf("%s\n%s\n got %q\nwant %q", xml, expr, got, want)
			}
		}
	})
}

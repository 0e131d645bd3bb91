package schema

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ninja/sds/check"
)

const printer = `<!-- a printer -->
<!ELEMENT service (summary, floor?, (node | queue)+, note*)>
<!ATTLIST service kind (printer|scanner) #REQUIRED
                  name NMTOKEN #REQUIRED
                  ref IDREF #IMPLIED
                  form CDATA #FIXED "1">
<!ELEMENT summary (#PCDATA)>
<!ELEMENT floor (#PCDATA)>
<!ELEMENT node EMPTY>
<!ATTLIST node id ID #IMPLIED>
<!ELEMENT queue ANY>
<!ELEMENT note (#PCDATA | summary)*>
`

func parse(t interface{ Fatal(...any) }, s string) *check.Document {
	d, err := check.Parse([]byte(s))
	if err != nil {
		t.Fatal(s, err)
	}
	return d
}

// "Errors name line, element and rule."
func TestCheck(t *testing.T) {
	s, err := Parse([]byte(printer))
	if err != nil {
		t.Fatal(err)
	}
	for doc, want := range map[string]string{
		"<service xmlns='urn:x' kind='printer' name='p'><summary>x</summary><node/></service>":                                                     "",
		"<service kind='scanner' name='p' ref='n' form='1'><summary/><floor>1</floor><queue><node id='n'/></queue><node/><note>x</note></service>": "",
		"<service kind='printer' name='p'>\n<floor>1</floor></service>":                                                                            "line 2: <floor>: it may not stand here in <service>: <service> must hold (summary, floor?, (node | queue)+, note*)",
		"<service kind='printer' name='p'>\n<summary/></service>":                                                                                  "line 1: <service>: something is missing at its end",
		"<service kind='fax' name='p'><summary/><node/></service>":                                                                                 "one of printer, scanner",
		"<service kind='printer'><summary/><node/></service>":                                                                                      "the attribute name is missing: it is required",
		"<service kind='printer' name='a b'><summary/><node/></service>":                                                                           "a word is wanted",
		"<service kind='printer' name='p' form='2'><summary/><node/></service>":                                                                    `it must be "1"`,
		"<service kind='printer' name='p' more='2'><summary/><node/></service>":                                                                    "more is not declared",
		"<service kind='printer' name='p' ref='q'><summary/><node id='n'/></service>":                                                              `"q" leads nowhere`,
		"<service kind='printer' name='p'><summary/><node id='n'/><node id='n'/></service>":                                                        "used twice",
		"<service kind='printer' name='p'><summary/><node> </node></service>":                                                                      "declared EMPTY",
		"<service kind='printer' name='p'><summary/><node/><note><node/></note></service>":                                                         "allowed there: (#PCDATA | summary)*",
		"<service kind='printer' name='p'><summary/><queue><toner/></queue></service>":                                                             "line 1: <toner>: the schema declares no such element",
		"<service kind='printer' name='p'>text</service>":                                                                                          "it holds text",
		"<service xmlns:s='urn:ninja:schema:1' s:schema='printer/1' kind='printer' name='p'><summary/><node/></service>":                           "",
	} {
		err := s.Check(parse(t, doc))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\n%v, want %q", doc, err, want)
		}
	}
	many := "<service kind='printer' name='p'>" + strings.Repeat("<x/>", 100) + "</service>"
	var all Errors
	if err := s.Check(parse(t, many)); !errors.As(err, &all) || len(all) != maxErrors {
		t.Errorf("%d errors are told", len(all))
	}
}

func TestRefusedSchemas(t *testing.T) {
	for text, want := range map[string]string{
		"":                                               "no element is declared",
		"<!ELEMENT a (b":                                 "ends with )",
		"<!ELEMENT a (b,c|d)>":                           "not both",
		"\n<!ELEMENT a ((b,c)|(b,d))>":                   "line 2: <a>: the content model is ambiguous: a b",
		"<!ELEMENT a (b*,b)>":                            "ambiguous",
		"<!ELEMENT a EMPTY><!ELEMENT a ANY>":             "declared twice",
		"<!ELEMENT p:a EMPTY>":                           "content model is wanted",
		"<!ENTITY x 'y'>":                                "not understood",
		"<!ELEMENT a (#PCDATA|b)>":                       "(#PCDATA | name | ...)*",
		"<!ELEMENT a (#PCDATA|b|b)*>":                    "named twice",
		"<!ELEMENT a %x;>":                               "content model is wanted",
		"<!ATTLIST a b CDATA #IMPLIED>":                  "no element is declared",
		"<!ELEMENT a ANY><!ATTLIST a b ENTITY #IMPLIED>": "the type of b",
		"<!ELEMENT a ANY><!ATTLIST a b (x|y) 'z'>":       "one of x, y",
		"<!ELEMENT a ANY><!ATTLIST a b ID 'z'>":          "no default",
		"<!ELEMENT a ANY><!ATTLIST a b ID #IMPLIED c ID #IMPLIED>": "one ID",
		"<!-- -- -->":       "a comment",
		"<!ELEMENT a \x00>": "does not allow",
		"<!ELEMENT a " + strings.Repeat("(", 40) + "b" + strings.Repeat(")", 40) + ">": "deeper than 32",
		"<!ELEMENT a (b0" + many(300, "?,b") + ")>":                                    "more than 256 names",
		strings.Repeat(" ", MaxBytes+1):                                                "bytes are over",
	} {
		_, err := Parse([]byte(text))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}

func many(n int, s string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprint(&b, s, i+1)
	}
	return b.String()
}

// "New versions beside old."
func TestVersions(t *testing.T) {
	var s Set
	for v, text := range []string{"<!ELEMENT a (b)><!ELEMENT b EMPTY>", "<!ELEMENT a (b*)><!ELEMENT b EMPTY>"} {
		for range 2 {
			if err := s.Add("a", uint32(v+1), []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	doc := func(claim string) *check.Document {
		return parse(t, "<a xmlns:s='urn:ninja:schema:1' s:schema='"+claim+"'/>")
	}
	for claim, want := range map[string]string{"a/1": "schema a/1: line 1: <a>: something is missing", "a/2": "", "a/3": "claim one of a/1, a/2", "b/1": "none by this name", "": "not known"} {
		if err := s.Check(doc(claim)); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", claim, err, want)
		}
	}
	if err := s.Check(parse(t, "<z/>")); err != nil {
		t.Error(err)
	}
	if err := s.Add("a", 2, []byte("<!ELEMENT a ANY>")); err == nil || !strings.Contains(err.Error(), "as a new version") {
		t.Error(err)
	}
	if err := s.Add("a/b", 1, []byte("<!ELEMENT a ANY>")); err == nil {
		t.Error("a name with a slash")
	}
}

// proveScale multiplies the small counts of a test run (NINJA_PROVE_SCALE).
func proveScale() int {
	n, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

var names = rapid.SampledFrom([]string{"a", "b", "c"})

// modelText draws a content model.
func modelText(t *rapid.T, depth int) string {
	mark := rapid.SampledFrom([]string{"", "", "?", "*", "+"}).Draw(t, "mark")
	if depth == 0 || rapid.Bool().Draw(t, "name") {
		return names.Draw(t, "child") + mark
	}
	join := rapid.SampledFrom([]string{" , ", "|"}).Draw(t, "join")
	var parts []string
	for range rapid.IntRange(1, 3).Draw(t, "parts") {
		parts = append(parts, modelText(t, depth-1))
	}
	return "(" + strings.Join(parts, join) + ")" + mark
}

// schemaText draws a schema of three elements.
func schemaText(t *rapid.T) string {
	var b strings.Builder
	for _, n := range []string{"a", "b", "c"} {
		model := rapid.SampledFrom([]string{"EMPTY", "ANY", "(#PCDATA)", "(#PCDATA | a | b)*", "", "", "", ""}).Draw(t, "content")
		if model == "" {
			model = "(" + modelText(t, 2) + ")"
		}
		fmt.Fprintf(&b, "<!ELEMENT %s %s>\n", n, model)
		for _, a := range []string{"x", "y"} {
			kind := rapid.SampledFrom([]string{"CDATA", "NMTOKEN", "NMTOKENS", "IDREF", "IDREFS", "(u|v)", "ID"}).Draw(t, "type")
			if kind == "ID" {
				a = "i"
			}
			std := rapid.SampledFrom([]string{"#IMPLIED", "#IMPLIED", "#REQUIRED", "#FIXED 'u'"}).Draw(t, "default")
			if strings.HasPrefix(kind, "ID") && std != "#REQUIRED" || kind == "ID" {
				std = "#IMPLIED"
			}
			fmt.Fprintf(&b, "<!ATTLIST %s %s %s %s>\n", n, a, kind, std)
		}
	}
	return b.String()
}

func documentText(t *rapid.T, depth int) string {
	n := rapid.SampledFrom([]string{"a", "b", "c", "a", "b", "c", "d"}).Draw(t, "name")
	var b strings.Builder
	b.WriteString("<" + n)
	for _, a := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y", "i"}), 0, 3, rapid.ID).Draw(t, "attributes") {
		fmt.Fprintf(&b, " %s='%s'", a, rapid.SampledFrom([]string{"u", "v", " u ", "u v", "", "1", "-"}).Draw(t, "value"))
	}
	children := rapid.IntRange(0, 3).Draw(t, "children")
	if depth == 0 {
		children = 0
	}
	if children == 0 {
		return b.String() + rapid.SampledFrom([]string{"/>", "/>", ">text</" + n + ">", "> </" + n + ">"}).Draw(t, "leaf")
	}
	b.WriteString(">")
	for range children {
		b.WriteString(documentText(t, depth-1))
	}
	return b.String() + "</" + n + ">"
}

// TestAgreesWithXmllint holds verdicts against those of libxml2 on random schemas and documents.
func TestAgreesWithXmllint(t *testing.T) {
	dir := t.TempDir()
	cases, good := 0, 0
	draw := func(seed int) (string, *Schema, []string) {
		text := rapid.Custom(schemaText).Filter(func(s string) bool { _, err := Parse([]byte(s)); return err == nil }).Example(seed)
		s, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var docs []string
		for i := range 40 {
			docs = append(docs, rapid.Custom(func(t *rapid.T) string { return documentText(t, 2-i%3) }).Example(seed*1000+i))
		}
		return text, s, docs
	}
	for round := range 12 * proveScale() {
		text, s, docs := draw(round)
		args := []string{"--noout", "--valid"}
		for i, d := range docs {
			name := filepath.Join(dir, fmt.Sprintf("d%02d.xml", i))
			if err := os.WriteFile(name, []byte("<!DOCTYPE "+d[1:2]+" ["+text+"]>\n"+d), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, name)
		}
		out, err := exec.Command("xmllint", args...).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatalf("xmllint (package libxml2-utils; make setup installs it): %v", err)
		}
		invalid := make(map[int]bool)
		for _, m := range regexp.MustCompile(`d(\d\d)\.xml:\d+: .*validity error`).FindAllStringSubmatch(string(out), -1) {
			n, _ := strconv.Atoi(m[1])
			invalid[n] = true
		}
		for i, d := range docs {
			theirs := !invalid[i]
			ours := s.Check(parse(t, d))
			if theirs != (ours == nil) {
				t.Fatalf("xmllint says %v, we say %v\n%s%s\n%s", theirs, ours, text, d, out)
			}
			if cases++; theirs {
				good++
			}
		}
	}
	if good < cases/100 {
		t.Errorf("only %d of %d documents are valid: the test tests little", good, cases)
	}
	t.Logf("%d documents, of which %d valid: the same verdict", cases, good)
}

func FuzzSchema(f *testing.F) {
	f.Add(printer, "<service kind='printer' name='p'><summary>x</summary><node/></service>")
	f.Add("<!ELEMENT a ((b|c)+,(a?))><!ATTLIST a x (u|v) 'u'>", "<a x='w'><b/></a>")
	f.Add("<!ELEMENT a (#PCDATA|b)*><!ATTLIST b i ID #IMPLIED r IDREFS #REQUIRED>", "<a><b/></a>")
	f.Fuzz(func(t *testing.T, text, doc string) {
		s, err := Parse([]byte(text))
		if err != nil {
			return
		}
		if d, err := check.Parse([]byte(doc)); err == nil {
			var all Errors
			if err := s.Check(d); err != nil && (!errors.As(err, &all) || len(all) == 0 || len(all) > maxErrors) {
				t.Fatal(err)
			}
		}
	})
}

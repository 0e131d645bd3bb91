package terms

import (
	"encoding/xml"
	"strings"
	"testing"

	"ninja/sds/check"
	"ninja/sds/index"
)

// FuzzTerm: a term never means more than it says. Whatever the value is, what has it is found and nothing else is, so no
// quote or bracket in it gets out of its literal.
func FuzzTerm(f *testing.F) {
	for _, v := range []string{"printer", "it's", `say "x"`, `'] or @k[.='`, "a]b", "4 or 1=1", "", " x ", "é", "\x00", "a|b", "=", "!=", "<4"} {
		f.Add("k="+v, v)
		f.Add(v, v)
	}
	f.Fuzz(func(t *testing.T, term, value string) {
		if x, err := XPath([]string{term}); err == nil {
			_, _ = index.XPath(x, nil) // names may be odd; nothing may panic
		}
		if strings.Contains(value, "|") || check.Normal(value) != value || value == "" {
			return
		}
		x, err := XPath([]string{"k=" + value})
		if err != nil {
			return
		}
		q, err := index.XPath(x, nil)
		if err != nil {
			return
		}
		for _, other := range []string{value, value + "x"} {
			var b strings.Builder
			b.WriteString(`<a k="`)
			_ = xml.EscapeText(&b, []byte(other))
			b.WriteString(`"/>`)
			d, err := check.Parse([]byte(b.String()))
			if err != nil || d.Attributes(0)[0].Value != other {
				return
			}
			if found, err := q.Match(d); err != nil || found != (other == value) {
				t.Fatalf("%s of %q: found %v, %v", x, other, found, err)
			}
		}
	})
}

func TestTermsAreNamedInErrors(t *testing.T) {
	for _, term := range []string{"=x", "floor<many", "a!b", `k='"`} {
		if _, err := XPath([]string{"kind=printer", term}); err == nil || !strings.Contains(err.Error(), "term ") {
			t.Errorf("%s: %v", term, err)
		}
	}
	if _, err := XPath(nil); err == nil {
		t.Error("no terms")
	}
}

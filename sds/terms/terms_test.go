package terms

import "testing"

func TestTermsAsXPath(t *testing.T) {
	for term, want := range map[string]string{
		"kind=printer":     "/*[(@kind[normalize-space(.) = 'printer'] or kind[normalize-space(.) = 'printer'])]",
		"floor<4":          "/*[(@floor < '4' or floor < '4')]",
		"node/@cores>=2":   "/*[(node/@cores >= '2')]",
		"//operator/@name": "/*[(.//operator/@name)]",
		"name=~it's":       `/*[(@name[contains(., "it's")] or name[contains(., "it's")])]`,
		"kind!=a|b":        "/*[not((@kind[normalize-space(.) = 'a'] or @kind[normalize-space(.) = 'b'] or kind[normalize-space(.) = 'a'] or kind[normalize-space(.) = 'b']))]",
		"summary=x=y":      "/*[(@summary[normalize-space(.) = 'x=y'] or summary[normalize-space(.) = 'x=y'])]",
	} {
		if got, err := XPath([]string{term}); got != want || err != nil {
			t.Errorf("%s: %s, %v", term, got, err)
		}
	}
}

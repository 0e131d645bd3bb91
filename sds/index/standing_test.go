package index

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"ninja/sds/check"
)

// Every standing query that a document meets is a candidate for it, whatever came and went before.
func TestStandingMissesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		documents := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return element(t, 3) }), 1, 8).Draw(t, "documents")
		c := classOf(t, documents)
		var s Standing
		var watches []*Watch
		var queries []*Query
		for i := range 8 {
			var q *Query
			var err error
			if rapid.Bool().Draw(t, "template") {
				x, _ := template(t, 2, "/", "//")
				q, err = Template([]byte(x))
			} else {
				q, err = XPath(expression(t, 2, false), nil)
			}
			if err != nil {
				continue
			}
			classes := []*Class{c, {}}[:rapid.IntRange(0, 2).Draw(t, "classes")]
			w := NewWatch(q, []string{"", "", "o"}[rapid.IntRange(0, 2).Draw(t, "by")], classes, i)
			gone := NewWatch(q, "", nil, -1)
			s.Add(w)
			s.Add(gone)
			s.Remove(gone)
			watches, queries = append(watches, w), append(queries, q)
		}
		for _, d := range documents {
			tree, err := check.Parse([]byte(d))
			if err != nil {
				t.Fatal(err)
			}
			heard := map[*Watch]bool{}
			s.Candidates(&Doc{Owner: "o", Tree: Pack(tree)}, func(w *Watch) { heard[w] = true })
			for i, q := range queries {
				if ok, err := q.Match(tree); err == nil && ok && !heard[watches[i]] {
					t.Fatalf("%s: query %d matches and is no candidate", d, i)
				}
			}
		}
		for _, w := range watches {
			s.Remove(w)
		}
		if !s.Empty() {
			t.Fatalf("left: %d places", len(s.places))
		}
	})
}

// "A change costs those that share its rarest term."
func TestStandingIsSelective(t *testing.T) {
	var documents []string
	for i := range 200 {
		documents = append(documents, fmt.Sprintf(`<service kind="kind%d" name="s%d"><floor>%d</floor></service>`, i%2, i, i%50))
	}
	c := classOf(t, documents)
	var s Standing
	for i := range 1000 {
		q, err := Template(fmt.Appendf(nil, `<service xmlns:q="urn:ninja:query:1" kind="kind1"><floor q:less="40"/><q:attribute name="name" equals="s%d"/></service>`, i))
		if err != nil {
			t.Fatal(err)
		}
		s.Add(NewWatch(q, "", []*Class{c}, i))
	}
	for i, d := range []string{`<service kind="kind1" name="s7"><floor>3</floor></service>`, `<service kind="kind0" name="s999"/>`, `<service kind="kind1"/>`} {
		tree, err := check.Parse([]byte(d))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		s.Candidates(&Doc{Tree: Pack(tree)}, func(*Watch) { n++ })
		if want := []int{1, 1, 0}[i]; n != want {
			t.Errorf("%s concerns %d standing queries, want %d", d, n, want)
		}
	}
}

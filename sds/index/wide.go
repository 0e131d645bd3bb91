package index

// Kind is what a Fact, or a Need, says of a tag.
type Kind byte

// The kinds.
const (
	Present Kind = iota // there is such an element or attribute
	Branch              // there is such an element and it holds elements
	Text                // its value, normalised and cut as in the index
	Numeric             // its value as a number
	Owner               // the document's publisher; the tag is ""
)

// Fact is one thing that holds of a document, told by tag: the name of an element, or "@" and that of an attribute,
// wherever in the document it stands. Facts are what summaries of many documents are made of (package summary).
type Fact struct {
	Tag    string
	Kind   Kind
	Text   string  // of Text and Owner
	Number float64 // of Numeric
}

// Facts calls f with what holds of a document; some of it more than once.
func Facts(by string, d *Tree, f func(Fact)) {
	facts(&Doc{Owner: by, Tree: d}, func(t term) {
		f(Fact{Tag: tag(t.path), Kind: Kind(t.kind), Text: t.text, Number: t.number})
	})
}

// tag is the last component of a path.
func tag(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}

// Need is what every document that meets a query has, as far as facts can say it: all of All, at least one of Any, or,
// when both are nil, a fact of the tag and kind. The zero Need with Free set says nothing.
type Need struct {
	Free     bool
	All, Any []Need
	Tag      string
	Kind     Kind
	Text     string  // of Text and Owner
	From, To float64 // of Numeric: a number within, both included
	at       *hop    // of Numeric: the same for conditions on one and the same place
}

// Needs is what every document that meets the query has, and, when by is not empty, one of that owner.
func (q *Query) Needs(by string) Need { return needOf(narrowed(q.filter, by)) }

func needOf(f filter) Need {
	switch f := f.(type) {
	case allOf:
		var out Need
		for _, g := range f {
			if n := needOf(g); !n.Free && !narrow(out.All, &n) {
				out.All = append(out.All, n)
			}
		}
		out.Free = len(out.All) == 0
		return out
	case oneOfThem:
		var out Need
		for _, g := range f {
			n := needOf(g)
			if n.Free {
				return n
			}
			out.Any = append(out.Any, n)
		}
		out.Free = len(out.Any) == 0
		return out
	case *terms:
		return f.need()
	}
	return Need{Free: true}
}

func (t *terms) need() Need {
	n := Need{Kind: Kind(t.kind), Text: t.from.text, From: t.from.number, To: t.to.number}
	if t.kind == owner {
		return n
	}
	var ok bool
	if n.Tag, ok = t.at.last(); !ok {
		return Need{Free: true}
	}
	if t.kind == numeric {
		n.at = &t.at[0]
	}
	if t.kind == text && t.from.text != t.to.text { // a prefix: facts know whole values only
		n.Kind, n.Text = Present, ""
	}
	return n
}

// narrow makes one range of two that one place must lie in ("between"); two places may lie in one each.
func narrow(have []Need, n *Need) bool {
	m := n.span()
	if m == nil {
		return false
	}
	for i := range have {
		if h := have[i].span(); h != nil && h.at == m.at {
			h.From, h.To = max(h.From, m.From), min(h.To, m.To)
			return true
		}
	}
	return false
}

// span is the need of a number that n is, alone or beside an element that holds elements.
func (n *Need) span() *Need {
	if n.Any == nil && n.All == nil && n.Kind == Numeric && n.at != nil {
		return n
	}
	if len(n.Any) == 2 && n.Any[1].Kind == Branch {
		return n.Any[0].span()
	}
	return nil
}

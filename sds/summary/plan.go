package summary

import (
	"fmt"
	"slices"

	"ninja/sds/index"
)

// Plan is what the summaries of one hierarchy hold beside single facts: which facts are told in pairs and triples. The
// root makes it from what queries ask (Planner), and all below follow. Keys are sorted.
type Plan struct {
	Epoch          uint64 // grows with each new plan
	Pairs, Triples []Key
}

// Bounds of a plan and of one document's part in it.
const (
	MaxPairs   = 24
	MaxTriples = 12
	// perKey is how many facts of one key are told together with others; a document with more is told by a wild card.
	perKey = 16
)

// Check says what is wrong with a plan from outside.
func (p Plan) Check() error {
	if len(p.Pairs) > MaxPairs || len(p.Triples) > MaxTriples {
		return fmt.Errorf("a plan of %d keys in pairs and %d in triples, at most %d and %d", len(p.Pairs), len(p.Triples), MaxPairs, MaxTriples)
	}
	for _, keys := range [][]Key{p.Pairs, p.Triples} {
		for i := 1; i < len(keys); i++ {
			if keys[i-1] >= keys[i] {
				return fmt.Errorf("the keys of a plan are not in order")
			}
		}
	}
	return nil
}

// Same reports whether both plans tell the same things.
func (p Plan) Same(o Plan) bool {
	return slices.Equal(p.Pairs, o.Pairs) && slices.Equal(p.Triples, o.Triples)
}

// Common is what both plans tell: what the union of two sets can be asked for.
func (p Plan) Common(o Plan) Plan {
	return Plan{Epoch: min(p.Epoch, o.Epoch), Pairs: common(p.Pairs, o.Pairs), Triples: common(p.Triples, o.Triples)}
}

func common(a, b []Key) (out []Key) {
	for _, k := range a {
		if _, ok := slices.BinarySearch(b, k); ok {
			out = append(out, k)
		}
	}
	return out
}

func has(keys []Key, k Key) bool {
	_, ok := slices.BinarySearch(keys, k)
	return ok
}

// fact is a term with its key.
type fact struct {
	key  Key
	term Term
}

// Facts are what holds of one document, as fingerprints: its part in a summary, whatever the plan.
type Facts []fact

// Describe makes the facts of a document and its publisher.
func Describe(by string, d *index.Tree) Facts {
	var b builder
	index.Facts(by, d, b.add)
	return b.done()
}

// Make makes the facts of what is told about a document; for those who have no document.
func Make(told []index.Fact) Facts {
	var b builder
	for _, f := range told {
		b.add(f)
	}
	return b.done()
}

type builder struct{ out Facts }

func (b *builder) add(f index.Fact) {
	switch f.Kind {
	case index.Branch:
		for _, kind := range []index.Kind{index.Text, index.Numeric} {
			k := KeyOf(kind, f.Tag)
			b.out = append(b.out, fact{k, k.branch()})
		}
	case index.Present:
		k := KeyOf(f.Kind, f.Tag)
		b.out = append(b.out, fact{k, k.present()})
	case index.Numeric:
		k := KeyOf(f.Kind, f.Tag)
		for _, drop := range drops {
			b.out = append(b.out, fact{k, k.node(drop, ordered(f.Number)>>drop)})
		}
	default:
		k := KeyOf(f.Kind, f.Tag)
		b.out = append(b.out, fact{k, k.text(f.Text)})
	}
}

func (b *builder) done() Facts {
	slices.SortFunc(b.out, func(a, c fact) int {
		if a.key != c.key {
			return int(int64(a.key) - int64(c.key))
		}
		return int(int64(a.term) - int64(c.term))
	})
	return slices.Compact(b.out)
}

// Terms calls f with every term of the document under the plan; some more than once.
func (p Plan) Terms(facts Facts, f func(Term)) {
	for _, x := range facts {
		f(x.term)
	}
	if len(p.Pairs) > 0 {
		told := facts.of(p.Pairs)
		each(told, func(i, j int) { f(pair(told[i].term, told[j].term)) })
	}
	if len(p.Triples) > 0 {
		told := facts.of(p.Triples)
		eachThree(told, func(i, j, l int) { f(triple(told[i].term, told[j].term, told[l].term)) })
	}
}

// Beyond calls f with those terms of the document under the plan that it has not under another: what following the plan
// after the other adds, and what following the other after the plan takes away.
func (p Plan) Beyond(o Plan, facts Facts, f func(Term)) {
	if told := facts.of(p.Pairs); len(told) > 0 {
		each(told, func(i, j int) {
			if !has(o.Pairs, told[i].key) || !has(o.Pairs, told[j].key) {
				f(pair(told[i].term, told[j].term))
			}
		})
	}
	if told := facts.of(p.Triples); len(told) > 0 {
		eachThree(told, func(i, j, l int) {
			if !has(o.Triples, told[i].key) || !has(o.Triples, told[j].key) || !has(o.Triples, told[l].key) {
				f(triple(told[i].term, told[j].term, told[l].term))
			}
		})
	}
}

// eachThree calls f with all triples of facts of different keys.
func eachThree(told Facts, f func(i, j, l int)) {
	each(told, func(i, j int) {
		for l := j + 1; l < len(told); l++ {
			if told[l].key != told[j].key {
				f(i, j, l)
			}
		}
	})
}

// each calls f with all pairs of facts of different keys.
func each(told Facts, f func(i, j int)) {
	for i := range told {
		for j := i + 1; j < len(told); j++ {
			if told[i].key != told[j].key {
				f(i, j)
			}
		}
	}
}

// of are the facts of the keys. Of a key with too many facts only one is told, the wild card, which every question
// about that key also asks for: a document of a thousand elements makes no million pairs.
func (facts Facts) of(keys []Key) Facts {
	var out Facts
	for i := 0; i < len(facts); {
		j := i + 1
		for j < len(facts) && facts[j].key == facts[i].key {
			j++
		}
		switch k := facts[i].key; {
		case !has(keys, k):
		case j-i > perKey:
			out = append(out, fact{k, k.wild()})
		default:
			out = append(out, facts[i:j]...)
		}
		i = j
	}
	return out
}

// wild stands for any fact of the key in pairs and triples.
func (k Key) wild() Term { return begin.uint64(uint64(k)).byte(6).term() }

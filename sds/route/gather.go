package route

import (
	"cmp"
	"slices"
	"strings"
)

// Place is where a match stands in the order of a question: numbers before texts before what has neither, as a server
// orders by.
type Place struct {
	Rank  int // 0: Value counts, 1: Text counts, 2: neither
	Value float64
	Text  string
}

// Match is one service that was found somewhere.
type Match struct {
	ID      string
	Version uint64
	Place   Place
	Item    any // the caller's
}

// Gather puts the matches of several branches together: each service once, in its newest version. It belongs to one
// goroutine.
type Gather struct {
	want       Want
	limit      int
	descending bool
	few        []Match // all of them, while they are few
	by         map[string]Match
	newest     map[string]uint64 // of all that were ever added: what was cut off must not come back in an older version
}

// fewMost is how many matches are kept without maps, which most answers would be too small for.
const fewMost = 8

// NewGather begins; limit is how many matches are wanted.
func NewGather(want Want, limit int, descending bool) *Gather {
	return &Gather{want: want, limit: limit, descending: descending}
}

// Add takes a match and reports whether it is news: a service not told before, or a newer version of it. When only the
// first are wanted, or all without an order, it can be told at once.
func (g *Gather) Add(m Match) bool {
	if g.by == nil {
		if done, news := g.addFew(m); done {
			return news
		}
	}
	version, known := g.newest[m.ID]
	if known && version >= m.Version || !known && g.want != Best && len(g.by) >= g.limit {
		return false
	}
	g.by[m.ID], g.newest[m.ID] = m, m.Version
	if g.want == Best && len(g.by) > 2*g.limit+1024 {
		for _, over := range g.order()[g.limit:] {
			delete(g.by, over.ID)
		}
	}
	return true
}

// addFew is Add while there are few; done is false when there are not any more.
func (g *Gather) addFew(m Match) (done, news bool) {
	for i := range g.few {
		if old := &g.few[i]; old.ID == m.ID {
			if news = m.Version > old.Version; news {
				*old = m
			}
			return true, news
		}
	}
	switch {
	case g.want != Best && len(g.few) >= g.limit:
		return true, false
	case len(g.few) < fewMost:
		g.few = append(g.few, m)
		return true, true
	}
	g.by, g.newest = make(map[string]Match), make(map[string]uint64)
	for _, old := range g.few {
		g.by[old.ID], g.newest[old.ID] = old, old.Version
	}
	g.few = nil
	return false, false
}

// Enough reports whether nothing more is wanted.
func (g *Gather) Enough() bool { return g.want != Best && len(g.by)+len(g.few) >= g.limit }

// Len is how many matches there are, up to the limit.
func (g *Gather) Len() int { return min(len(g.by)+len(g.few), g.limit) }

// Result is the matches in order, cut to the limit.
func (g *Gather) Result() []Match {
	out := g.order()
	return out[:min(len(out), g.limit)]
}

func (g *Gather) order() []Match {
	out := append(make([]Match, 0, len(g.by)+len(g.few)), g.few...)
	for _, m := range g.by {
		out = append(out, m)
	}
	slices.SortFunc(out, g.compare)
	return out
}

func (g *Gather) compare(a, b Match) int {
	if g.want == Best {
		c := cmp.Or(cmp.Compare(a.Place.Rank, b.Place.Rank), cmp.Compare(a.Place.Value, b.Place.Value), strings.Compare(a.Place.Text, b.Place.Text))
		if g.descending {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return strings.Compare(a.ID, b.ID)
}

package index

import (
	"math"
	"strings"
)

// Standing is an index of queries that wait for documents, the mirror image of a Class: of the terms that every match
// of a query must have it keeps the rarest, so that a document leads to the queries that share it and to no others. It
// belongs to one goroutine.
type Standing struct {
	places map[string]*place // by path, or by last component for those at any depth
	always map[*Watch]struct{}
}

// Watch is a query that waits. It may stand in several indexes at a time.
type Watch struct {
	// Item is the caller's.
	Item   any
	probes []*terms // every match has one of these; nil when nothing is known of it
}

// place is what is waited for at one path.
type place struct {
	equal map[wanted]map[*Watch]struct{}
	spans map[*Watch][]*terms
}

// wanted is one value; its path is that of the place.
type wanted struct {
	kind   kind
	number float64
	text   string
}

// NewWatch prepares a query to wait, for documents of one owner when by is not empty. What is rare is judged by the
// classes, which are some of those that it is about; none will do.
func NewWatch(q *Query, by string, classes []*Class, item any) *Watch {
	f := narrowed(q.filter, by)
	if f == nil {
		return &Watch{Item: item}
	}
	probes, _ := rarest(f, classes)
	return &Watch{Item: item, probes: probes}
}

// rarest chooses terms one of which every document that passes the filter has.
func rarest(f filter, classes []*Class) (probes []*terms, weight int) {
	switch f := f.(type) {
	case *terms:
		return []*terms{f}, weigh(f, classes)
	case allOf:
		weight = math.MaxInt
		for _, g := range f {
			if p, w := rarest(g, classes); w < weight {
				probes, weight = p, w
			}
		}
	case oneOfThem:
		for _, g := range f {
			p, w := rarest(g, classes)
			probes, weight = append(probes, p...), weight+w
		}
	}
	return probes, weight
}

// weigh guesses how many documents to come have a term: by those that are there, and, because a catalogue may still be
// small, by what is said: a value is rarer than a range, a range rarer than mere presence.
func weigh(t *terms, classes []*Class) int {
	const few, enough = 16, 100_000
	n := few
	for _, c := range classes {
		if c.Len() > 0 {
			n += c.estimate(t, enough, nil)
		}
	}
	switch {
	case t.kind == branch:
		return n // there for completeness: an element that is expected to hold text
	case t.kind == present:
		return 16 * n
	case t.from != t.to:
		return 8 * n
	}
	return n
}

// key is where a probe is kept.
func (t *terms) key() string {
	if t.exact {
		return t.path
	}
	last, _ := t.at.last()
	return last
}

func (t *terms) wanted() wanted { return wanted{t.kind, t.from.number, t.from.text} }

// Add has the watch wait.
func (s *Standing) Add(w *Watch) {
	if s.places == nil {
		s.places, s.always = make(map[string]*place), make(map[*Watch]struct{})
	}
	if w.probes == nil {
		s.always[w] = struct{}{}
	}
	for _, t := range w.probes {
		p := s.places[t.key()]
		if p == nil {
			p = &place{make(map[wanted]map[*Watch]struct{}), make(map[*Watch][]*terms)}
			s.places[t.key()] = p
		}
		if t.from != t.to {
			p.spans[w] = append(p.spans[w], t)
			continue
		}
		set := p.equal[t.wanted()]
		if set == nil {
			set = make(map[*Watch]struct{}, 1)
			p.equal[t.wanted()] = set
		}
		set[w] = struct{}{}
	}
}

// Remove has the watch wait no longer.
func (s *Standing) Remove(w *Watch) {
	delete(s.always, w)
	for _, t := range w.probes {
		p := s.places[t.key()]
		if p == nil {
			continue
		}
		delete(p.spans, w)
		if set := p.equal[t.wanted()]; set != nil {
			if delete(set, w); len(set) == 0 {
				delete(p.equal, t.wanted())
			}
		}
		if len(p.equal) == 0 && len(p.spans) == 0 {
			delete(s.places, t.key())
		}
	}
}

// Empty reports whether nothing waits.
func (s *Standing) Empty() bool { return len(s.places) == 0 && len(s.always) == 0 }

// Candidates calls f with the watches whose query the document may meet, and with all that it does meet. It may call
// it with one watch several times.
func (s *Standing) Candidates(d *Doc, f func(*Watch)) {
	for w := range s.always {
		f(w)
	}
	if len(s.places) == 0 {
		return
	}
	facts(d, func(t term) {
		s.at(t.path, t, f)
		if t.path != "" {
			s.at(t.path[strings.LastIndexByte(t.path, '/')+1:], t, f)
		}
	})
}

func (s *Standing) at(key string, t term, f func(*Watch)) {
	p := s.places[key]
	if p == nil {
		return
	}
	for w := range p.equal[wanted{t.kind, t.number, t.text}] {
		f(w)
	}
	for w, spans := range p.spans {
		for _, x := range spans {
			if x.kind == t.kind && x.from.number <= t.number && t.number <= x.to.number && x.from.text <= t.text && t.text <= x.to.text {
				f(w)
				break
			}
		}
	}
}

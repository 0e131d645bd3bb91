package apc

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/operators"
)

// shelved is a catalogue for requests that name the same things, and how much of the view's changes is in it.
type shelved struct {
	catalogue   *plan.Catalogue
	seen, shape int
	used        uint64
}

// catalogue is what requests that name these things are planned with: all proxies and their operators, and the named
// things. It is the same value until something in it changes, and made of the last one then: a change costs its size.
func (v *view) catalogue(named map[string]bool) (*plan.Catalogue, error) {
	key := strings.Join(slices.Sorted(maps.Keys(named)), "\n")
	v.clock++
	s := v.shelf[key]
	if s == nil || s.shape != v.shape || s.seen < v.begun {
		return v.stock(key, named)
	}
	s.used = v.clock
	if s.seen == v.seen() {
		return s.catalogue, nil
	}
	change, any := v.change(s, named)
	s.seen = v.seen()
	if !any {
		return s.catalogue, nil
	}
	next, err := s.catalogue.With(change)
	if err != nil {
		return v.stock(key, named)
	}
	s.catalogue = next
	return next, nil
}

// extended is a catalogue with what stands in for the raw addresses of a request: the same value for the same catalogue
// and addresses while it is remembered.
func (v *view) extended(c *plan.Catalogue, f *plan.Form, words []word) (*plan.Catalogue, error) {
	key := extension{c, f.From.Text, f.To.Text}
	if e := v.extensions[key]; e != nil {
		return e, nil
	}
	e, err := outside(c, f, words, v.reach)
	if err != nil || e == c {
		return e, err
	}
	if len(v.extensions) >= maxShelved {
		clear(v.extensions)
	}
	v.extensions[key] = e
	return e, nil
}

type extension struct {
	of       *plan.Catalogue
	from, to string
}

// absorb notes what was learned of costs since the last time.
func (v *view) absorb(l *learned) {
	names, now, all := l.since(v.learned)
	if v.learned = now; all {
		v.shape++
	}
	for _, name := range names {
		v.touch(touched{operator: name})
	}
}

// stock makes a catalogue from nothing and shelves it.
func (v *view) stock(key string, named map[string]bool) (*plan.Catalogue, error) {
	c, err := plan.NewCatalogue(v.parts(named))
	if err != nil {
		return nil, fmt.Errorf("%w: what was found cannot be planned with: %w", ErrRefused, err)
	}
	most := max(1, min(maxShelved, maxInShelf/max(1, len(v.things))))
	delete(v.shelf, key)
	for len(v.shelf) >= most {
		oldest := ""
		for k, s := range v.shelf {
			if o := v.shelf[oldest]; o == nil || s.used < o.used {
				oldest = k
			}
		}
		delete(v.shelf, oldest)
	}
	v.shelf[key] = &shelved{catalogue: c, seen: v.seen(), shape: v.shape, used: v.clock}
	return c, nil
}

// change is what the view has over a shelved catalogue.
func (v *view) change(s *shelved, named map[string]bool) (ch plan.Change, any bool) {
	done := make(map[touched]bool)
	for _, t := range v.log[s.seen-v.begun:] {
		if done[t] {
			continue
		}
		done[t] = true
		if t.operator != "" {
			v.changeOperator(&ch, s, named, t.operator)
		} else {
			v.changeNode(&ch, s, named, t.node)
		}
	}
	// The order in which things became known is none of a plan's business.
	slices.SortFunc(ch.Operators, func(a, b plan.Operator) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(ch.Nodes, func(a, b plan.Node) int { return cmp.Compare(a.ID, b.ID) })
	return ch, len(ch.Operators)+len(ch.Nodes)+len(ch.GoneOperators)+len(ch.GoneNodes) > 0
}

func (v *view) changeOperator(ch *plan.Change, s *shelved, named map[string]bool, name string) {
	now, ok := v.operator(name)
	if ok && (!now.Fixed || named[now.Service]) {
		ch.Operators = append(ch.Operators, now)
	} else if _, was := s.catalogue.Operator(name); was {
		ch.GoneOperators = append(ch.GoneOperators, name)
	}
}

func (v *view) changeNode(ch *plan.Change, s *shelved, named map[string]bool, id ca.ID) {
	was, had := s.catalogue.Node(id)
	now, active, ok := v.node(id)
	switch {
	case ok && (active || v.publishes(id, named)):
		if !had || was.Load != now.Load || was.Cores != now.Cores || was.Memory != now.Memory || was.Region != now.Region {
			ch.Nodes = append(ch.Nodes, now)
		}
	case had:
		ch.GoneNodes = append(ch.GoneNodes, id)
	}
}

// publishes reports whether a named thing is the owner's.
func (v *view) publishes(owner ca.ID, named map[string]bool) bool {
	for id := range v.owners[owner] {
		if named[id] {
			return true
		}
	}
	return false
}

// parts are what the planner's catalogue is built of; named nil is everything.
func (v *view) parts(named map[string]bool) plan.Parts {
	var p plan.Parts
	for _, owner := range slices.Sorted(maps.Keys(v.owners)) {
		if n, active, ok := v.node(owner); ok && (active || named == nil || v.publishes(owner, named)) {
			p.Nodes = append(p.Nodes, n)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.groups)) {
		if o, ok := v.operator(name); ok {
			p.Operators = append(p.Operators, o)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.fixed)) {
		if named == nil || named[v.fixed[name].ID] {
			o, _ := v.operator(name)
			p.Operators = append(p.Operators, o)
		}
	}
	for _, pair := range slices.SortedFunc(maps.Keys(v.links), func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) }) {
		p.Links = append(p.Links, v.links[pair])
	}
	for _, id := range slices.Sorted(maps.Keys(v.things)) {
		t := v.things[id]
		for _, d := range t.Data {
			ref := operators.Ref{Service: id, SHA256: d.SHA256}
			p.Data = append(p.Data, plan.Data{Ref: ref.String(), Size: max(d.Size, 0), Nodes: []ca.ID{t.Owner}})
		}
	}
	return p
}

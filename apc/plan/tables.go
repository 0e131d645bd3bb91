package plan

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"ninja/operators"
)

// tables are what a catalogue computes once and keeps: the abstract signatures that lower bounds are computed over, and
// the automata of open types that no plan is using just now. They hold only what follows from the catalogue.
type tables struct {
	pool *pool
	once sync.Once

	// What follows is never changed once it is made.
	byOut    [][]int32          // signatures by the shape they make
	takes    [][]int32          // signatures by the shape they take
	takesOut [][]int32          // what those make
	byMedia  map[string][]int32 // signatures by the media type they take
	opsOf    [][]int32          // operators by signature
	abs      []absSig           // by signature
	abouts   map[string]int32
	shapes   map[string]int32
	like     map[string][]shape // those of the same media type and names
	ofMedia  map[string][]shape // those of the same media type
	over     [][]int32          // by shape: those in which at least as much is free
	class    []int32            // by node: nodes that run the same operators and that hops cannot tell apart
	classes  int32
	special  []bool // by node: some operator has a cost of its own or data there, or it has a trunk
	amends   bool   // lists may be shared with tables that these were made of
}

// Abstract values of the parameter about: what data means, besides its media type.
const (
	aboutNone    int32 = -1 // the parameter is not there
	aboutAny     int32 = -2 // one of several; which is not decided
	aboutSame    int32 = -3 // of an output: that of the input
	aboutFree    int32 = -4 // nothing has limited it yet, and something still has to
	aboutUnknown int32 = -5 // one of several, or free: another parameter decides it
)

// absSig is a signature with all values of parameters but the meaning dropped. What is left of an output type is its
// shape: the media type, which parameters there are, and which of them the operator leaves free, but for the meaning.
type absSig struct {
	ins      []int32 // the shapes that it takes
	out      int32   // the shape that it makes, or -1
	wants    []int32 // the abouts it takes; nil for any
	outAbout int32
	// takes says that a free meaning may go in: it is decided here or goes on. decides says that it may be decided here,
	// stays that it may still be free behind the operator, when the output's is that of the input.
	takes, decides, stays bool
}

// shape is one of those that have the same media type and names.
type shape struct {
	id          int32
	names, free []string // in order
}

func newTables() *tables {
	return &tables{
		pool: &pool{}, abouts: make(map[string]int32), shapes: make(map[string]int32), like: make(map[string][]shape),
		ofMedia: make(map[string][]shape), byMedia: make(map[string][]int32),
	}
}

func (c *Catalogue) prepare() *tables {
	t := c.tables
	t.once.Do(func() {
		for _, s := range c.sigs {
			t.add(c, s)
		}
		for i, s := range c.sig {
			t.opsOf[s] = append(t.opsOf[s], int32(i))
		}
		t.classify(c)
	})
	return t
}

// next are tables to add to, which share with these what stays.
func (t *tables) next() *tables {
	n := &tables{
		pool: &pool{}, byOut: slices.Clone(t.byOut), takes: slices.Clone(t.takes), takesOut: slices.Clone(t.takesOut),
		byMedia: maps.Clone(t.byMedia), opsOf: slices.Clone(t.opsOf), abs: slices.Clone(t.abs), abouts: maps.Clone(t.abouts),
		shapes: maps.Clone(t.shapes), like: maps.Clone(t.like), ofMedia: maps.Clone(t.ofMedia), over: slices.Clone(t.over),
		class: slices.Clone(t.class), classes: t.classes, special: slices.Clone(t.special), amends: true,
	}
	n.once.Do(func() {})
	return n
}

// push appends to a list that may be shared.
func push[T any](t *tables, list []T, x T) []T {
	if t.amends {
		list = slices.Clip(list)
	}
	return append(list, x)
}

// add takes the next signature of a catalogue in.
func (t *tables) add(c *Catalogue, s signature) {
	id, out := int32(len(t.abs)), int32(-1)
	if !s.out.IsZero() {
		out = t.shapeBy(c, s)
	}
	t.abs, t.opsOf = append(t.abs, t.abstract(s, out)), append(t.opsOf, nil)
	if s.in.IsZero() {
		return
	}
	if out >= 0 {
		t.byOut[out] = push(t, t.byOut[out], id)
	}
	t.byMedia[s.in.Media()] = push(t, t.byMedia[s.in.Media()], id)
	for _, x := range t.ofMedia[s.in.Media()] {
		t.link(id, s, x)
	}
}

// shapeBy is the shape that an operator makes.
func (t *tables) shapeBy(c *Catalogue, s signature) int32 {
	x := shape{int32(len(t.shapes)), s.out.Names(), s.leavesFree()}
	media := s.out.Media()
	if id := number(t.shapes, shapeKey(media, x.names, x.free)); id != x.id {
		return id
	}
	t.byOut, t.takes, t.takesOut = append(t.byOut, nil), append(t.takes, nil), append(t.takesOut, nil)
	t.over = append(t.over, []int32{x.id})
	key := shapeKey(media, x.names, nil)
	for _, y := range t.like[key] {
		if subset(x.free, y.free) {
			t.over[x.id] = push(t, t.over[x.id], y.id)
		}
		if subset(y.free, x.free) {
			t.over[y.id] = push(t, t.over[y.id], x.id)
		}
	}
	t.like[key] = push(t, t.like[key], x)
	t.ofMedia[media] = push(t, t.ofMedia[media], x)
	for _, id := range t.byMedia[media] {
		t.link(id, c.sigs[id], x)
	}
	return x.id
}

// link notes that an operator takes a shape, if it does.
func (t *tables) link(id int32, s signature, x shape) {
	if !subset(s.in.Names(), x.names) || slices.ContainsFunc(x.free, func(n string) bool { return !s.takesFree(n) }) {
		return
	}
	a := &t.abs[id]
	a.ins = push(t, a.ins, x.id)
	t.takes[x.id], t.takesOut[x.id] = push(t, t.takes[x.id], id), push(t, t.takesOut[x.id], a.out)
}

// shapeKey is a shape's text: the media type and the parameters in order, those that are free with a ? behind.
func shapeKey(media string, names, free []string) string {
	var b strings.Builder
	b.WriteString(media)
	for _, n := range names {
		b.WriteString(";" + n)
		if slices.Contains(free, n) {
			b.WriteString("?")
		}
	}
	return b.String()
}

// leavesFree lists the output parameters, but for the meaning, that nothing limits whatever goes in.
func (s signature) leavesFree() (free []string) {
	for _, n := range s.out.Names() {
		if v := s.out.Variable(n); n != "about" && unlimited(s.out, n) && (v == "" || !has(s.in, v)) {
			free = append(free, n)
		}
	}
	return free
}

// takesFree reports whether a parameter that is free may go in: the input limits it, or it goes on under some name.
func (s signature) takesFree(name string) bool {
	v := s.in.Variable(name)
	return s.limits(name) || v != "" && has(s.out, v)
}

// limits reports whether a parameter that is free may be limited on the way in.
func (s signature) limits(name string) bool {
	if s.in.Param(name) == "" {
		return false
	}
	v := s.in.Variable(name)
	return !unlimited(s.in, name) || v != "" && slices.ContainsFunc(s.in.Names(), func(n string) bool { return n != name && s.in.Variable(n) == v })
}

// unlimited reports whether a pattern lets a parameter that it names have any value, under all the names it gives it.
func unlimited(p operators.Pattern, name string) bool {
	v := p.Variable(name)
	if v == "" {
		return p.Param(name) == "*"
	}
	return !slices.ContainsFunc(p.Names(), func(n string) bool { return p.Variable(n) == v && p.Param(n) != "$"+v })
}

// has reports whether a variable stands in a pattern.
func has(p operators.Pattern, variable string) bool {
	return slices.ContainsFunc(p.Names(), func(n string) bool { return p.Variable(n) == variable })
}

// subset reports whether all of a are in b; both are in order.
func subset(a, b []string) bool {
	for _, x := range a {
		if _, ok := slices.BinarySearch(b, x); !ok {
			return false
		}
	}
	return true
}

// classify numbers the classes of nodes.
func (t *tables) classify(c *Catalogue) {
	t.special = make([]bool, len(c.nodes))
	for n := range c.trunks {
		t.special[n] = true // it has what no other node of its class has
	}
	member := make([]uint64, len(c.nodes)) // a hash of the place lists that a node is in
	seen := make(map[*int32]bool)
	lists := uint64(0)
	for op, places := range c.places {
		if len(places) == 0 {
			continue
		}
		for n := range c.override[op] {
			t.special[n] = true
		}
		if !seen[&places[0]] {
			seen[&places[0]] = true
			lists++
			for _, n := range places {
				member[n] += mix(lists)
			}
		}
		for _, ref := range c.ops[op].Data {
			for n := range c.holders[ref] {
				t.special[n] = true
			}
		}
	}
	type key struct {
		zone   int32
		member uint64
	}
	ids := make(map[key]int32)
	for n := range c.nodes {
		k := key{c.nodeZone[n], member[n]}
		id, ok := ids[k]
		if !ok {
			id = int32(len(ids))
			ids[k] = id
		}
		t.class = append(t.class, id)
	}
	t.classes = int32(len(ids))
}

// mix spreads a number over 64 bits (the finaliser of splitmix64): the sum of a set's members is then its name.
func mix(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (t *tables) abstract(s signature, out int32) absSig {
	a := absSig{out: out, outAbout: aboutNone}
	for _, v := range s.in.Values("about") {
		a.wants = append(a.wants, number(t.abouts, v))
	}
	a.takes, a.decides = s.takesFree("about"), s.limits("about")
	if out < 0 || s.out.Param("about") == "" {
		return a
	}
	v, values := s.out.Variable("about"), s.out.Values("about")
	switch {
	case len(values) == 1:
		a.outAbout = number(t.abouts, values[0])
	case v != "" && v == s.in.Variable("about"):
		a.outAbout = aboutSame
		a.decides = a.decides || !unlimited(s.out, "about")
		a.stays = unlimited(s.in, "about") && unlimited(s.out, "about")
	case v != "" && has(s.in, v):
		a.outAbout = aboutUnknown
	case unlimited(s.out, "about"):
		a.outAbout = aboutFree
	default:
		a.outAbout = aboutAny
	}
	return a
}

func number(m map[string]int32, s string) int32 {
	n, ok := m[s]
	if !ok {
		n = int32(len(m))
		m[s] = n
	}
	return n
}

// behind is what is known of the meaning behind an operator.
func (a *absSig) behind(about int32) int32 {
	switch {
	case a.outAbout != aboutSame:
		return a.outAbout
	case about == aboutFree && a.decides && a.stays:
		return aboutUnknown
	case about == aboutFree && a.decides:
		return aboutAny
	}
	return about
}

package plan

import (
	"slices"
	"strings"
	"sync"
)

// tables are what a catalogue computes once and keeps: the abstract signatures that lower bounds are computed over, and
// the automata of open types that no plan is using just now. They hold only what follows from the catalogue.
type tables struct {
	mu   sync.Mutex
	free []*automaton // under mu

	// What follows is never changed once it is made.
	once    sync.Once
	byOut   [][]int32          // signatures by the shape they make
	takes   [][]int32          // signatures by the shape they take
	byMedia map[string][]int32 // signatures by the media type they take
	opsOf   [][]int32          // operators by signature
	abs     []absSig           // by signature
	abouts  map[string]int32
	shapes  map[string]int32
	class   []int32 // by node: nodes that run the same operators and that hops cannot tell apart
	special []bool  // by node: some operator has a cost of its own or data there
}

// Abstract values of the parameter about: what data means, besides its media type.
const (
	aboutNone int32 = -1 // the parameter is not there
	aboutAny  int32 = -2 // not decided, or anything will do
	aboutSame int32 = -3 // of an output: that of the input
)

// absSig is a signature with all values of parameters but the meaning dropped. What is left of an output type is its
// shape: the media type and which parameters there are.
type absSig struct {
	ins      []int32 // the shapes that it takes
	out      int32   // the shape that it makes, or -1
	wants    []int32 // the abouts it takes; nil for any
	outAbout int32
}

func newTables() *tables {
	return &tables{abouts: make(map[string]int32), shapes: make(map[string]int32)}
}

func (c *Catalogue) prepare() *tables {
	t := c.tables
	t.once.Do(func() {
		t.byMedia = make(map[string][]int32)
		t.opsOf = make([][]int32, len(c.sigs))
		for i, s := range c.sig {
			t.opsOf[s] = append(t.opsOf[s], int32(i))
		}
		byMedia := make(map[string][]int32)
		var names [][]string // by shape
		for _, s := range c.sigs {
			if s.out.IsZero() {
				continue
			}
			if id := number(t.shapes, shapeKey(s.out.Media(), s.out.Names())); int(id) == len(names) {
				names = append(names, s.out.Names())
				byMedia[s.out.Media()] = append(byMedia[s.out.Media()], id)
			}
		}
		for i, s := range c.sigs {
			a := t.abstract(s)
			if !s.in.IsZero() {
				t.byMedia[s.in.Media()] = append(t.byMedia[s.in.Media()], int32(i))
				for _, shape := range byMedia[s.in.Media()] {
					if subset(s.in.Names(), names[shape]) {
						a.ins = append(a.ins, shape)
					}
				}
			}
			t.abs = append(t.abs, a)
		}
		t.byOut, t.takes = make([][]int32, len(t.shapes)), make([][]int32, len(t.shapes))
		for s := range t.abs {
			a := &t.abs[s]
			if a.out >= 0 && len(a.ins) > 0 {
				t.byOut[a.out] = append(t.byOut[a.out], int32(s))
			}
			for _, in := range a.ins {
				t.takes[in] = append(t.takes[in], int32(s))
			}
		}
		t.classify(c)
	})
	return t
}

func shapeKey(media string, names []string) string { return media + ";" + strings.Join(names, ";") }

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
}

// mix spreads a number over 64 bits (the finaliser of splitmix64): the sum of a set's members is then its name.
func mix(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (t *tables) abstract(s signature) absSig {
	a := absSig{out: -1, outAbout: aboutNone}
	for _, v := range s.in.Values("about") {
		a.wants = append(a.wants, number(t.abouts, v))
	}
	if s.out.IsZero() {
		return a
	}
	a.out = number(t.shapes, shapeKey(s.out.Media(), s.out.Names()))
	if text := s.out.Param("about"); text != "" {
		a.outAbout = aboutAny
		if v := s.out.Values("about"); len(v) == 1 {
			a.outAbout = number(t.abouts, v[0])
		} else if v := s.out.Variable("about"); v != "" && v == s.in.Variable("about") {
			a.outAbout = aboutSame
		}
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

package plan

import (
	"sync"

	"ninja/operators"
)

// tables are what a catalogue computes once and keeps: the automaton of open types, and the abstract signatures that
// lower bounds are computed over. They grow under the lock and hold only what follows from the catalogue.
type tables struct {
	mu    sync.Mutex
	opens []open
	byKey map[string]int32
	next  map[uint64]int32 // open and signature to the open type behind it, or -1

	once    sync.Once
	byMedia map[string][]int32 // signatures by the media type they take
	opsOf   [][]int32          // operators by signature
	abs     []absSig           // by signature
	abouts  map[string]int32
	medias  map[string]int32
}

type open struct {
	o     operators.Open
	media int32
	about int32 // a value's number, or aboutNone, aboutAny
}

// Abstract values of the parameter about: what data means, besides its media type.
const (
	aboutNone int32 = -1 // the parameter is not there
	aboutAny  int32 = -2 // not decided, or anything will do
	aboutSame int32 = -3 // of an output: that of the input
)

// absSig is a signature with all parameters but the meaning dropped.
type absSig struct {
	in, out  int32   // media
	wants    []int32 // the abouts it takes; nil for any
	outAbout int32
}

func newTables() *tables {
	return &tables{byKey: make(map[string]int32), next: make(map[uint64]int32), abouts: make(map[string]int32), medias: make(map[string]int32)}
}

func (c *Catalogue) prepare() *tables {
	t := c.tables
	t.once.Do(func() {
		t.byMedia = make(map[string][]int32)
		t.opsOf = make([][]int32, len(c.sigs))
		for i, s := range c.sig {
			t.opsOf[s] = append(t.opsOf[s], int32(i))
		}
		for i, s := range c.sigs {
			if !s.in.IsZero() {
				t.byMedia[s.in.Media()] = append(t.byMedia[s.in.Media()], int32(i))
			}
			t.abs = append(t.abs, t.abstract(s))
		}
	})
	return t
}

func (t *tables) abstract(s signature) absSig {
	a := absSig{in: -1, out: -1, outAbout: aboutNone}
	if !s.in.IsZero() {
		a.in = number(t.medias, s.in.Media())
		for _, v := range s.in.Values("about") {
			a.wants = append(a.wants, number(t.abouts, v))
		}
	}
	if !s.out.IsZero() {
		a.out = number(t.medias, s.out.Media())
		if text := s.out.Param("about"); text != "" {
			a.outAbout = aboutAny
			if v := s.out.Values("about"); len(v) == 1 {
				a.outAbout = number(t.abouts, v[0])
			} else if v := s.out.Variable("about"); v != "" && v == s.in.Variable("about") {
				a.outAbout = aboutSame
			}
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

// start is the open type that a source makes. The lock is held.
func (c *Catalogue) start(op int) (int32, error) {
	o, err := operators.OpenOf(c.ops[op].Name, c.ops[op].Spec.Out)
	if err != nil {
		return -1, err
	}
	return c.tables.intern(o), nil
}

func (t *tables) intern(o operators.Open) int32 {
	k := o.Key()
	id, ok := t.byKey[k]
	if ok {
		return id
	}
	id = int32(len(t.opens))
	e := open{o: o, media: -1, about: aboutNone}
	if m := o.Media(); m != "" {
		e.media = number(t.medias, m)
		if v, has := o.Decided("about"); has {
			e.about = aboutAny
			if v != "" {
				e.about = number(t.abouts, v)
			}
		}
	}
	t.opens = append(t.opens, e)
	t.byKey[k] = id
	return id
}

// then is the open type behind an operator of a signature, or -1 when it does not fit. The lock is held.
func (c *Catalogue) then(from int32, sig int32) int32 {
	t := c.tables
	key := uint64(from)<<32 | uint64(sig)
	id, ok := t.next[key]
	if !ok {
		s := c.sigs[sig]
		o, err := t.opens[from].o.Then("", operators.Link{In: s.in, Out: s.out})
		id = -1
		if err == nil {
			id = t.intern(o)
		}
		t.next[key] = id
	}
	return id
}

package plan

import (
	"slices"
	"sync"

	"ninja/operators"
)

// automaton is the open types that chains were found to make, and which operators lead from one to another. A search
// has one to itself, so that searches do not wait for each other; a catalogue keeps those that were used for the next.
type automaton struct {
	c     *Catalogue
	opens []open
	byKey map[string]int32
	next  map[uint64]int32 // open and signature to the open type behind it, or -1
	spare [][]absCell      // arrays for tables of bounds, used up to now by use
	taken int
	uses  uint64
}

type open struct {
	o     operators.Open
	shape int32 // -1 when the chain has ended
	about int32 // a value's number, or aboutNone, aboutAny, aboutFree
}

// maxOpens and maxSpare bound an automaton between plans, maxFree how many are kept.
const (
	maxOpens = 1 << 18
	maxFree  = 8
	maxSpare = 24 // arrays that are kept with one
)

func newAutomaton(c *Catalogue) *automaton {
	return &automaton{c: c, byKey: make(map[string]int32), next: make(map[uint64]int32)}
}

// pool keeps automata between searches.
type pool struct {
	mu   sync.Mutex
	free []*automaton // under mu
}

// borrow takes an automaton for one search.
func (c *Catalogue) borrow() *automaton {
	t := c.tables.pool
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.free) - 1; n >= 0 {
		a := t.free[n]
		t.free = t.free[:n]
		a.c = c
		return a
	}
	return newAutomaton(c)
}

// give takes one back; its numbers are of no meaning beyond one search.
func (c *Catalogue) give(a *automaton) {
	t := c.tables.pool
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.release(0); len(a.spare) > maxSpare {
		a.spare = nil
	}
	if len(a.opens) <= maxOpens && len(t.free) < maxFree {
		t.free = append(t.free, a)
	}
}

// cells takes an array for a table till the search is over, and the number that marks its cells.
func (a *automaton) cells(n int) ([]absCell, uint64) {
	a.uses++
	for i := a.taken; i < len(a.spare); i++ {
		if s := a.spare[i]; cap(s) >= n {
			a.spare[i], a.spare[a.taken] = a.spare[a.taken], s
			a.taken++
			return s[:n], a.uses
		}
	}
	s := make([]absCell, n)
	a.spare = append(a.spare, s)
	a.spare[a.taken], a.spare[len(a.spare)-1] = s, a.spare[a.taken]
	a.taken++
	return s, a.uses
}

// release gives back all arrays but the first few that were taken.
func (a *automaton) release(kept int) { a.taken = kept }

// forget drops all automata that are kept.
func (t *pool) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free = nil
}

// start is the open type that a source makes.
func (a *automaton) start(op int) (int32, error) {
	o, err := operators.OpenOf(a.c.ops[op].Name, a.c.ops[op].Spec.Out)
	if err != nil {
		return -1, err
	}
	return a.intern(o), nil
}

func (a *automaton) intern(o operators.Open) int32 {
	k := o.Key()
	id, ok := a.byKey[k]
	if ok {
		return id
	}
	id = int32(len(a.opens))
	e := open{o: o, shape: -1, about: aboutNone}
	if m := o.Media(); m != "" {
		t := a.c.tables
		e.shape = t.shapeOf(o)
		if v, has := o.Decided("about"); o.Free("about") {
			e.about = aboutFree
		} else if has {
			e.about = aboutAny
			if n, known := t.abouts[v]; known {
				e.about = n
			} else if v != "" {
				e.about = int32(len(t.abouts)) // nothing asks for it by name
			}
		}
	}
	a.opens = append(a.opens, e)
	a.byKey[k] = id
	return id
}

// then is the open type behind an operator of a signature, or -1 when it does not fit.
func (a *automaton) then(from int32, sig int32) int32 {
	key := uint64(from)<<32 | uint64(sig)
	id, ok := a.next[key]
	if !ok {
		s := a.c.sigs[sig]
		o, err := a.opens[from].o.Then("", operators.Link{In: s.in, Out: s.out})
		id = -1
		if err == nil {
			id = a.intern(o)
		}
		if a.c.common == 0 || int(sig) < a.c.common {
			a.next[key] = id
		}
	}
	return id
}

// shapeOf is the shape of an open type that says most of what is free in it. That of the operator that made it is there.
func (t *tables) shapeOf(o operators.Open) int32 {
	best, most := int32(-1), -1
	for _, s := range t.like[shapeKey(o.Media(), o.Names(), nil)] {
		if len(s.free) > most && !slices.ContainsFunc(s.free, func(n string) bool { return !o.Free(n) }) {
			best, most = s.id, len(s.free)
		}
	}
	return best
}

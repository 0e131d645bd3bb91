package plan

import "math"

// absState is an abstract type with progress, and how far it is.
type absState struct {
	dist         float64
	shape, about int32
	mask         uint32
}

// absHeap is a binary heap of states, the nearest first.
type absHeap []absState

// least is how far the nearest state is; +Inf when there is none.
func (h absHeap) least() float64 {
	if len(h) == 0 {
		return math.Inf(1)
	}
	return h[0].dist
}

func (h *absHeap) push(x absState) {
	s := append(*h, x)
	i := len(s) - 1
	for i > 0 && s[(i-1)/2].dist > x.dist {
		s[i] = s[(i-1)/2]
		i = (i - 1) / 2
	}
	s[i] = x
	*h = s
}

func (h *absHeap) pop() absState {
	s := *h
	top, x := s[0], s[len(s)-1]
	s = s[:len(s)-1]
	*h = s
	for i := 0; len(s) > 0; {
		c := 2*i + 1
		if c+1 < len(s) && s[c+1].dist < s[c].dist {
			c++
		}
		if c >= len(s) || s[c].dist >= x.dist {
			s[i] = x
			break
		}
		s[i] = s[c]
		i = c
	}
	return top
}

// absTable is a number by abstract state, +Inf where none was put. Where there may be few enough states it is an array, of
// which the cells of an earlier use do not count; else a hash table, because of all states a search sees few.
type absTable struct {
	shapes, abouts uint64
	cells          []absCell // by key; nil for a hash table
	use            uint64    // that cells have to be of
	hashed         map[uint64]float64
}

type absCell struct {
	val float64
	use uint64
}

// maxCells bounds the array of a table: 32 MiB.
const maxCells = 1 << 21

// aboutsBelow is the least number that stands for an about.
const aboutsBelow = aboutUnknown

func newAbsTable(p *problem) absTable {
	t := absTable{shapes: uint64(len(p.t.shapes)), abouts: uint64(len(p.t.abouts) + 1 - int(aboutsBelow))}
	n := t.shapes * t.abouts * uint64(p.need+1)
	if n > maxCells {
		t.hashed = make(map[uint64]float64)
		return t
	}
	t.cells, t.use = p.a.cells(int(n))
	return t
}

func (t *absTable) key(shape, about int32, mask uint32) uint64 {
	return (uint64(mask)*t.shapes+uint64(shape))*t.abouts + uint64(about-aboutsBelow)
}

func (t *absTable) get(shape, about int32, mask uint32) float64 {
	k := t.key(shape, about, mask)
	if t.cells != nil {
		if c := &t.cells[k]; c.use == t.use {
			return c.val
		}
	} else if x, ok := t.hashed[k]; ok {
		return x
	}
	return math.Inf(1)
}

// least is the least of a reverser's numbers for a type of which the meaning is known as well as about says.
func (t *absTable) least(shape, about int32, mask uint32) float64 {
	switch about {
	case aboutNone, aboutAny, aboutFree:
		return t.get(shape, about, mask)
	case aboutUnknown:
		return min(t.get(shape, absSome, mask), t.get(shape, absFree, mask))
	}
	return min(t.get(shape, absEvery, mask), t.get(shape, about, mask))
}

// lower puts a number unless there is one that is no higher; it reports whether it did.
func (t *absTable) lower(shape, about int32, mask uint32, x float64) bool {
	k := t.key(shape, about, mask)
	if t.cells == nil {
		if old, ok := t.hashed[k]; ok && old <= x {
			return false
		}
		t.hashed[k] = x
		return true
	}
	c := &t.cells[k]
	if c.use == t.use && c.val <= x {
		return false
	}
	*c = absCell{x, t.use}
	return true
}

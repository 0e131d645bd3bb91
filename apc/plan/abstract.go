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

// absTable is a number by abstract state, +Inf where none was put: a hash table with open addressing, because of all
// states a search sees few.
type absTable struct {
	shapes, abouts uint64
	keys           []uint64 // key plus one; zero is empty
	vals           []float64
	used           int
}

func newAbsTable(p *problem) absTable {
	return absTable{
		shapes: uint64(len(p.t.shapes)), abouts: uint64(len(p.t.abouts) + 1 - int(aboutsBelow)),
		keys: make([]uint64, 256), vals: make([]float64, 256),
	}
}

// aboutsBelow is the least number that stands for an about.
const aboutsBelow = aboutUnknown

func (t *absTable) key(shape, about int32, mask uint32) uint64 {
	return (uint64(mask)*t.shapes+uint64(shape))*t.abouts + uint64(about-aboutsBelow) + 1
}

// slot is where a key is, or would be.
func (t *absTable) slot(key uint64) int {
	m := uint64(len(t.keys) - 1)
	i := (key * 0x9e3779b97f4a7c15 >> 20) & m
	for t.keys[i] != 0 && t.keys[i] != key {
		i = (i + 1) & m
	}
	return int(i)
}

func (t *absTable) get(shape, about int32, mask uint32) float64 {
	k := t.key(shape, about, mask)
	if i := t.slot(k); t.keys[i] == k {
		return t.vals[i]
	}
	return math.Inf(1)
}

// at is the place of a state's number, until the next call.
func (t *absTable) at(shape, about int32, mask uint32) *float64 {
	k := t.key(shape, about, mask)
	i := t.slot(k)
	if t.keys[i] == k {
		return &t.vals[i]
	}
	if t.used++; 2*t.used > len(t.keys) {
		t.double()
		i = t.slot(k)
	}
	t.keys[i], t.vals[i] = k, math.Inf(1)
	return &t.vals[i]
}

func (t *absTable) double() {
	keys, vals := t.keys, t.vals
	t.keys, t.vals = make([]uint64, 2*len(keys)), make([]float64, 2*len(keys))
	for i, k := range keys {
		if k != 0 {
			j := t.slot(k)
			t.keys[j], t.vals[j] = k, vals[i]
		}
	}
}

// shapesIn marks the shapes of the states that have a number.
func (t *absTable) shapesIn() []bool {
	in := make([]bool, t.shapes)
	for i, k := range t.keys {
		if k != 0 && !math.IsInf(t.vals[i], 1) {
			in[(k-1)/t.abouts%t.shapes] = true
		}
	}
	return in
}

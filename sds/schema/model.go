package schema

import (
	"fmt"
	"maps"
)

// model is a content model as a deterministic automaton (Glushkov's): its states are the names in the model, from 1,
// and 0 is the beginning. XML 1.0, 3.2.1 and appendix E, demands that it is deterministic.
type model struct {
	follow []map[string]int // by state
	last   []bool           // the content may end here
}

// part is a piece of a content model under construction.
type part struct {
	nullable    bool
	first, last []int
}

// builder makes a model of the pieces of an expression.
type builder struct {
	names []string // of the states; 0 has none
	next  []map[int]bool
	size  *int // transitions of the whole schema, bounded
}

func newBuilder(size *int) *builder {
	return &builder{names: []string{""}, next: []map[int]bool{nil}, size: size}
}

// name is one element.
func (b *builder) name(n string) (part, error) {
	if len(b.names) > MaxPositions {
		return part{}, fmt.Errorf("the content model has more than %d names", MaxPositions)
	}
	b.names, b.next = append(b.names, n), append(b.next, map[int]bool{})
	s := []int{len(b.names) - 1}
	return part{first: s, last: s}, nil
}

func (b *builder) link(from, to []int) error {
	for _, f := range from {
		for _, t := range to {
			if !b.next[f][t] {
				*b.size++
			}
			b.next[f][t] = true
		}
	}
	if *b.size > maxFollow {
		return fmt.Errorf("the content models have more than %d transitions", maxFollow)
	}
	return nil
}

// then is x followed by y.
func (b *builder) then(x, y part) (part, error) {
	out := part{nullable: x.nullable && y.nullable, first: x.first, last: y.last}
	if x.nullable {
		out.first = join(x.first, y.first)
	}
	if y.nullable {
		out.last = join(x.last, y.last)
	}
	return out, b.link(x.last, y.first)
}

// or is x or y.
func (b *builder) or(x, y part) part {
	return part{x.nullable || y.nullable, join(x.first, y.first), join(x.last, y.last)}
}

// times is x with one of ? * + behind it.
func (b *builder) times(x part, mark byte) (part, error) {
	x.nullable = x.nullable || mark == '?' || mark == '*'
	if mark == '?' {
		return x, nil
	}
	return x, b.link(x.last, x.first)
}

func join(a, b []int) []int { return append(a[:len(a):len(a)], b...) }

// finish makes the automaton; its error says what is ambiguous.
func (b *builder) finish(x part) (*model, error) {
	m := &model{follow: make([]map[string]int, len(b.names)), last: make([]bool, len(b.names))}
	m.last[0] = x.nullable
	for _, l := range x.last {
		m.last[l] = true
	}
	begin := make(map[int]bool)
	for _, f := range x.first {
		begin[f] = true
	}
	b.next[0] = begin
	for s := range b.names {
		m.follow[s] = make(map[string]int, len(b.next[s]))
		for t := range maps.Keys(b.next[s]) {
			if _, twice := m.follow[s][b.names[t]]; twice {
				return nil, fmt.Errorf("the content model is ambiguous: a %s can be more than one of its parts", b.names[t])
			}
			m.follow[s][b.names[t]] = t
		}
	}
	return m, nil
}

package plan

import (
	"fmt"
	"slices"

	"ninja/ca"
)

// Change is what one catalogue has over another. Things put replace those of the same name.
type Change struct {
	Operators     []Operator
	Nodes         []Node
	GoneOperators []string
	GoneNodes     []ca.ID // and with them all places there
}

// maxAncestors bounds how many catalogues back a cached plan can be carried.
const maxAncestors = 64

// With is the next version of a catalogue. A change of numbers of nodes alone (load, cores, memory), the common one,
// copies the nodes and shares all else. Operators that are put and nodes that are new are indexed by themselves (amend.go).
// What goes away, and a node that changes its region or transports, has all indexed anew.
func (c *Catalogue) With(ch Change) (*Catalogue, error) {
	var next *Catalogue
	var err error
	switch {
	case c.numbersOnly(ch):
		next, err = c.renumber(ch.Nodes)
	case c.amendable(ch):
		next, err = c.amend(ch)
	default:
		next, err = NewCatalogue(c.merge(ch))
	}
	if err != nil {
		return nil, fmt.Errorf("change of catalogue %d: %w", c.version, err)
	}
	next.version, next.generation = c.version+1, c.generation+1
	if next.generation > maxAncestors {
		next.generation, next.parent = 0, nil
		return next, nil
	}
	next.parent, next.worse, next.touched = c, c.onlyWorse(ch), nil
	for _, n := range ch.Nodes {
		next.touched = append(next.touched, string(n.ID))
	}
	for _, n := range ch.GoneNodes {
		next.touched = append(next.touched, string(n))
	}
	next.touched = append(next.touched, ch.GoneOperators...)
	return next, nil
}

func (c *Catalogue) numbersOnly(ch Change) bool {
	if len(ch.Operators)+len(ch.GoneNodes)+len(ch.GoneOperators) > 0 {
		return false
	}
	for _, n := range ch.Nodes {
		i, ok := c.byID.get(n.ID)
		if !ok || c.nodes[i].Region != n.Region || !slices.Equal(c.nodes[i].Transports, n.Transports) {
			return false
		}
	}
	return true
}

// onlyWorse reports whether nothing that was no part of a best plan can be part of one now.
func (c *Catalogue) onlyWorse(ch Change) bool {
	if len(ch.Operators) > 0 {
		return false
	}
	for _, n := range ch.Nodes {
		i, ok := c.byID.get(n.ID)
		if !ok {
			return false
		}
		old := c.nodes[i]
		if n.Load < old.Load || n.Cores != old.Cores || n.Memory != old.Memory || n.Region != old.Region || !slices.Equal(n.Transports, old.Transports) {
			return false
		}
	}
	return true
}

func (c *Catalogue) renumber(nodes []Node) (*Catalogue, error) {
	next := *c
	next.nodes = slices.Clone(c.nodes)
	for _, n := range nodes {
		if err := n.check(); err != nil {
			return nil, err
		}
		next.nodes[c.byID.at(n.ID)] = n
	}
	next.now = &numbers{}
	return &next, nil
}

// merge is the parts of the next catalogue.
func (c *Catalogue) merge(ch Change) Parts {
	p := c.parts
	gone := make(map[ca.ID]bool)
	for _, id := range ch.GoneNodes {
		gone[id] = true
	}
	put := make(map[ca.ID]Node)
	for _, n := range ch.Nodes {
		put[n.ID] = n
	}
	p.Nodes = nil
	for _, n := range c.nodes {
		if now, ok := put[n.ID]; ok {
			n = now
			delete(put, n.ID)
		}
		if !gone[n.ID] {
			p.Nodes = append(p.Nodes, n)
		}
	}
	for _, n := range ch.Nodes { // the new ones, in their order
		if _, left := put[n.ID]; left {
			p.Nodes = append(p.Nodes, n)
			delete(put, n.ID)
		}
	}
	over := make(map[string]bool)
	for _, o := range ch.Operators {
		over[o.Name] = true
	}
	for _, name := range ch.GoneOperators {
		over[name] = true
	}
	p.Operators = nil
	add := func(o Operator) {
		if len(gone) > 0 {
			o.Places = slices.DeleteFunc(slices.Clone(o.Places), func(pl Place) bool { return gone[pl.Node] })
		}
		p.Operators = append(p.Operators, o)
	}
	for _, o := range c.ops {
		if !over[o.Name] {
			add(*o)
		}
	}
	for _, o := range ch.Operators {
		add(o)
	}
	return p
}

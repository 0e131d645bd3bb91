package plan

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"
)

// numbers are what follows from the loads of a catalogue's nodes, made when first asked for.
type numbers struct {
	mu   sync.Mutex
	util []float64          // by node
	kept map[*int32][]int32 // what of place lists, which operators share, is in the front, the least busy node first
	keep []bool             // the front of all nodes
}

func (n *numbers) load(c *Catalogue) []float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.util == nil {
		n.util = make([]float64, len(c.nodes))
		for i := range c.nodes {
			n.util[i] = c.nodes[i].Load / max(c.nodes[i].Cores, 1)
		}
		n.kept = make(map[*int32][]int32)
	}
	return n.util
}

// with are the numbers of a catalogue that has more nodes, each of a class of its own, and is else the same.
func (n *numbers) with(next *Catalogue) *numbers {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.util == nil {
		return &numbers{}
	}
	m := &numbers{util: slices.Clone(n.util), kept: maps.Clone(n.kept), keep: slices.Clone(n.keep)}
	for i := len(n.util); i < len(next.nodes); i++ {
		m.util = append(m.util, next.nodes[i].Load/max(next.nodes[i].Cores, 1))
		if n.keep != nil {
			m.keep = append(m.keep, true)
		}
	}
	return m
}

// worth is what of a place list no other node there is better than, the least busy node first; load was called.
func (n *numbers) worth(c *Catalogue, places []int32) []int32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	list, ok := n.kept[&places[0]]
	if !ok {
		list = byLoad(places, n.keep, n.util)
		n.kept[&places[0]] = list
	}
	return list
}

// byLoad is what of a place list is kept, in order of load.
func byLoad(places []int32, keep []bool, util []float64) []int32 {
	list := make([]int32, 0, 16)
	for _, p := range places {
		if keep[p] {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b int32) int {
		if o := cmp.Compare(util[a], util[b]); o != 0 {
			return o
		}
		return int(a - b)
	})
	return list
}

func (n *numbers) front(c *Catalogue) []bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.keep == nil {
		all := make([]bool, len(c.nodes))
		for i := range all {
			all[i] = true
		}
		n.keep = c.frontOf(all)
	}
	return n.keep
}

// frontOf marks those of the allowed nodes that no other allowed node of their class is better than.
func (c *Catalogue) frontOf(allowed []bool) []bool {
	t := c.tables
	keep := make([]bool, len(c.nodes))
	best := make([][]int32, t.classes)
	for i := range c.nodes {
		switch n := int32(i); {
		case !allowed[n]:
		case t.special[n]:
			keep[n] = true
		default:
			best[t.class[n]] = c.join(best[t.class[n]], n)
		}
	}
	for _, list := range best {
		for _, n := range list {
			keep[n] = true
		}
	}
	return keep
}

// join puts a node into a set of which none is better than another.
func (c *Catalogue) join(set []int32, n int32) []int32 {
	for _, m := range set {
		if c.better(m, n) {
			return set
		}
	}
	kept := set[:0]
	for _, m := range set {
		if !c.better(n, m) {
			kept = append(kept, m)
		}
	}
	return append(kept, n)
}

// better reports whether a node is no busier than another and has no less room.
func (c *Catalogue) better(a, b int32) bool {
	x, y := &c.nodes[a], &c.nodes[b]
	cpuA, memA := x.room()
	cpuB, memB := y.room()
	return x.Load/max(x.Cores, 1) <= y.Load/max(y.Cores, 1) && cpuA >= cpuB && memA >= memB
}

// room is the CPU and memory that a node has left.
func (n *Node) room() (cpu, memory float64) {
	cpu, memory = math.Inf(1), math.Inf(1)
	if n.Cores > 0 {
		cpu = n.Cores - n.Load
	}
	if n.Memory > 0 {
		memory = float64(n.Memory)
	}
	return cpu, memory
}

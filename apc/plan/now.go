package plan

import (
	"math"
	"slices"
	"sync"
)

// numbers are what follows from the loads of a catalogue's nodes, made when first asked for.
type numbers struct {
	mu     sync.Mutex
	util   []float64          // by node
	sorted map[*int32][]int32 // place lists, which operators share, the least busy node first
	keep   []bool             // the front of all nodes
}

func (n *numbers) load(c *Catalogue) []float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.util == nil {
		n.util = make([]float64, len(c.nodes))
		for i := range c.nodes {
			n.util[i] = c.nodes[i].Load / max(c.nodes[i].Cores, 1)
		}
		n.sorted = make(map[*int32][]int32)
	}
	return n.util
}

// byLoad is a place list in order of load; load was called.
func (n *numbers) byLoad(c *Catalogue, places []int32) []int32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	list, ok := n.sorted[&places[0]]
	if !ok {
		list = slices.Clone(places)
		slices.SortFunc(list, func(a, b int32) int {
			switch {
			case n.util[a] < n.util[b]:
				return -1
			case n.util[a] > n.util[b]:
				return 1
			}
			return int(a - b)
		})
		n.sorted[&places[0]] = list
	}
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
	best := make([][]int32, len(c.nodes)) // by class
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

package index

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSorted holds the tree and its snapshots against maps.
func TestSorted(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		var s sorted[string, int]
		model := map[string]int{}
		type snapshot struct {
			tree  sorted[string, int]
			model map[string]int
		}
		var snapshots []snapshot
		space := []int{10, 300, 5000}[seed%3]
		for generation := uint64(1); generation < 60; generation++ {
			deletes := random.IntN(100) // some phases grow, some shrink
			for i := range random.IntN(400) {
				k := fmt.Sprintf("%05d", random.IntN(space))
				if seed%5 == 4 {
					k = fmt.Sprintf("%05d", int(generation)*400+i) // in order
				}
				if random.IntN(100) < deletes {
					s.delete(generation, k)
					delete(model, k)
					continue
				}
				_, v := s.place(generation, k)
				*v = i
				model[k] = i
			}
			snapshots = append(snapshots, snapshot{s, maps.Clone(model)})
		}
		for i, x := range snapshots {
			holdAgainst(t, fmt.Sprintf("seed %d, snapshot %d", seed, i), x.tree, x.model, random)
		}
		for k := range model {
			s.delete(1000, k)
		}
		if !s.empty() || s.root != nil {
			t.Errorf("seed %d: something is left", seed)
		}
	}
}

func holdAgainst(t *testing.T, what string, s sorted[string, int], model map[string]int, random *rand.Rand) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(model))
	from := fmt.Sprintf("%05d", random.IntN(6000))
	first, _ := slices.BinarySearch(keys, from)
	var got []string
	s.ascend(from, func(k string, v int) bool {
		if model[k] != v {
			t.Errorf("%s: %s is %d, want %d", what, k, v, model[k])
		}
		got = append(got, k)
		return true
	})
	if !slices.Equal(got, keys[first:]) {
		t.Fatalf("%s: from %s %d keys, want %d", what, from, len(got), len(keys)-first)
	}
	for _, k := range keys {
		if v, ok := s.get(k); !ok || v != model[k] {
			t.Fatalf("%s: %s is %d, %v", what, k, v, ok)
		}
	}
	if _, ok := s.get("x"); ok {
		t.Error("x was found")
	}
	shape(t, s.root, true)
}

// shape looks whether nodes are neither too large nor, but for the root and what came in order, too small.
func shape(t *testing.T, n *node[string, int], root bool) {
	if n == nil {
		return
	}
	if len(n.keys) > nodeMost || !root && len(n.keys) == 0 && n.children == nil || n.children != nil && len(n.children) != len(n.keys)+1 {
		t.Fatalf("a node of %d keys, %d children", len(n.keys), len(n.children))
	}
	for _, c := range n.children {
		shape(t, c, false)
	}
}

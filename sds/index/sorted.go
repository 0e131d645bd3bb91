package index

import (
	"cmp"
	"slices"
	"strings"
)

// sorted is an ordered map whose copies are snapshots: copying the struct keeps what was there, because whoever changes
// it names a generation and copies the nodes that are of another. It is a B+ tree whose nodes hold no more than they
// need, since most of an index is in them. The zero sorted is empty.
type sorted[K cmp.Ordered, V any] struct{ root *node[K, V] }

// node is a leaf with keys and values, or has children; keys[i] is then the least key that children[i+1] may hold.
type node[K cmp.Ordered, V any] struct {
	generation uint64
	keys       []K
	values     []V
	children   []*node[K, V]
}

// Sizes of nodes: what is more is split, what is less is united with a neighbour.
const (
	nodeMost  = 64
	nodeLeast = 16
	nodeGrow  = 8
)

// get finds a value.
func (s *sorted[K, V]) get(k K) (v V, ok bool) {
	n := s.root
	if n == nil {
		return v, false
	}
	for n.children != nil {
		n = n.children[n.child(k)]
	}
	i, ok := find(n.keys, k)
	if ok {
		v = n.values[i]
	}
	return v, ok
}

// find is where the key is, or would be.
func find[K cmp.Ordered](keys []K, k K) (int, bool) {
	low, high := 0, len(keys)
	for low < high {
		if mid := int(uint(low+high) / 2); keys[mid] < k {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < len(keys) && keys[low] == k
}

// child is the child that a key belongs to.
func (n *node[K, V]) child(k K) int {
	i, found := find(n.keys, k)
	if found {
		i++
	}
	return i
}

// ascend calls f from a key on until it says false.
func (s *sorted[K, V]) ascend(from K, f func(K, V) bool) bool {
	return s.root == nil || s.root.ascend(from, f)
}

func (n *node[K, V]) ascend(from K, f func(K, V) bool) bool {
	if n.children == nil {
		i, _ := find(n.keys, from)
		for ; i < len(n.keys); i++ {
			if !f(n.keys[i], n.values[i]) {
				return false
			}
		}
		return true
	}
	first := n.child(from)
	for _, c := range n.children[first:] {
		if !c.ascend(from, f) {
			return false
		}
	}
	return true
}

// place is where a key and its value are, to be changed before anything else is. A key that was not there has the zero
// value. What is put in the key's place must be equal to it.
func (s *sorted[K, V]) place(generation uint64, k K) (*K, *V) {
	if s.root == nil {
		s.root = &node[K, V]{generation: generation}
	}
	if len(s.root.keys) >= nodeMost {
		s.root = &node[K, V]{generation: generation, children: []*node[K, V]{s.root}}
		s.root.split(generation, 0, k)
	}
	s.root = s.root.own(generation)
	n := s.root
	for n.children != nil {
		i := n.child(k)
		if len(n.children[i].keys) >= nodeMost {
			n.split(generation, i, k)
			i = n.child(k)
		}
		n.children[i] = n.children[i].own(generation)
		n = n.children[i]
	}
	i, found := find(n.keys, k)
	if !found {
		var none V
		n.keys, n.values = insert(n.keys, i, k), insert(n.values, i, none)
	}
	return &n.keys[i], &n.values[i]
}

// own is the node, or a copy that the generation may change.
func (n *node[K, V]) own(generation uint64) *node[K, V] {
	if n.generation == generation {
		return n
	}
	return &node[K, V]{generation: generation, keys: slices.Clone(n.keys), values: slices.Clone(n.values), children: slices.Clone(n.children)}
}

// insert is slices.Insert without growing to twice the size.
func insert[T any](s []T, i int, v T) []T {
	if len(s) == cap(s) {
		s = append(make([]T, 0, len(s)+nodeGrow), s...)
	}
	return slices.Insert(s, i, v)
}

// split splits the full child i, in the middle or, when the key comes last of all, behind it: what comes in order leaves
// full nodes.
func (n *node[K, V]) split(generation uint64, i int, k K) {
	c := n.children[i]
	mid := len(c.keys) / 2
	if k > c.keys[len(c.keys)-1] && i == len(n.children)-1 {
		mid = len(c.keys) - 1
	}
	left, right := &node[K, V]{generation: generation}, &node[K, V]{generation: generation}
	separator := c.keys[mid]
	if c.children == nil {
		left.keys, right.keys = slices.Clone(c.keys[:mid]), slices.Clone(c.keys[mid:])
		left.values, right.values = slices.Clone(c.values[:mid]), slices.Clone(c.values[mid:])
		separator = apart(separator)
	} else {
		left.keys, right.keys = slices.Clone(c.keys[:mid]), slices.Clone(c.keys[mid+1:])
		left.children, right.children = slices.Clone(c.children[:mid+1]), slices.Clone(c.children[mid+1:])
	}
	n.children[i] = left
	n.keys, n.children = insert(n.keys, i, separator), insert(n.children, i+1, right)
}

// apart is a key that keeps nothing else alive: what it was part of may go while it stays.
func apart[K cmp.Ordered](k K) K {
	if s, ok := any(k).(string); ok {
		return any(strings.Clone(s)).(K)
	}
	return k
}

// delete takes a key out.
func (s *sorted[K, V]) delete(generation uint64, k K) {
	if _, ok := s.get(k); !ok {
		return
	}
	s.root = s.root.own(generation)
	s.root.delete(generation, k)
	for s.root != nil && len(s.root.keys) == 0 {
		if s.root.children == nil {
			s.root = nil
			return
		}
		s.root = s.root.children[0]
	}
}

func (n *node[K, V]) delete(generation uint64, k K) {
	if n.children == nil {
		i, _ := find(n.keys, k)
		n.keys, n.values = slices.Delete(n.keys, i, i+1), slices.Delete(n.values, i, i+1)
		return
	}
	i := n.child(k)
	c := n.children[i].own(generation)
	n.children[i] = c
	c.delete(generation, k)
	if len(c.keys) >= nodeLeast || len(n.children) == 1 {
		return
	}
	n.unite(generation, min(i, len(n.children)-2))
}

// unite makes one of children i and i+1, or two of equal size when they are too large for one.
func (n *node[K, V]) unite(generation uint64, i int) {
	a, b := n.children[i], n.children[i+1]
	all := &node[K, V]{generation: generation, keys: slices.Clone(a.keys)}
	if a.children != nil {
		all.keys = append(all.keys, n.keys[i])
		all.children = slices.Concat(a.children, b.children)
	} else {
		all.values = slices.Concat(a.values, b.values)
	}
	all.keys = append(all.keys, b.keys...)
	n.keys, n.children = slices.Delete(n.keys, i, i+1), slices.Delete(n.children, i+1, i+2)
	n.children[i] = all
	if len(all.keys) >= nodeMost {
		n.split(generation, i, all.keys[0])
	}
}

// empty reports whether nothing is in it.
func (s *sorted[K, V]) empty() bool {
	return s.root == nil || s.root.children == nil && len(s.root.keys) == 0
}

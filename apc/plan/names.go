package plan

import "maps"

// names is a map from names to positions that is never changed: with makes another one, which shares most of it.
type names[K comparable] struct {
	base, over map[K]int
}

func newNames[K comparable](size int) names[K] { return names[K]{base: make(map[K]int, size)} }

func (n *names[K]) get(key K) (int, bool) {
	if i, ok := n.over[key]; ok {
		return i, true
	}
	i, ok := n.base[key]
	return i, ok
}

// at is the position of a name that is there.
func (n *names[K]) at(key K) int {
	i, _ := n.get(key)
	return i
}

// maxOver is how many names stand apart before all are put together again.
const maxOver = 256

func (n *names[K]) with(put map[K]int) names[K] {
	if len(put) == 0 {
		return *n
	}
	if len(n.over)+len(put) > maxOver {
		all := maps.Clone(n.base)
		maps.Copy(all, n.over)
		maps.Copy(all, put)
		return names[K]{base: all}
	}
	over := make(map[K]int, len(n.over)+len(put))
	maps.Copy(over, n.over)
	maps.Copy(over, put)
	return names[K]{base: n.base, over: over}
}

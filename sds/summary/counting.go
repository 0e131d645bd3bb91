package summary

import (
	"maps"
	"slices"
)

// Counting is the union of what many have told: documents, or children with their sets. A term stays while one of them
// has it. It keeps what has changed since it was last asked. The zero Counting is empty.
type Counting struct {
	count   map[Term]uint32
	changed map[Term]bool // whether it was there when Delta was last called
	sum     Check
}

// Check is a checksum of a set, whatever the order of its terms.
type Check uint64

func (c *Check) toggle(t Term) { *c ^= Check(mix(uint64(t) + 0x9e3779b97f4a7c15)) }

// CheckOf is the checksum of a set of distinct terms.
func CheckOf(terms []Term) (c Check) {
	for _, t := range terms {
		c.toggle(t)
	}
	return c
}

// Add counts a term once more.
func (c *Counting) Add(t Term) {
	if c.count == nil {
		c.count, c.changed = make(map[Term]uint32), make(map[Term]bool)
	}
	n := c.count[t]
	c.count[t] = n + 1
	if n == 0 {
		c.note(t, false)
	}
}

// Remove counts it once less. It must have been added.
func (c *Counting) Remove(t Term) {
	switch n := c.count[t]; n {
	case 0:
	case 1:
		delete(c.count, t)
		c.note(t, true)
	default:
		c.count[t] = n - 1
	}
}

func (c *Counting) note(t Term, was bool) {
	c.sum.toggle(t)
	if before, ok := c.changed[t]; ok && before != was {
		delete(c.changed, t) // back to what it was
		return
	}
	c.changed[t] = was
}

// Len is the number of distinct terms, Changed that of those which changed since Delta was last called.
func (c *Counting) Len() int     { return len(c.count) }
func (c *Counting) Changed() int { return len(c.changed) }

// Check is the checksum of the set as it is.
func (c *Counting) Check() Check { return c.sum }

// Set is the set in order. What has changed counts as told.
func (c *Counting) Set() []Term {
	c.told()
	return slices.Sorted(maps.Keys(c.count))
}

// Delta is what has come and gone since it, or Set, was last called, in order.
func (c *Counting) Delta() (added, removed []Term) {
	for t, was := range c.changed {
		if was {
			removed = append(removed, t)
		} else {
			added = append(added, t)
		}
	}
	c.told()
	slices.Sort(added)
	slices.Sort(removed)
	return added, removed
}

// told forgets what has changed. The map is made anew: one that once held a million terms would be gone through whole in
// every period, however few have changed.
func (c *Counting) told() { c.changed = make(map[Term]bool) }

package sds

import (
	"slices"

	"ninja/capability"
	"ninja/sds/index"
)

// class is a visibility class: the services that exactly the same principals may find.
type class struct {
	key string // who, joined
	who []capability.Who
}

// visible reports whether one of the grants opens the class.
func (c *class) visible(grants []capability.Who) bool {
	return c != nil && slices.ContainsFunc(c.who, func(w capability.Who) bool { return slices.Contains(grants, w) })
}

// stamps tell snapshots of classes apart, also where nobody may keep them: a class that has a stamp never changes, and no
// other class of the server ever has it.
type stamps struct{ last uint64 }

func (s *stamps) on(c *index.Class) *index.Class {
	s.last++
	c.Stamp = s.last
	return c
}

// snapshot is everything that queries read. It is immutable.
type snapshot struct {
	doors doors
	views map[string]*view
}

func emptySnapshot() *snapshot { return &snapshot{doors: newDoors()} }

// find is the class of this key, with its documents.
func (s *snapshot) find(c *class) (d door, ok bool) {
	if all := s.doors.of(c.who[0]); all != nil {
		return all.Get(door{key: c.key})
	}
	return door{}, false
}

// class is the documents of a class.
func (s *snapshot) class(c *class) *index.Class {
	if d, ok := s.find(c); ok {
		return d.index
	}
	return &index.Class{}
}

// with is the snapshot after a batch.
func (s *snapshot) with(editors map[string]*editing, stamp *stamps) *snapshot {
	next := s.doors.edit()
	for key, e := range editors {
		d := door{key, e.class, stamp.on(e.Done())}
		for _, w := range e.who {
			next.set(w, d)
		}
	}
	return &snapshot{next.next, s.views}
}

// open calls f with every class that one of the grants opens, once each, until f says false.
func (s *snapshot) open(grants []capability.Who, f func(*index.Class) bool) {
	for i, g := range grants {
		all, more := s.doors.of(g), true
		if all == nil {
			continue
		}
		all.Scan(func(d door) bool {
			if !slices.ContainsFunc(grants[:i], func(w capability.Who) bool { return slices.Contains(d.class.who, w) }) {
				more = f(d.index)
			}
			return more
		})
		if !more {
			return
		}
	}
}

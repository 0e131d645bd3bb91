package sds

import (
	"slices"
	"strings"

	"github.com/tidwall/btree"

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
	classes *btree.BTreeG[door]
	views   map[string]*view
}

// door lists a class under one of those who may see it.
type door struct {
	who   capability.Who
	key   string
	class *class
	index *index.Class
}

func doorLess(a, b door) bool {
	if c := strings.Compare(string(a.who), string(b.who)); c != 0 {
		return c < 0
	}
	return a.key < b.key
}

func emptySnapshot() *snapshot {
	return &snapshot{classes: btree.NewBTreeGOptions(doorLess, btree.Options{NoLocks: true})}
}

// class is the documents of a class.
func (s *snapshot) class(c *class) *index.Class {
	if d, ok := s.classes.Get(door{who: c.who[0], key: c.key}); ok {
		return d.index
	}
	return &index.Class{}
}

// with is the snapshot after a batch.
func (s *snapshot) with(editors map[string]*editing, stamp *stamps) *snapshot {
	next := &snapshot{s.classes.Copy(), s.views}
	for key, e := range editors {
		done := stamp.on(e.Done())
		for _, w := range e.who {
			if done.Len() == 0 {
				next.classes.Delete(door{who: w, key: key})
				continue
			}
			next.classes.Set(door{w, key, e.class, done})
		}
	}
	return next
}

// open calls f with every class that one of the grants opens, once each, until f says false.
func (s *snapshot) open(grants []capability.Who, f func(*index.Class) bool) {
	for i, g := range grants {
		more := true
		s.classes.Ascend(door{who: g}, func(d door) bool {
			if d.who != g {
				return false
			}
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

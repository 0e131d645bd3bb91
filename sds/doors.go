package sds

import (
	"hash/maphash"
	"strings"

	"github.com/tidwall/btree"

	"ninja/capability"
	"ninja/sds/index"
)

// doors are the classes under each of those who may see them. To find somebody's takes the same steps whoever else is
// there: in a search tree the way would grow with the hidden, by some 75 ns for the first of them, which is time enough to
// be told (see TestHiddenTakesNoTime). So the way is three turns by hash, and behind each door stands only what it opens.
// It is immutable; a copy is made by edit.
type doors struct {
	seed maphash.Seed
	top  *crossing[crossing[crossing[[]doorway]]]
}

// fan is how many ways part at a crossing: 64^3 in all, more than there are principals.
const fan = 64

type crossing[T any] [fan]*T

// doorway is what one principal or group may see, in the order of class keys.
type doorway struct {
	who     capability.Who
	classes *btree.BTreeG[door]
}

// door is one class.
type door struct {
	key   string
	class *class
	index *index.Class
}

func doorLess(a, b door) bool { return strings.Compare(a.key, b.key) < 0 }

func newDoors() doors { return doors{seed: maphash.MakeSeed()} }

// turns are the three ways to somebody's door.
func (d *doors) turns(who capability.Who) (a, b, c uint64) {
	h := maphash.String(d.seed, string(who))
	return h % fan, h / fan % fan, h / fan / fan % fan
}

// of are the classes that somebody may see, or nil.
func (d *doors) of(who capability.Who) *btree.BTreeG[door] {
	a, b, c := d.turns(who)
	if d.top == nil || d.top[a] == nil || d.top[a][b] == nil || d.top[a][b][c] == nil {
		return nil
	}
	for _, w := range *d.top[a][b][c] {
		if w.who == who {
			return w.classes
		}
	}
	return nil
}

// each calls f with everybody's classes, in no order.
func (d *doors) each(f func(doorway)) {
	if d.top == nil {
		return
	}
	for _, a := range d.top {
		if a == nil {
			continue
		}
		for _, b := range a {
			if b == nil {
				continue
			}
			for _, c := range b {
				if c == nil {
					continue
				}
				for _, w := range *c {
					f(w)
				}
			}
		}
	}
}

// edit begins a copy.
func (d *doors) edit() *doorsEditor {
	return &doorsEditor{next: *d, own: make(map[any]bool)}
}

// doorsEditor makes the next doors; it copies what it touches.
type doorsEditor struct {
	next doors
	own  map[any]bool // crossings, ends and trees that are its own
}

// set puts a class behind somebody's door, or takes it away when nothing is in it.
func (e *doorsEditor) set(who capability.Who, d door) {
	a, b, c := e.next.turns(who)
	end := owned(e, at3(e, a, b), c)
	i := 0
	for ; i < len(*end); i++ {
		if (*end)[i].who == who {
			break
		}
	}
	if i == len(*end) {
		*end = append((*end)[:i:i], doorway{who, btree.NewBTreeGOptions(doorLess, btree.Options{NoLocks: true})})
		e.own[(*end)[i].classes] = true
	} else if !e.own[(*end)[i].classes] {
		*end = append([]doorway(nil), *end...)
		(*end)[i].classes = (*end)[i].classes.Copy()
		e.own[(*end)[i].classes] = true
	}
	tree := (*end)[i].classes
	if d.index.Len() > 0 {
		tree.Set(d)
		return
	}
	if tree.Delete(door{key: d.key}); tree.Len() == 0 {
		*end = append(append([]doorway(nil), (*end)[:i]...), (*end)[i+1:]...)
	}
}

// at3 is the editor's own third crossing.
func at3(e *doorsEditor, a, b uint64) *crossing[[]doorway] {
	if e.next.top == nil {
		e.next.top = new(crossing[crossing[crossing[[]doorway]]])
		e.own[e.next.top] = true
	} else if !e.own[e.next.top] {
		top := *e.next.top
		e.next.top = &top
		e.own[e.next.top] = true
	}
	return owned(e, owned(e, e.next.top, a), b)
}

// owned is what a way leads to, the editor's own copy of it.
func owned[T any](e *doorsEditor, at *crossing[T], way uint64) *T {
	switch to := at[way]; {
	case to == nil:
		at[way] = new(T)
	case !e.own[to]:
		next := *to
		at[way] = &next
	}
	e.own[at[way]] = true
	return at[way]
}

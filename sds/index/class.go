// Package index answers queries about XML documents from postings: which documents have a value at a path, an
// attribute, a number in a range (ninja-architecture 6.1 and 6.3: "an internal XML database", whose cost "is shown to
// scale logarithmically with the size of the data set").
//
// A Class is an immutable snapshot of the documents that exactly the same principals may find. Dictionary, postings,
// sizes and documents belong to one class, so that a search which opens only the classes its asker may see cannot
// depend on what is hidden. An Editor makes the next snapshot of a batch of changes; it copies what it touches.
package index

import (
	"cmp"
	"strings"

	"github.com/tidwall/btree"

	"ninja/sds/check"
)

// Doc is one document of a class.
type Doc struct {
	// ID is its name, unique in the class, by which Ordered orders.
	ID string
	// Owner is its publisher, by which a search can be narrowed.
	Owner string
	Tree  *check.Document
	// Item is the caller's.
	Item any
}

// Class is an immutable snapshot. The zero Class is empty. It may be read by many goroutines.
type Class struct {
	// Stamp is the caller's: set before the class is shared, it tells this snapshot from others.
	Stamp      uint64
	generation uint64
	terms      *btree.BTreeG[term]
	names      *btree.BTreeG[name]
	ids        *btree.BTreeG[placed]
	docs       [][]*Doc // by slot: chunk, then place in it
	free       []uint32 // slots below size that hold nothing
	size       uint32   // slots ever used
}

// chunk is how many slots are copied together.
const chunk = 256

// kind is what a term says of its path.
type kind byte

const (
	present kind = iota // there is such an element or attribute
	branch              // there is such an element and it holds elements
	text                // its normalised value, cut to maxIndexed bytes
	numeric             // its value as a number
	owner               // the document's publisher (path "")
)

// term is an entry of the dictionary with its posting.
type term struct {
	path   string
	kind   kind
	number float64
	text   string
	*posting
}

func termLess(a, b term) bool {
	if c := strings.Compare(a.path, b.path); c != 0 {
		return c < 0
	}
	if a.kind != b.kind {
		return a.kind < b.kind
	}
	if c := cmp.Compare(a.number, b.number); c != 0 {
		return c < 0
	}
	return a.text < b.text
}

// name lists a path under its last component.
type name struct{ last, path string }

func nameLess(a, b name) bool {
	if c := strings.Compare(a.last, b.last); c != 0 {
		return c < 0
	}
	return a.path < b.path
}

// placed says where a document is.
type placed struct {
	id   string
	slot uint32
}

func placedLess(a, b placed) bool { return a.id < b.id || a.id == b.id && a.slot < b.slot }

// Len is the number of documents.
func (c *Class) Len() int { return int(c.size) - len(c.free) }

func (c *Class) doc(slot uint32) *Doc { return c.docs[slot/chunk][slot%chunk] }

// Each calls f with every document.
func (c *Class) Each(f func(*Doc)) {
	c.everything(func(slot uint32) bool {
		if d := c.doc(slot); d != nil {
			f(d)
		}
		return true
	})
}

// Editor makes the next snapshot. It belongs to one goroutine, and a class may have one editor at a time.
type Editor struct {
	next  Class
	fresh map[int]bool // chunks that are the editor's own
}

// Edit begins a batch of changes; the class itself stays as it is.
func (c *Class) Edit() *Editor {
	e := &Editor{next: *c, fresh: make(map[int]bool)}
	e.next.generation++
	if c.terms == nil {
		e.next.terms = btree.NewBTreeGOptions(termLess, btree.Options{NoLocks: true})
		e.next.names = btree.NewBTreeGOptions(nameLess, btree.Options{NoLocks: true})
		e.next.ids = btree.NewBTreeGOptions(placedLess, btree.Options{NoLocks: true})
	} else {
		e.next.terms, e.next.names, e.next.ids = c.terms.Copy(), c.names.Copy(), c.ids.Copy()
	}
	e.next.docs = append([][]*Doc(nil), c.docs...)
	e.next.free = append([]uint32(nil), c.free...)
	return e
}

// Done publishes the batch. The editor must not be used again.
func (e *Editor) Done() *Class { return &e.next }

// Len is the number of documents so far.
func (e *Editor) Len() int { return e.next.Len() }

// Add puts a document in and returns its slot, which Remove wants.
func (e *Editor) Add(d *Doc) uint32 {
	var slot uint32
	if n := len(e.next.free); n > 0 {
		slot, e.next.free = e.next.free[n-1], e.next.free[:n-1]
	} else {
		slot = e.next.size
		e.next.size++
	}
	e.put(slot, d)
	e.next.ids.Set(placed{d.ID, slot})
	facts(d, func(t term) { e.add(t, slot) })
	return slot
}

// Remove takes the document in the slot out.
func (e *Editor) Remove(slot uint32) {
	d := e.next.doc(slot)
	facts(d, func(t term) { e.remove(t, slot) })
	e.next.ids.Delete(placed{d.ID, slot})
	e.put(slot, nil)
	e.next.free = append(e.next.free, slot)
}

// RemoveID takes the document of this ID out, if there is one.
func (e *Editor) RemoveID(id string) {
	var slot uint32
	found := false
	e.next.ids.Ascend(placed{id: id}, func(p placed) bool {
		slot, found = p.slot, p.id == id
		return false
	})
	if found {
		e.Remove(slot)
	}
}

func (e *Editor) put(slot uint32, d *Doc) {
	n := int(slot / chunk)
	if n == len(e.next.docs) {
		e.next.docs = append(e.next.docs, make([]*Doc, chunk))
		e.fresh[n] = true
	}
	if !e.fresh[n] {
		e.next.docs[n] = append([]*Doc(nil), e.next.docs[n]...)
		e.fresh[n] = true
	}
	e.next.docs[n][slot%chunk] = d
}

func (e *Editor) add(t term, slot uint32) {
	old, ok := e.next.terms.Get(t)
	if !ok {
		t.posting = &posting{generation: e.next.generation}
		t.posting.add(slot)
		// Keys are kept: they must not keep the document that they were first seen in.
		t.path, t.text = e.interned(t), strings.Clone(t.text)
		e.next.terms.Set(t)
		return
	}
	p := old.own(e.next.generation)
	p.add(slot)
	if p != old.posting {
		old.posting = p
		e.next.terms.Set(old)
	}
}

// interned is the one copy of the term's path, listed under its last component.
func (e *Editor) interned(t term) string {
	if t.path == "" {
		return ""
	}
	n := name{last: t.path[strings.LastIndexByte(t.path, '/')+1:], path: t.path}
	if have, ok := e.next.names.Get(n); ok {
		return have.path
	}
	e.next.names.Set(n)
	return n.path
}

func (e *Editor) remove(t term, slot uint32) {
	old, ok := e.next.terms.Get(t)
	if !ok {
		return
	}
	p := old.own(e.next.generation)
	p.remove(slot)
	switch {
	case p.len() == 0:
		e.next.terms.Delete(old)
		if t.kind == present {
			e.next.names.Delete(name{last: t.path[strings.LastIndexByte(t.path, '/')+1:], path: t.path})
		}
	case p != old.posting:
		old.posting = p
		e.next.terms.Set(old)
	}
}

// facts calls f with every term of the document; some more than once.
func facts(d *Doc, f func(term)) {
	f(term{kind: owner, text: d.Owner})
	var paths []string
	for i := range d.Tree.Nodes {
		n := &d.Tree.Nodes[i]
		path := "/" + n.Local
		if n.Parent >= 0 {
			path = paths[n.Parent] + path
		}
		paths = append(paths, path)
		f(term{path: path, kind: present})
		if d.Tree.Leaf(i) {
			values(path, d.Tree.Value(i), f)
		} else {
			f(term{path: path, kind: branch})
		}
		for _, a := range d.Tree.Attributes(i) {
			at := path + "/@" + a.Local
			f(term{path: at, kind: present})
			values(at, a.Value, f)
		}
	}
}

func values(path, value string, f func(term)) {
	f(term{path: path, kind: text, text: indexed(value)})
	if n, ok := number(value); ok {
		f(term{path: path, kind: numeric, number: n})
	}
}

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
	"slices"
	"strings"
)

// Doc is one document of a class.
type Doc struct {
	// ID is its name, unique in the class, by which Ordered orders.
	ID string
	// Owner is its publisher, by which a search can be narrowed.
	Owner string
	Tree  *Tree
	// Item is the caller's.
	Item any
}

// Class is an immutable snapshot. The zero Class is empty. It may be read by many goroutines.
type Class struct {
	// Stamp is the caller's: set before the class is shared, it tells this snapshot from others.
	Stamp      uint64
	generation uint64
	places     sorted[string, *spot]    // by path
	names      sorted[string, []string] // paths by their last component
	owners     sorted[string, set]
	ids        sorted[string, uint32]
	docs       []*[chunk]*Doc // by slot: chunk, then place in it
	free       []uint32       // slots below size that hold nothing
	size       uint32         // slots ever used
}

// spot is what documents have at one path.
type spot struct {
	generation      uint64
	present, branch set
	texts           sorted[string, set]
	numbers         sorted[float64, set]
}

// at is the spot of a path, or nil.
func (c *Class) at(path string) *spot {
	s, _ := c.places.get(path)
	return s
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

// term is something that holds of a document.
type term struct {
	path   string
	kind   kind
	number float64
	text   string
}

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
	next   Class
	fresh  map[int]bool // chunks that are the editor's own
	drafts drafts
}

// Edit begins a batch of changes; the class itself stays as it is.
func (c *Class) Edit() *Editor {
	e := &Editor{next: *c, fresh: make(map[int]bool)}
	e.next.generation++
	e.drafts.generation = e.next.generation
	e.next.docs = slices.Clone(c.docs)
	e.next.free = slices.Clone(c.free)
	return e
}

// Done publishes the batch. The editor must not be used again.
func (e *Editor) Done() *Class {
	e.drafts.finish()
	return &e.next
}

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
	_, at := e.next.ids.place(e.next.generation, d.ID)
	*at = slot
	facts(d, func(t term) { e.add(t, slot) })
	return slot
}

// Remove takes the document in the slot out.
func (e *Editor) Remove(slot uint32) {
	d := e.next.doc(slot)
	facts(d, func(t term) { e.remove(t, slot) })
	if at, _ := e.next.ids.get(d.ID); at == slot {
		e.next.ids.delete(e.next.generation, d.ID)
	}
	e.put(slot, nil)
	e.next.free = append(e.next.free, slot)
}

// RemoveID takes the document of this ID out, if there is one.
func (e *Editor) RemoveID(id string) {
	if slot, ok := e.next.ids.get(id); ok {
		e.Remove(slot)
	}
}

func (e *Editor) put(slot uint32, d *Doc) {
	n := int(slot / chunk)
	if n == len(e.next.docs) {
		e.next.docs = append(e.next.docs, new([chunk]*Doc))
		e.fresh[n] = true
	}
	if !e.fresh[n] {
		own := *e.next.docs[n]
		e.next.docs[n] = &own
		e.fresh[n] = true
	}
	e.next.docs[n][slot%chunk] = d
}

// spot is the editor's own spot of a path.
func (e *Editor) spot(path string) *spot {
	g := e.next.generation
	_, at := e.next.places.place(g, path)
	switch s := *at; {
	case s == nil:
		*at = &spot{generation: g}
		last := tagOf(path)
		_, paths := e.next.names.place(g, last)
		*paths = append(slices.Clip(*paths), path)
	case s.generation != g:
		own := *s
		own.generation = g
		*at = &own
	}
	return *at
}

func (e *Editor) add(t term, slot uint32) {
	g := &e.drafts
	switch t.kind {
	case owner:
		addTo(&e.next.owners, g, t.text, slot)
	case present:
		e.spot(t.path).present.add(g, slot)
	case branch:
		e.spot(t.path).branch.add(g, slot)
	case text:
		addTo(&e.spot(t.path).texts, g, t.text, slot)
	case numeric:
		addTo(&e.spot(t.path).numbers, g, t.number, slot)
	}
}

// addTo adds a slot to a key's set. A key that only one document has may be part of it; what stays longer than that
// document must not.
func addTo[K cmp.Ordered](in *sorted[K, set], d *drafts, key K, slot uint32) {
	k, v := in.place(d.generation, key)
	if v.only() && !v.contains(slot) {
		*k = apart(*k)
	}
	v.add(d, slot)
}

func removeFrom[K cmp.Ordered](in *sorted[K, set], d *drafts, key K, slot uint32) {
	if v, ok := in.get(key); !ok || !v.contains(slot) {
		return // told before: a document may have a term several times
	}
	_, v := in.place(d.generation, key)
	if v.remove(d, slot); v.len() == 0 {
		in.delete(d.generation, key)
	}
}

func (e *Editor) remove(t term, slot uint32) {
	g := &e.drafts
	if t.kind == owner {
		removeFrom(&e.next.owners, g, t.text, slot)
		return
	}
	if e.next.at(t.path) == nil {
		return // all of it is gone
	}
	s := e.spot(t.path)
	switch t.kind {
	case present:
		s.present.remove(g, slot)
	case branch:
		s.branch.remove(g, slot)
	case text:
		removeFrom(&s.texts, g, t.text, slot)
	case numeric:
		removeFrom(&s.numbers, g, t.number, slot)
	}
	if s.present.len()+s.branch.len() == 0 && s.texts.empty() && s.numbers.empty() {
		e.forget(t.path)
	}
}

// forget takes a path out at which nothing is left.
func (e *Editor) forget(path string) {
	g, last := e.next.generation, tagOf(path)
	e.next.places.delete(g, path)
	_, paths := e.next.names.place(g, last)
	if *paths = slices.DeleteFunc(slices.Clone(*paths), func(p string) bool { return p == path }); len(*paths) == 0 {
		e.next.names.delete(g, last)
	}
}

// tagOf is the last component of a path.
func tagOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// facts calls f with every term of the document; some more than once.
func facts(d *Doc, f func(term)) {
	f(term{kind: owner, text: d.Owner})
	t := d.Tree
	var paths []string // of the elements that are open
	var ends []int
	for i := range t.nodes {
		for len(ends) > 0 && ends[len(ends)-1] == i {
			paths, ends = paths[:len(paths)-1], ends[:len(ends)-1]
		}
		path := "/" + t.local(i)
		if len(paths) > 0 {
			path = paths[len(paths)-1] + path
		}
		f(term{path: path, kind: present})
		if t.leaf(i) {
			values(path, t.value(i), f)
		} else {
			paths, ends = append(paths, path), append(ends, t.end(i))
			f(term{path: path, kind: branch})
		}
		from, to := t.attributes(i)
		for j := from; j < to; j++ {
			at := path + "/@" + t.attrLocal(j)
			f(term{path: at, kind: present})
			values(at, t.attrText(j), f)
		}
	}
}

func values(path, value string, f func(term)) {
	f(term{path: path, kind: text, text: indexed(value)})
	if n, ok := number(value); ok {
		f(term{path: path, kind: numeric, number: n})
	}
}

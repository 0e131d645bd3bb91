package index

import (
	"strings"

	"ninja/sds/check"
)

// Tree is a checked document in a form that is kept by the million: the source and, for every element and attribute,
// where in it names and values stand. It is immutable and may be read by many goroutines.
type Tree struct {
	source string
	// Elements in document order, nodeWords each, then attributes, attrWords each; all numbers are below 2^16 because a
	// document has at most check.MaxBytes.
	words []uint16
	nodes int
	// Namespaces, and values that do not stand in the source as they are, because of references in them.
	extra []string
}

// The words of an element. A name or value is an offset and a length; its attributes go to the next element's first.
const (
	nodeName = iota
	nodeNameLen
	nodeSpace // of extra, from 1; 0 is none
	nodeEnd   // the element behind its subtree
	nodeAttr  // its first attribute
	nodeText  // its content
	nodeTextLen
	nodeWords
)

// The words of an attribute.
const (
	attrName = iota
	attrNameLen
	attrSpace
	attrValue
	attrValueLen // inExtra: the value is extra[attrValue]
	attrWords
)

const inExtra = 1<<16 - 1

// Pack makes a tree of a document, of which it keeps nothing but the source.
func Pack(d *check.Document) *Tree {
	p := packer{t: &Tree{source: d.Source(), nodes: len(d.Nodes), words: make([]uint16, 0, nodeWords*len(d.Nodes)+attrWords*len(d.Attrs))}}
	from, attrs := 0, 0
	for i := range d.Nodes {
		n := &d.Nodes[i]
		at := p.find(n.Local, from, len(p.t.source))
		open, end := d.Content(i)
		if open == end { // also where the source ends, which is beyond what a word holds
			open, end = 0, 0
		}
		p.t.words = append(p.t.words, uint16(at), uint16(len(n.Local)), p.space(n.Space), uint16(n.End), uint16(attrs), uint16(open), uint16(end-open))
		attrs += len(d.Attributes(i))
		from, _ = d.Content(i)
	}
	from = 0
	for i := range d.Nodes {
		to, _ := d.Content(i)
		for _, a := range d.Attributes(i) {
			at, value, size := p.find(a.Local, from, to), p.find(a.Value, from, to), len(a.Value)
			if value < 0 {
				value, size = p.add(a.Value), inExtra
			}
			p.t.words = append(p.t.words, uint16(at), uint16(len(a.Local)), p.space(a.Space), uint16(value), uint16(size))
		}
		from = to
	}
	return p.t
}

type packer struct {
	t      *Tree
	spaces map[string]uint16
}

// find is where s stands in the source between two places: where it was written or, which is as good, before that.
func (p *packer) find(s string, from, to int) int {
	if s == "" {
		return 0
	}
	at := strings.Index(p.t.source[from:to], s)
	if at < 0 {
		return -1
	}
	return from + at
}

// space is the number of a namespace.
func (p *packer) space(s string) uint16 {
	if s == "" {
		return 0
	}
	if n, ok := p.spaces[s]; ok {
		return n
	}
	if p.spaces == nil {
		p.spaces = make(map[string]uint16)
	}
	n := uint16(p.add(s) + 1)
	p.spaces[s] = n
	return n
}

func (p *packer) add(s string) int {
	if len(p.t.extra) == cap(p.t.extra) {
		p.t.extra = append(make([]string, 0, 1+2*len(p.t.extra)), p.t.extra...)
	}
	p.t.extra = append(p.t.extra, s)
	return len(p.t.extra) - 1
}

// Source is the document as it was written.
func (t *Tree) Source() string { return t.source }

// Len is the number of elements.
func (t *Tree) Len() int { return t.nodes }

func (t *Tree) node(i int) []uint16 { return t.words[i*nodeWords : (i+1)*nodeWords] }

func (t *Tree) attr(j int) []uint16 {
	at := t.nodes*nodeWords + j*attrWords
	return t.words[at : at+attrWords]
}

func (t *Tree) at(offset, size uint16) string { return t.source[offset : int(offset)+int(size)] }

func (t *Tree) space(n uint16) string {
	if n == 0 {
		return ""
	}
	return t.extra[n-1]
}

// local is the name of element i.
func (t *Tree) local(i int) string {
	n := t.node(i)
	return t.at(n[nodeName], n[nodeNameLen])
}

// end is the element behind the subtree of element i.
func (t *Tree) end(i int) int { return int(t.words[i*nodeWords+nodeEnd]) }

func (t *Tree) leaf(i int) bool { return t.end(i) == i+1 }

// value is the string-value of element i.
func (t *Tree) value(i int) string {
	n := t.node(i)
	return check.Text(t.at(n[nodeText], n[nodeTextLen]))
}

// attributes are the numbers of element i's, from one to before another.
func (t *Tree) attributes(i int) (from, to int) {
	from, to = int(t.words[i*nodeWords+nodeAttr]), (len(t.words)-t.nodes*nodeWords)/attrWords
	if i+1 < t.nodes {
		to = int(t.words[(i+1)*nodeWords+nodeAttr])
	}
	return from, to
}

func (t *Tree) attrLocal(j int) string {
	a := t.attr(j)
	return t.at(a[attrName], a[attrNameLen])
}

func (t *Tree) attrText(j int) string {
	a := t.attr(j)
	if a[attrValueLen] == inExtra {
		return t.extra[a[attrValue]]
	}
	return t.at(a[attrValue], a[attrValueLen])
}

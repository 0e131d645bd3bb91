package index

import (
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// set is the set of slots of the documents that have a term. Most terms of a large catalogue are in one document, which
// needs no posting. The zero set is empty.
type set struct {
	*posting        // nil while there is at most one
	one      uint32 // without posting: the slot and 1, or 0
}

// posting holds several slots. Published ones are never changed: an editor changes those that it made itself, which it
// knows by its generation.
type posting struct {
	generation uint64
	few        []uint32        // sorted; used while many is nil
	many       *roaring.Bitmap // nil while there are few
	// twin shares its containers with many, and is what the next generation copies from, container by container as it
	// changes them. Copying from many itself would write marks into what readers read. Editors' alone.
	twin *roaring.Bitmap
}

// Sizes between which a posting changes its form, apart so that it does not do so all the time.
const (
	fewMost   = 32
	manyLeast = 16
)

// drafts are the postings with many slots that one editor has made.
type drafts struct {
	generation uint64
	made       []*posting
}

// finish prepares them to be published.
func (d *drafts) finish() {
	for _, p := range d.made {
		if p.many != nil {
			p.twin = p.many.Clone()
		}
	}
	d.made = nil
}

// own makes the posting one that may be changed.
func (s *set) own(d *drafts) *posting {
	if p := s.posting; p.generation != d.generation {
		s.posting = &posting{generation: d.generation, few: slices.Clone(p.few)}
		if p.many != nil {
			s.posting.many = p.twin.Clone()
			d.made = append(d.made, s.posting)
		}
	}
	return s.posting
}

func (s *set) add(d *drafts, slot uint32) {
	if s.posting == nil {
		if s.one == 0 || s.one == slot+1 {
			s.one = slot + 1
			return
		}
		few := []uint32{min(s.one-1, slot), max(s.one-1, slot)}
		*s = set{posting: &posting{generation: d.generation, few: few}}
		return
	}
	p := s.own(d)
	if p.many != nil {
		p.many.Add(slot)
		return
	}
	i, found := slices.BinarySearch(p.few, slot)
	if found {
		return
	}
	if p.few = insert(p.few, i, slot); len(p.few) > fewMost {
		few := p.few
		p.many, p.few = roaring.New(), nil
		p.many.SetCopyOnWrite(true)
		p.many.AddMany(few)
		d.made = append(d.made, p)
	}
}

func (s *set) remove(d *drafts, slot uint32) {
	switch {
	case !s.contains(slot):
		return
	case s.posting == nil:
		s.one = 0
		return
	}
	p := s.own(d)
	if p.many != nil {
		if p.many.Remove(slot); p.many.GetCardinality() < manyLeast {
			p.few, p.many, p.twin = p.many.ToArray(), nil, nil
		}
		return
	}
	i, _ := slices.BinarySearch(p.few, slot)
	if p.few = slices.Delete(p.few, i, i+1); len(p.few) == 0 {
		*s = set{}
	}
}

// only reports whether there is one slot and no posting.
func (s *set) only() bool { return s.posting == nil && s.one != 0 }

func (s set) len() int {
	switch {
	case s.posting == nil:
		return int(min(s.one, 1))
	case s.many != nil:
		return int(s.many.GetCardinality())
	}
	return len(s.few)
}

func (s set) contains(slot uint32) bool {
	switch {
	case s.posting == nil:
		return s.one == slot+1
	case s.many != nil:
		return s.many.Contains(slot)
	}
	_, found := slices.BinarySearch(s.few, slot)
	return found
}

// addTo adds the slots to a set under construction.
func (s set) addTo(b *roaring.Bitmap) {
	switch {
	case s.posting == nil && s.one != 0:
		b.Add(s.one - 1)
	case s.posting == nil:
	case s.many != nil:
		b.Or(s.many)
	default:
		b.AddMany(s.few)
	}
}

// each calls f with the slots in rising order until it says false.
func (s set) each(f func(uint32) bool) bool {
	switch {
	case s.posting == nil:
		return s.one == 0 || f(s.one-1)
	case s.many != nil:
		more := true
		s.many.Iterate(func(slot uint32) bool { more = f(slot); return more })
		return more
	}
	for _, slot := range s.few {
		if !f(slot) {
			return false
		}
	}
	return true
}

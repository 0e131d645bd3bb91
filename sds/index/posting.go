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
}

// Sizes between which a posting changes its form, apart so that it does not do so all the time.
const (
	fewMost   = 32
	manyLeast = 16
)

// own makes the posting one that the generation may change.
func (s *set) own(generation uint64) *posting {
	if p := s.posting; p.generation != generation {
		s.posting = &posting{generation: generation, few: slices.Clone(p.few)}
		if p.many != nil {
			s.posting.many = p.many.Clone()
		}
	}
	return s.posting
}

func (s *set) add(generation uint64, slot uint32) {
	if s.posting == nil {
		if s.one == 0 || s.one == slot+1 {
			s.one = slot + 1
			return
		}
		few := []uint32{min(s.one-1, slot), max(s.one-1, slot)}
		*s = set{posting: &posting{generation: generation, few: few}}
		return
	}
	p := s.own(generation)
	if p.many != nil {
		p.many.Add(slot)
		return
	}
	i, found := slices.BinarySearch(p.few, slot)
	if found {
		return
	}
	if p.few = insert(p.few, i, slot); len(p.few) > fewMost {
		p.many, p.few = roaring.BitmapOf(p.few...), nil
	}
}

func (s *set) remove(generation uint64, slot uint32) {
	switch {
	case !s.contains(slot):
		return
	case s.posting == nil:
		s.one = 0
		return
	}
	p := s.own(generation)
	if p.many != nil {
		if p.many.Remove(slot); p.many.GetCardinality() < manyLeast {
			p.few, p.many = p.many.ToArray(), nil
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

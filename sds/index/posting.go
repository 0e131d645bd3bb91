package index

import (
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// posting is the set of slots of the documents that have a term. Published ones are never changed: an editor changes
// those that it made itself, which it knows by its generation.
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

// own is the posting, or a copy of it that generation may change.
func (p *posting) own(generation uint64) *posting {
	if p.generation == generation {
		return p
	}
	if p.many != nil {
		return &posting{generation: generation, many: p.many.Clone()}
	}
	return &posting{generation: generation, few: slices.Clone(p.few)}
}

func (p *posting) add(slot uint32) {
	if p.many != nil {
		p.many.Add(slot)
		return
	}
	i, found := slices.BinarySearch(p.few, slot)
	if found {
		return
	}
	if p.few = slices.Insert(p.few, i, slot); len(p.few) > fewMost {
		p.many, p.few = roaring.BitmapOf(p.few...), nil
	}
}

func (p *posting) remove(slot uint32) {
	if p.many != nil {
		if p.many.Remove(slot); p.many.GetCardinality() < manyLeast {
			p.few, p.many = p.many.ToArray(), nil
		}
		return
	}
	if i, found := slices.BinarySearch(p.few, slot); found {
		p.few = slices.Delete(p.few, i, i+1)
	}
}

func (p *posting) len() int {
	if p.many != nil {
		return int(p.many.GetCardinality())
	}
	return len(p.few)
}

func (p *posting) contains(slot uint32) bool {
	if p.many != nil {
		return p.many.Contains(slot)
	}
	_, found := slices.BinarySearch(p.few, slot)
	return found
}

// addTo adds the posting to a set under construction.
func (p *posting) addTo(b *roaring.Bitmap) {
	if p.many != nil {
		b.Or(p.many)
		return
	}
	b.AddMany(p.few)
}

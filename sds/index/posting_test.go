package index

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// TestSetsOfManyGenerations: readers of older generations see what was there, while newer ones are made.
func TestSetsOfManyGenerations(t *testing.T) {
	const seed = 5
	random := rand.New(rand.NewPCG(seed, seed))
	var s set
	model := map[uint32]bool{}
	var readers sync.WaitGroup
	for generation := range uint64(200) {
		d := &drafts{generation: generation}
		for range 200 {
			slot := uint32(random.IntN(200_000))
			if generation/40%2 == 0 || random.IntN(40) == 0 {
				s.add(d, slot)
				model[slot] = true
			} else {
				for slot = range model { // any one
					break
				}
				s.remove(d, slot)
				delete(model, slot)
			}
		}
		d.finish()
		now, want := s, make([]uint32, 0, len(model))
		for slot := range model {
			want = append(want, slot)
		}
		slices.Sort(want)
		readers.Go(func() {
			for range 3 {
				var got []uint32
				now.each(func(slot uint32) bool { got = append(got, slot); return true })
				if !slices.Equal(got, want) || now.len() != len(want) {
					t.Errorf("generation %d: %d slots, want %d", generation, len(got), len(want))
				}
				union := new(Class).materialise(oneOfThem{}, nil)
				now.addTo(union)
				if int(union.GetCardinality()) != len(want) {
					t.Errorf("generation %d: a union of %d slots, want %d", generation, union.GetCardinality(), len(want))
				}
			}
		})
	}
	readers.Wait()
}

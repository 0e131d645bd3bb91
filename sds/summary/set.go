package summary

import (
	"iter"
	"math/bits"
	"slices"

	"github.com/bits-and-blooms/bloom/v3"
)

// set is an ordered set of terms that is immutable once made. Terms are fingerprints, so that their leading bits spread
// them evenly: those with the same ones lie in one bucket of some 32, of four bytes each. A Bloom filter of all has 256 bits
// for each bucket (blocked: Putze, Sanders and Singler 2007), which say of 97 in 100 absent terms that they are absent, at the
// cost of one line of the processor's cache. What it lets through is looked up. A change copies the buckets that it
// touches, the list of all and the filter. Terms that do not spread (a child made them up) make a long bucket, which is
// searched all the same. The zero set is empty.
type set struct {
	filter  *bloom.BloomFilter
	buckets [][]uint32 // the low 32 bits of the terms, in order
	shift   uint       // by which a term is its bucket; at most 32, so that bucket and low bits are the term
	n       int
}

const (
	inBucket    = 32
	leastSpread = TermBits - 32 // bits of the least number of buckets
	blockWords  = 4             // of 64 bits, of the filter for a bucket
	blockPlaces = 3             // that a term has there, which are its 24 low bits
)

// places are those of a term in the filter.
func places(bucket int, low uint32) [blockPlaces]uint64 {
	block := uint64(bucket) * blockWords * 64
	return [blockPlaces]uint64{block + uint64(low&255), block + uint64(low>>8&255), block + uint64(low>>16&255)}
}

// put adds the terms of a bucket to the filter.
func (s *set) put(bucket int, terms []uint32) {
	bits := s.filter.BitSet()
	for _, low := range terms {
		for _, at := range places(bucket, low) {
			bits.Set(uint(at))
		}
	}
}

// setOf makes the set of n terms that come in order. The terms lie in one piece of memory.
func setOf(n int, terms iter.Seq[Term]) set {
	if n == 0 {
		return set{}
	}
	spread := uint(max(leastSpread, bits.Len(uint(n/inBucket))))
	s := set{filter: bloom.From(make([]uint64, blockWords<<spread), blockPlaces), buckets: make([][]uint32, 1<<spread), shift: TermBits - spread, n: n}
	all := make([]uint32, 0, n)
	from, at := 0, 0
	for t := range terms {
		for ; at < int(t>>s.shift); at++ {
			s.buckets[at], from = all[from:len(all):len(all)], len(all)
		}
		all = append(all, uint32(t))
	}
	s.buckets[at] = all[from:]
	for at, b := range s.buckets {
		s.put(at, b)
	}
	return s
}

// has is what routing spends its time on.
func (s *set) has(t Term) bool {
	at := int(t >> s.shift)
	if at >= len(s.buckets) {
		return false
	}
	bits, p := s.filter.BitSet(), places(at, uint32(t)) // which need not be brought into range
	return bits.Test(uint(p[0])) && bits.Test(uint(p[1])) && bits.Test(uint(p[2])) && in(s.buckets[at], uint32(t))
}

func in(bucket []uint32, low uint32) bool {
	for len(bucket) > 8 {
		if half := len(bucket) / 2; bucket[half] <= low {
			bucket = bucket[half:]
		} else {
			bucket = bucket[:half]
		}
	}
	for _, have := range bucket {
		if have >= low {
			return have == low
		}
	}
	return false
}

// all are the terms in order.
func (s *set) all() iter.Seq[Term] {
	return func(yield func(Term) bool) {
		for at, b := range s.buckets {
			high := Term(at) << s.shift &^ (1<<32 - 1)
			for _, low := range b {
				if !yield(high | Term(low)) {
					return
				}
			}
		}
	}
}

// with is the set with some added and some removed, both in order; ok is false when they were there, or were not.
func (s *set) with(added, removed []Term) (out set, ok bool) {
	n := s.n + len(added) - len(removed)
	switch {
	case n < 0 || s.n == 0 && len(removed) > 0:
		return set{}, false
	case len(added)+len(removed) == 0:
		return *s, true
	}
	crowded := n > 2*inBucket*len(s.buckets)
	sparse := len(s.buckets) > 1<<leastSpread && n < inBucket/8*len(s.buckets)
	if crowded || sparse || (len(added)+len(removed))*8 > s.n {
		return s.anew(added, removed, n)
	}
	words := slices.Clone(s.filter.BitSet().Words())
	out = set{filter: bloom.From(words, blockPlaces), buckets: slices.Clone(s.buckets), shift: s.shift, n: n}
	for len(added)+len(removed) > 0 {
		at := nextBucket(added, removed, s.shift)
		come, gone := inFront(added, at, s.shift), inFront(removed, at, s.shift)
		next, ok := merge(out.buckets[at], added[:come], removed[:gone])
		if !ok {
			return set{}, false
		}
		clear(words[at*blockWords:][:blockWords])
		out.put(int(at), next)
		out.buckets[at] = next
		added, removed = added[come:], removed[gone:]
	}
	return out, true
}

// nextBucket is where the first of the terms lies.
func nextBucket(added, removed []Term, shift uint) Term {
	switch {
	case len(added) == 0:
		return removed[0] >> shift
	case len(removed) == 0:
		return added[0] >> shift
	}
	return min(added[0], removed[0]) >> shift
}

// inFront is how many of the first terms lie in a bucket.
func inFront(terms []Term, bucket Term, shift uint) (n int) {
	for n < len(terms) && terms[n]>>shift == bucket {
		n++
	}
	return n
}

// anew is with, with buckets that are made for what results.
func (s *set) anew(added, removed []Term, n int) (set, bool) {
	old := slices.AppendSeq(make([]Term, 0, s.n), s.all())
	next, ok := merge(old, added, removed)
	if !ok {
		return set{}, false
	}
	return setOf(n, slices.Values(next)), true
}

// merge is a list in order with some added and some removed; ok is false when they were there, or were not.
func merge[T uint32 | Term](list []T, added, removed []Term) (out []T, ok bool) {
	out = make([]T, 0, max(0, len(list)+len(added)-len(removed)))
	for len(list) > 0 || len(added) > 0 {
		switch {
		case len(added) == 0 || len(list) > 0 && list[0] < T(added[0]):
			if len(removed) > 0 && T(removed[0]) == list[0] {
				removed = removed[1:]
			} else {
				out = append(out, list[0])
			}
			list = list[1:]
		case len(list) > 0 && list[0] == T(added[0]):
			return nil, false
		default:
			out = append(out, T(added[0]))
			added = added[1:]
		}
	}
	return out, len(removed) == 0
}

// Package summary says in little what the services below an SDS server have, so that a query goes only where it can
// match (ninja-architecture 6.2: "information is summarized in a way that allows queries to determine which, if any,
// branches contain potential matches"). It is pure: no goroutine, clock, socket or disk.
//
// The paper hashes single tags and pairs of them into one Bloom filter that is OR-ed upward. Here a server sends each
// parent the set of the 40-bit fingerprints (Term) of what holds below it: of single facts, and of the pairs and triples
// of facts that queries ask for together (Plan). Such sets unite at any size, shrink when services go, and change by
// deltas; nobody can claim everything, which a filter of ones does. The receiver keeps each child's set behind small
// Bloom filters (Table) and asks it (Question). A service that not everyone may find adds one keyed Token for
// each of its grants and nothing else.
//
// A summary never rules out what is there; at worst it lets through what is not.
package summary

import (
	"math"
	"slices"

	"ninja/sds/index"
)

// Term is a fingerprint of 40 bits: of a fact, of facts that hold of one document together, or a token.
type Term uint64

// TermBits is how many bits a Term has. Of n terms a foreign one is claimed with a chance of n/2^40.
const TermBits = 40

const termMask = 1<<TermBits - 1

// Key is a fingerprint of a tag and of what is said of it (its presence, value or number): what a Plan is made of.
type Key uint32

// hash64 is FNV-1a over what it is fed, mixed at the end.
type hash64 uint64

const begin hash64 = 0xcbf29ce484222325

func (h hash64) text(s string) hash64 {
	for i := range len(s) {
		h = (h ^ hash64(s[i])) * 0x100000001b3
	}
	return h.byte(0xff) // no byte of UTF-8
}

func (h hash64) byte(b byte) hash64 { return (h ^ hash64(b)) * 0x100000001b3 }

func (h hash64) uint64(v uint64) hash64 {
	return hash64(mix(uint64(h) ^ mix(v)))
}

// mix is the finalizer of SplitMix64.
func mix(z uint64) uint64 {
	z ^= z >> 30
	z *= 0xbf58476d1ce4e5b9
	z ^= z >> 27
	z *= 0x94d049bb133111eb
	return z ^ z>>31
}

func (h hash64) term() Term { return Term(mix(uint64(h)) & termMask) }

// KeyOf is the key of a tag and kind. Branch has none: it is told with values and numbers.
func KeyOf(kind index.Kind, tag string) Key {
	return Key(mix(uint64(begin.byte(byte(kind)).text(tag))))
}

// single is the term of a fact under its key.
func (k Key) text(v string) Term { return begin.uint64(uint64(k)).text(v).term() }

// Of a key: that the tag is there, and that its element holds elements, whose value is not summarised.
func (k Key) present() Term { return begin.uint64(uint64(k)).byte(1).term() }
func (k Key) branch() Term  { return begin.uint64(uint64(k)).byte(2).term() }

// node is a range of numbers: those whose leading bits are prefix, when drop bits are left away.
func (k Key) node(drop uint, prefix uint16) Term {
	return begin.uint64(uint64(k)).byte(3).uint64(uint64(drop)<<32 | uint64(prefix)).term()
}

// pair and triple are terms of facts that hold of one document together, in any order.
func pair(a, b Term) Term {
	if a > b {
		a, b = b, a
	}
	return begin.byte(4).uint64(uint64(a)).uint64(uint64(b)).term()
}

func triple(a, b, c Term) Term {
	s := [3]Term{a, b, c}
	slices.Sort(s[:])
	return begin.byte(5).uint64(uint64(s[0])).uint64(uint64(s[1])).uint64(uint64(s[2])).term()
}

// drops are the levels of the ranges that a number lies in: by how many bits each is wide.
var drops = [...]uint{0, 3, 6, 9, 12}

// ordered maps numbers to 16 bits so that order is kept: sign, exponent and seven bits of mantissa.
func ordered(f float64) uint16 {
	b := math.Float32bits(float32(f))
	if b>>31 == 1 {
		b = ^b
	} else {
		b |= 1 << 31
	}
	return uint16(b >> 16)
}

// coverMost is how many ranges a question's range is covered with; a finer cover is widened.
const coverMost = 48

// cover is the least list of nodes that the range lies within.
func (k Key) cover(from, to float64) []Term {
	lo, hi := uint32(ordered(from)), uint32(ordered(to))+1
	for i := 0; ; i++ {
		out := k.tile(lo, hi)
		if len(out) <= coverMost || i+1 == len(drops) {
			return out
		}
		wide := uint32(1) << drops[i+1]
		lo, hi = lo/wide*wide, (hi+wide-1)/wide*wide
	}
}

func (k Key) tile(lo, hi uint32) (out []Term) {
	for lo < hi {
		for i := len(drops) - 1; ; i-- {
			wide := uint32(1) << drops[i]
			if lo%wide == 0 && lo+wide <= hi {
				out = append(out, k.node(drops[i], uint16(lo>>drops[i])))
				lo += wide
				break
			}
		}
	}
	return out
}

package summary

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/bits-and-blooms/bloom/v3"
)

// Table is what one child has told, as its parent asks it. It is immutable once made; Apply makes the next. The zero
// Table claims everything: nothing was told yet.
type Table struct {
	known    bool
	sequence uint64
	services uint64
	plan     Plan
	set      []Term
	check    Check
	bits     *bloom.BloomFilter
	stale    int // terms that are in bits and no more in the set
}

// Rate is the share of absent terms that a table's Bloom filter lets through to the set: it is sized for it.
const Rate = 0.01

// hashesMost is how many places of a filter a term has, at any rate that can be asked for.
const hashesMost = 24

// ErrOutOfStep is returned for a change that does not fit to what was told before: ask for the whole.
var ErrOutOfStep = errors.New("the change does not fit to the summary before it")

// locations are the places of a term, before they are brought into the size of a filter (Kirsch and Mitzenmacher 2006).
func (t Term) locations(out *[hashesMost]uint64, k uint) []uint64 {
	h := mix(uint64(t) + 0x9e3779b97f4a7c15)
	step := mix(h) | 1
	for i := range k {
		out[i] = h
		h += step
	}
	return out[:k]
}

// has asks the filter, which nearly always says what is not there; what it lets through is looked up in the set. So a
// range of many terms is no more likely to be let through in error than one.
func (t *Table) has(x Term) bool {
	var room [hashesMost]uint64
	if !t.bits.TestLocations(x.locations(&room, t.bits.K())) {
		return false
	}
	_, ok := slices.BinarySearch(t.set, x)
	return ok
}

// filterOf makes a filter of the set, with room to grow.
func filterOf(set []Term, rate float64) *bloom.BloomFilter {
	m, k := bloom.EstimateParameters(uint(max(64, len(set)+len(set)/8)), rate)
	f := bloom.From(make([]uint64, (m+63)/64), min(k, hashesMost))
	put(f, set)
	return f
}

func put(f *bloom.BloomFilter, terms []Term) {
	var room [hashesMost]uint64
	for _, t := range terms {
		for _, at := range t.locations(&room, f.K()) {
			f.BitSet().Set(uint(at % uint64(f.Cap())))
		}
	}
}

// Apply takes a message. With an error the table is as it was.
func (t *Table) Apply(m *Message) (*Table, error) {
	next := &Table{known: true, sequence: m.Sequence, services: m.Services, plan: m.Plan, check: m.Check}
	if !m.Change {
		next.set, next.bits = m.Added, filterOf(m.Added, Rate)
		return next, nil
	}
	if !t.known || m.Sequence != t.sequence+1 {
		return t, fmt.Errorf("%w: change %d follows %d", ErrOutOfStep, m.Sequence, t.sequence)
	}
	set, ok := merge(t.set, m.Added, m.Removed)
	check := t.check ^ CheckOf(m.Added) ^ CheckOf(m.Removed)
	if !ok || len(set) != m.Terms || check != m.Check {
		return t, fmt.Errorf("%w: change %d ends with other terms than it says", ErrOutOfStep, m.Sequence)
	}
	next.set, next.stale = set, t.stale+len(m.Removed)
	if next.stale*10 > len(set) || float64(len(set)) > t.room() {
		next.bits, next.stale = filterOf(set, Rate), 0
		return next, nil
	}
	next.bits = t.bits
	if len(m.Added) > 0 {
		next.bits = t.bits.Copy()
		put(next.bits, m.Added)
	}
	return next, nil
}

// room is how many terms the filter was made for.
func (t *Table) room() float64 {
	k := float64(t.bits.K())
	return float64(t.bits.Cap()) * math.Ln2 / k * 1.05
}

// merge is the set with some added and some removed; ok is false when they were there, or were not.
func merge(set, added, removed []Term) (out []Term, ok bool) {
	out = make([]Term, 0, max(0, len(set)+len(added)-len(removed)))
	for len(set) > 0 || len(added) > 0 {
		switch {
		case len(added) == 0 || len(set) > 0 && set[0] < added[0]:
			if len(removed) > 0 && removed[0] == set[0] {
				removed = removed[1:]
			} else {
				out = append(out, set[0])
			}
			set = set[1:]
		case len(set) > 0 && set[0] == added[0]:
			return nil, false
		default:
			out = append(out, added[0])
			added = added[1:]
		}
	}
	return out, len(removed) == 0
}

// May reports whether something that the child told of can meet the question.
func (t *Table) May(q *Question) bool {
	if t == nil || !t.known {
		return true
	}
	return q.may(t.plan, t)
}

// AnswersFor reports whether a child that the question is let through to should have what is asked for, if it was honest
// when it told: the plan tells all of the conditions together, and no token was what let it through.
func (t *Table) AnswersFor(q *Question) bool {
	if !t.Known() || len(q.ways) != 1 || len(q.ways[0]) > 3 || slices.ContainsFunc(q.tokens, t.has) {
		return false
	}
	way := q.ways[0]
	if len(way) == 1 {
		return true
	}
	for _, it := range way {
		if it.key == 0 || !has(t.plan.Pairs, it.key) || len(way) == 3 && !has(t.plan.Triples, it.key) {
			return false
		}
	}
	return way[0].key != way[1].key && (len(way) < 3 || way[0].key != way[2].key && way[1].key != way[2].key)
}

// Known reports whether the child has told anything yet.
func (t *Table) Known() bool { return t != nil && t.known }

// Sequence is the number of the message that made the table; Services what the child says is behind it; Terms how many
// it told; Bytes the size of the filter.
func (t *Table) Sequence() uint64 { return t.sequence }
func (t *Table) Services() uint64 { return t.services }
func (t *Table) Terms() int       { return len(t.set) }
func (t *Table) Bytes() int {
	if t.bits == nil {
		return 0
	}
	return int(t.bits.Cap()) / 8
}

// Check is the checksum of its terms.
func (t *Table) Check() Check { return t.check }

// Plan is the plan that the child told by.
func (t *Table) Plan() Plan { return t.plan }

// Under is the table as if its child had told by another plan, which covers less: for measuring what a plan brings.
func (t *Table) Under(plan Plan) *Table {
	out := *t
	out.plan = plan
	return &out
}

// Set is what it told, in order. It is shared: do not change it.
func (t *Table) Set() []Term { return t.set }

// Differences is what must be added to and removed from one set to get the other. Both are in order.
func Differences(from, to []Term) (added, removed []Term) {
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(to) == 0 || len(from) > 0 && from[0] < to[0]:
			removed, from = append(removed, from[0]), from[1:]
		case len(from) == 0 || to[0] < from[0]:
			added, to = append(added, to[0]), to[1:]
		default:
			from, to = from[1:], to[1:]
		}
	}
	return added, removed
}

// Exact is a set that can be asked as a table can, without a filter's errors: for a server's own content, and for
// measuring.
type Exact struct {
	Told  Plan
	Terms []Term // in order
}

func (e Exact) has(t Term) bool {
	_, ok := slices.BinarySearch(e.Terms, t)
	return ok
}

// May is Table.May.
func (e Exact) May(q *Question) bool { return q.may(e.Told, e) }

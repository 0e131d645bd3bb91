package summary

import (
	"errors"
	"fmt"
	"slices"
)

// Table is what one child has told, as its parent asks it. It is immutable once made; Apply makes the next. The zero
// Table claims everything: nothing was told yet.
type Table struct {
	known    bool
	sequence uint64
	services uint64
	plan     Plan
	set      set
	check    Check
}

// ErrOutOfStep is returned for a change that does not fit to what was told before: ask for the whole.
var ErrOutOfStep = errors.New("the change does not fit to the summary before it")

func (t *Table) has(x Term) bool { return t.set.has(x) }

// Apply takes a message. With an error the table is as it was.
func (t *Table) Apply(m *Message) (*Table, error) {
	next := &Table{known: true, sequence: m.Sequence, services: m.Services, plan: m.Plan, check: m.Check}
	if !m.Change {
		next.set = setOf(len(m.Added), slices.Values(m.Added))
		return next, nil
	}
	if !t.known || m.Sequence != t.sequence+1 {
		return t, fmt.Errorf("%w: change %d follows %d", ErrOutOfStep, m.Sequence, t.sequence)
	}
	set, ok := t.set.with(m.Added, m.Removed)
	check := t.check ^ CheckOf(m.Added) ^ CheckOf(m.Removed)
	if !ok || set.n != m.Terms || check != m.Check {
		return t, fmt.Errorf("%w: change %d ends with other terms than it says", ErrOutOfStep, m.Sequence)
	}
	next.set = set
	return next, nil
}

// May reports whether something that the child told of can meet the question.
func (t *Table) May(q *Question) bool {
	if t == nil || !t.known {
		return true
	}
	return q.may(t)
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
// it told; Bytes what they take in memory.
func (t *Table) Sequence() uint64 { return t.sequence }
func (t *Table) Services() uint64 { return t.services }
func (t *Table) Terms() int       { return t.set.n }
func (t *Table) Bytes() int       { return 4*t.set.n + (24+32)*len(t.set.buckets) }

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

// Set is what it told, in order.
func (t *Table) Set() []Term { return slices.AppendSeq(make([]Term, 0, t.set.n), t.set.all()) }

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

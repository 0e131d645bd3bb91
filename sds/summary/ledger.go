package summary

import (
	"fmt"
	"time"
)

// Ledger is the account of one child: how many of the queries that its summary let through found something there. A
// child that costs the others is flagged, and only so many queries go to it as its allowance covers.
type Ledger struct {
	forwards, useless   float64 // of this period and, fading, those before
	owed, broken        float64 // of them, those that the summary answers for (Table.AnswersFor)
	allowance           float64
	doubts              []doubt
	Flag                Flag
	totalSent, totalBad uint64
}

// doubt is a question that found nothing, and after how many periods the child answers for it.
type doubt struct {
	q    *Question
	left int
}

// Flag says why a child is flagged; "" is that it is not.
type Flag string

// The flags.
const (
	Overfull Flag = "overfull" // its set is larger than the bound, or larger than its services can make it
	Lying    Flag = "lying"    // too many of the queries that its summary let through found nothing
	Stale    Flag = "stale"    // its summary is too old
	Hollow   Flag = "hollow"   // it says that it has services and tells nothing of them
)

// Bounds of the account.
const (
	// lyingShare is the share of useless forwards that no honest summary comes near, over at least lyingLeast forwards.
	lyingShare = 0.6
	lyingLeast = 20
	// termsEach is how many terms one service can make at most of a set: more is a set that was made up.
	termsEach = 20_000
	// Allowance is how many queries a flagged child is sent in a period: enough to see that it has mended its ways, too few
	// to be felt by the others.
	Allowance = 2
	fading    = 0.5
	memory    = 0.9 // of what was owed: also who is asked but twice in a period is found out
	staleSpan = 3   // periods
	doubtSpan = 3   // periods
	doubtMost = 64  // questions
)

// Note counts a query that was forwarded and what came of it; owed says whether the summary answers for it.
func (l *Ledger) Note(useful, owed bool) {
	l.forwards++
	l.totalSent++
	if !useful {
		l.useless++
		l.totalBad++
	}
	if !owed {
		return
	}
	l.owed++
	if !useful {
		l.broken++
	}
	if l.Flag == "" && l.lies() {
		l.Flag = Lying
	}
}

// Doubt is Note for a forward that found nothing where the child had asked others below it: one of those may have lied to
// it as well. It is charged only if the child still claims what was asked for when it has had time to find that out and to
// take back what it told for the other.
func (l *Ledger) Doubt(q *Question) {
	l.Note(false, false)
	if len(l.doubts) < doubtMost {
		l.doubts = append(l.doubts, doubt{q, doubtSpan})
	}
}

// settle charges the doubts whose time is over.
func (l *Ledger) settle(t *Table) {
	kept := l.doubts[:0]
	for _, d := range l.doubts {
		if d.left--; d.left > 0 {
			kept = append(kept, d)
		} else if t.May(d.q) && t.AnswersFor(d.q) {
			l.owed++
			l.broken++
		}
	}
	clear(l.doubts[len(kept):])
	l.doubts = kept
}

func (l *Ledger) lies() bool { return l.owed >= lyingLeast && l.broken > lyingShare*l.owed }

// Admit reports whether another query may be forwarded.
func (l *Ledger) Admit() bool {
	if l.Flag == "" || l.Flag == Stale || l.Flag == Hollow {
		return true
	}
	if l.allowance < 1 {
		return false
	}
	l.allowance--
	return true
}

// Period ends a period: it judges the child by what it told and what was found, and returns its flag.
func (l *Ledger) Period(t *Table, age, period time.Duration) Flag {
	l.allowance = Allowance
	l.settle(t)
	switch {
	case t.Known() && uint64(t.Terms()) > termsEach*(1+t.Services()):
		l.Flag = Overfull
	case l.lies():
		l.Flag = Lying
	case age > staleSpan*period:
		l.Flag = Stale
	case t.Known() && t.Services() > 0 && t.Terms() == 0:
		l.Flag = Hollow
	case l.Flag == Lying && l.owed >= lyingLeast/4 && l.broken > lyingShare*l.owed:
		// The few that it was sent were as useless as before.
	default:
		l.Flag = ""
	}
	l.forwards, l.useless = l.forwards*fading, l.useless*fading
	l.owed, l.broken = l.owed*memory, l.broken*memory
	return l.Flag
}

// Useless is the share of forwards that found nothing, lately; of at least one.
func (l *Ledger) Useless() float64 { return l.useless / max(1, l.forwards) }

// Sent and Wasted are how many queries were forwarded since the child joined, and how many of them found nothing.
func (l *Ledger) Sent() uint64   { return l.totalSent }
func (l *Ledger) Wasted() uint64 { return l.totalBad }

// String is for people.
func (l *Ledger) String() string {
	return fmt.Sprintf("%d sent, %d wasted", l.totalSent, l.totalBad)
}

// Package route decides where a question goes in hierarchies of SDS servers (ninja-architecture 6.2: "queries are
// partitioned among and forwarded to the relevant servers"), and puts the answers together. It is pure: values in,
// values out, no goroutine, clock, socket or disk; package tree moves what it decides, and a simulator moves it too.
//
// A question is searched where it arrives, goes down to the children whose summary lets it through, and up to the
// parent, and within one hierarchy never back to where it came from: in a tree that reaches each server once. A server
// that stands in several hierarchies asks in each of them; whoever is reached twice searches once (Arrival.Seen).
package route

import (
	"fmt"
	"time"

	"ninja/ca"
	"ninja/sds/summary"
)

// Scope is how far a question goes.
type Scope int

// The scopes.
const (
	Local  Scope = iota // the server that was asked, and those that it started to share its load
	Domain              // the servers of its domain
	All                 // wherever its hierarchies lead
)

var scopes = [...]string{"local", "domain", "all"}

// String is the word for the scope.
func (s Scope) String() string { return scopes[s] }

// ParseScope reads the word.
func ParseScope(word string) (Scope, error) {
	for i, s := range scopes {
		if s == word {
			return Scope(i), nil
		}
	}
	return 0, fmt.Errorf("scope %q: want local, domain or all", word)
}

// Want is which of the matches are wanted.
type Want int

// The wants.
const (
	Every Want = iota // all of them, up to the limit
	First             // as many as the limit says, whichever come first: no branch is asked that need not be
	Best              // the first in an order, over all branches
)

// Branch is a neighbour in one hierarchy, as a server knows it at the moment.
type Branch struct {
	ID        ca.ID
	Hierarchy string
	Up        bool           // the parent; else a child
	Alive     bool           // the link to it stands
	Age       time.Duration  // since its summary was last told or confirmed; of a parent since it was last heard
	Stale     bool           // too old to rule anything out by
	Barred    bool           // flagged, and its allowance is used up
	Withholds bool           // something below it is flagged there: its summary says nothing of that
	Spawned   bool           // a child that this server started to share its load: it answers for it, in every scope
	Table     *summary.Table // of a child
}

// Arrival is a question as it came to a server.
type Arrival struct {
	Question  *summary.Question
	Scope     Scope
	Want      Want
	From      ca.ID  // the neighbour that sent it; "" is a client
	FromUp    bool   // that neighbour is the parent
	Hierarchy string // that it travels in; "" at its first server: every one of the server's
	Domain    string // of its first server
	Seen      bool   // it was here before, by way of another hierarchy
	Hops      int    // how many servers deep it may still go
	Left      time.Duration
	Fanout    int // the most branches that are asked here; 0 is FanoutMost
}

// Bounds of a question's way.
const (
	HopsMost   = 16
	FanoutMost = 512
	// margin is what a server keeps of the time to say which branches were late.
	marginLeast = 2 * time.Millisecond
	marginPart  = 10
)

// Step is one branch to be asked. Steps of a later phase are only needed when those before left something wanted.
type Step struct {
	Branch int // of those given
	Phase  int
	Hops   int
	Left   time.Duration
}

// Decision is what a server does with a question.
type Decision struct {
	Search   bool // its own services
	Steps    []Step
	Outcomes []Outcome // of branches that are not asked
}

// Status is what became of a branch.
type Status int

// The statuses.
const (
	Searched    Status = iota + 1 // the server looked
	Pruned                        // its summary rules out that anything there matches
	Unreachable                   // the link is down, or broke while the answer was awaited
	Late                          // it did not answer in time
	Flagged                       // it has cost the others too much, and is asked only now and then
	Bounded                       // a bound of the question kept it from being asked
	Outside                       // it belongs to another domain than the scope
	Unneeded                      // enough was found before
	Failed                        // it answered with an error
	Withheld                      // its summary rules out that anything there matches, but for what is flagged below it
)

var statuses = [...]string{"unknown", "searched", "pruned", "unreachable", "late", "flagged", "bounded", "outside", "unneeded", "failed", "withheld"}

// String is the word for the status.
func (s Status) String() string {
	if s < 0 || int(s) >= len(statuses) {
		s = 0
	}
	return statuses[s]
}

// Outcome is what became of one branch of a question.
type Outcome struct {
	Server    ca.ID
	Via       ca.ID // the server that asked it, or did not; the first server itself
	Hierarchy string
	Up        bool // Server is the parent of Via
	Status    Status
	Stale     bool          // the summary was too old to rule it out
	Age       time.Duration // of the summary that was decided by; of a parent since it was heard; of the first server 0
	Found     int
	Took      time.Duration
	Hidden    bool   // there may be more for a holder of the asker's capability: it was not shown yet
	Detail    string // of Failed
}

// Complete reports whether nothing can be missing for a reason other than the age of a summary.
func Complete(outcomes []Outcome) bool {
	for _, o := range outcomes {
		switch o.Status {
		case Unreachable, Late, Flagged, Bounded, Failed, Withheld:
			return false
		}
	}
	return true
}

// Decide says what to do with a question at the server self.
func Decide(self ca.ID, branches []Branch, a Arrival) Decision {
	d := Decision{Search: !a.Seen}
	fanout := a.Fanout
	if fanout <= 0 || fanout > FanoutMost {
		fanout = FanoutMost
	}
	left := a.Left - max(marginLeast, a.Left/marginPart)
	for i, b := range branches {
		if a.Scope == Local && (!b.Spawned || b.Up) {
			continue
		}
		if a.Hierarchy != "" && b.Hierarchy != a.Hierarchy || b.ID == a.From && a.From != "" || b.Up && a.FromUp {
			continue
		}
		status := b.status(a)
		if status == 0 && (a.Hops <= 0 || left <= 0 || len(d.Steps) >= fanout) {
			status = Bounded
		}
		if status != 0 {
			if d.Outcomes == nil {
				d.Outcomes = make([]Outcome, 0, len(branches)-i)
			}
			d.Outcomes = append(d.Outcomes, Outcome{Server: b.ID, Via: self, Hierarchy: b.Hierarchy, Up: b.Up, Status: status, Age: b.Age, Stale: b.Stale})
			continue
		}
		phase := 0
		if a.Want == First && b.Up {
			phase = 1
		}
		d.Steps = append(d.Steps, Step{Branch: i, Phase: phase, Hops: a.Hops - 1, Left: left})
	}
	return d
}

// status is why the branch is not asked; 0 is that it is.
func (b *Branch) status(a Arrival) Status {
	switch {
	case a.Scope == Domain && b.ID.Domain() != a.Domain:
		return Outside
	case !b.Alive:
		return Unreachable
	case b.Up || b.Stale:
		return 0
	case !b.Table.May(a.Question):
		if b.Withholds {
			return Withheld
		}
		return Pruned
	case b.Barred:
		return Flagged
	}
	return 0
}

// Cycle reports whether self may not join a parent with these ancestors, the nearest first: it would be its own.
func Cycle(self ca.ID, parent ca.ID, line []ca.ID) bool {
	if self == parent {
		return true
	}
	for _, id := range line {
		if id == self {
			return true
		}
	}
	return false
}

package tree

import (
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca"
	"ninja/sds/route"
	"ninja/sds/summary"
)

// neighbour is what readers see of a parent or child. What changes while it stands in a view is atomic or guarded.
type neighbour struct {
	id        ca.ID
	hierarchy string
	up        bool
	address   string
	spawned   bool
	period    time.Duration
	table     *summary.Table
	stream    *stream       // nil when the link is down
	detail    string        // why it is down
	heard     *atomic.Int64 // when its summary was last told or confirmed
	beaten    *atomic.Int64 // when anything was heard
	received  *atomic.Uint64
	withholds *atomic.Bool // its summary says nothing of what is flagged below it
	account   *account
}

// neighbour is the other side of a link that has just come up.
func (h *hierarchy) neighbour(s *stream, address string) *neighbour {
	nb := &neighbour{
		id: s.peer.ID, hierarchy: h.name, address: address, period: h.cfg.Period, stream: s,
		heard: new(atomic.Int64), beaten: new(atomic.Int64), received: new(atomic.Uint64), withholds: new(atomic.Bool), account: new(account),
	}
	nb.hear()
	nb.heard.Store(nb.beaten.Load())
	return nb
}

// account is the ledger of a child, which the goroutines of questions write to.
type account struct {
	mu sync.Mutex
	summary.Ledger
	usual time.Duration // that an answer takes
}

func (a *account) doubt(q *summary.Question) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Doubt(q)
}

func (a *account) note(useful, owed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Note(useful, owed)
}

// admit reports whether a question may be sent, at the cost of the allowance, and whether the child is flagged for what it
// answers.
func (a *account) admit() (ask, flagged bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.Admit(), a.Flag == summary.Lying || a.Flag == summary.Overfull
}

// flagged is admit without a question.
func (a *account) flagged() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.Flag == summary.Lying
}

// branch is the neighbour as it is routed by.
func (nb *neighbour) branch(now time.Time) route.Branch {
	age := now.Sub(time.Unix(0, nb.heard.Load()))
	b := route.Branch{ID: nb.id, Hierarchy: nb.hierarchy, Up: nb.up, Alive: nb.stream != nil, Age: age, Withholds: nb.withholds.Load(), Table: nb.table, Spawned: nb.spawned}
	if !nb.up {
		b.Stale = age > deadAfter*nb.period
	}
	return b
}

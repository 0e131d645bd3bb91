package tree

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/sds/route"
)

// branch is a question as one neighbour has been asked it.
type branch struct {
	q       *inquiry
	nb      *neighbour
	id      uint64 // on the neighbour's stream
	begun   time.Time
	charged time.Time     // for being overdue
	after   time.Duration // when it is overdue
	busy    time.Time     // since when it has told nothing to speak of
	told    int           // bytes since then
	found   bool
	named   bool // it has said what became of the question with itself
	further bool // it has asked others, or holds them back
	over    bool
	aside   bool // it is not waited for: it is flagged
	purse   purse
	size    int // bytes of it that are held
}

// end ends a branch.
func (b *branch) end() {
	if b.over = true; !b.aside {
		b.q.waiting--
	}
}

// answered passes on one answer of the branch.
func (b *branch) answered(m *answer) {
	q := b.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if b.over || q.over && !b.aside {
		return
	}
	b.found = b.found || len(m.hits)+len(m.sealed) > 0
	b.attribute(m)
	if b.told += len(m.whole); b.told >= windowLeast/4 {
		b.told, b.busy = 0, time.Now()
	}
	if q.over { // it was not waited for
		if m.last {
			b.end()
			b.note(m.failure())
		}
		return
	}
	q.found += len(m.hits)
	failed, last := m.failure(), m.last
	m.last, m.code, m.problem = false, 0, ""
	if last {
		b.end()
	}
	if err := q.passOn(b, m, last && q.waiting == 0 && len(q.steps) == 0 && len(q.held) == 0); err != nil {
		q.failing(err)
		return
	}
	if last {
		q.ended(b, failed)
	}
	if q.enough() {
		q.giveUp(errEnough)
	}
	if !q.over {
		q.next()
	}
}

// note charges a child for an answer that is at an end, or did not come. Who lets others wait owes an answer whatever its
// summary says, if it was given time enough: how much time there is, is up to whoever asks.
func (b *branch) note(err error) {
	if b.nb.up || !b.charged.IsZero() {
		return
	}
	took := time.Since(b.begun)
	if err == nil {
		b.nb.account.answered(took)
	} else if statusOf(err) == route.Late && took < b.nb.account.fair(b.nb.period) {
		return
	}
	if err == nil && !b.found && b.further && b.nb.table.AnswersFor(b.q.routed) {
		b.nb.account.doubt(b.q.routed)
		return
	}
	b.nb.account.note(b.found, err != nil || b.nb.table.AnswersFor(b.q.routed))
}

// lost: the link to the branch has ended.
func (b *branch) lost() {
	q := b.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if b.over {
		return
	}
	if b.end(); q.over {
		return
	}
	q.ended(b, errLinkLost)
	if !q.over {
		q.next()
	}
}

var (
	// errLinkLost is a link that broke while an answer was awaited.
	errLinkLost = errors.New("the link broke")
	// errEnough is a branch whose answer was not waited for.
	errEnough = errors.New("enough was found")
)

func statusOf(err error) route.Status {
	if err == nil {
		return route.Searched
	}
	switch code := status.Code(err); {
	case errors.Is(err, errLinkLost) || code == codes.Unavailable:
		return route.Unreachable
	case errors.Is(err, errEnough):
		return route.Unneeded
	case errors.Is(err, context.DeadlineExceeded) || code == codes.DeadlineExceeded || code == codes.Canceled:
		return route.Late
	}
	return route.Failed
}

package trunk

import (
	"errors"
	"os"
	"sync"
	"time"

	"ninja/connectors/hop"
)

// turn decides who reads a trunk's socket. While few datagrams come, a reader of one of the streams does, in place: the
// packet that it waits for then wakes nobody else. While many come, the trunk's own goroutine does, and polls: that takes
// them in large batches, and the runtime looks after timers more often than after sockets when all its processors are
// busy.
type turn struct {
	in *In

	mu      sync.Mutex
	direct  bool       // readers may read
	leader  *hop.Queue // reads; nil when nobody does
	chosen  *hop.Queue // was woken to be the next
	waiting map[*hop.Queue]struct{}
	at      time.Time // deadline of the socket
}

var past = time.Unix(1, 0)

// wake ends a read of the trunk's own goroutine at the time; readers it does not touch.
func (t *turn) wake(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.direct {
		t.until(at)
	}
}

// lead makes the queue's reader read until there is something for it; false says to wait.
func (t *turn) lead(q *hop.Queue) bool {
	if !t.begin(q) {
		return false
	}
	for t.read(q) {
	}
	t.resign()
	return true
}

// read reads for the leader, and reports whether it is to read on. What can wait (counting what came, and whether the
// trunk is for readers still) is done before the next wait, not between a packet and its reader.
func (t *turn) read(q *hop.Queue) bool {
	if any, _ := q.Pending(); any {
		return false
	}
	if t.in.counted() {
		t.set(false) // not for readers any more
		t.in.call()
		return false
	}
	err := t.in.raw.Read(t.in.readOnce)
	switch {
	case err == nil:
		return true
	case errors.Is(err, os.ErrDeadlineExceeded): // which does not look at what is there
		t.in.raw.Control(t.in.tryRead)
	default:
		t.set(false) // the trunk has ended
		t.in.call()
	}
	return false
}

// begin takes the turn, or notes that the queue waits for it.
func (t *turn) begin(q *hop.Queue) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.direct {
		return false
	}
	if t.chosen == q {
		t.chosen = nil
	}
	if t.leader != nil || t.chosen != nil {
		if t.waiting == nil {
			t.waiting = make(map[*hop.Queue]struct{})
		}
		t.waiting[q] = struct{}{}
		return false
	}
	t.leader = q
	t.deadline(q)
	return true
}

// deadline makes the leader's wait end when its queue's does. The caller holds the lock.
func (t *turn) deadline(q *hop.Queue) {
	_, until := q.Pending()
	t.until(until)
}

// until sets the deadline of the socket. The caller holds the lock.
func (t *turn) until(at time.Time) {
	if !at.Equal(t.at) {
		t.at = at
		t.in.conn.SetReadDeadline(at)
	}
}

// resign ends the turn and chooses the next.
func (t *turn) resign() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leader = nil
	t.choose()
}

// choose wakes one that waits. The caller holds the lock.
func (t *turn) choose() {
	if t.chosen != nil || t.leader != nil || len(t.waiting) == 0 {
		return
	}
	for q := range t.waiting {
		delete(t.waiting, q)
		t.chosen = q
		q.Wake()
		return
	}
}

// leave says that the queue does not wait any more.
func (t *turn) leave(q *hop.Queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.waiting, q)
	if t.chosen != q {
		return
	}
	if any, until := q.Pending(); any || !until.IsZero() { // it may go without having read
		t.chosen = nil
		t.choose()
	}
}

// kick makes a leader see that its deadline has changed.
func (t *turn) kick(q *hop.Queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leader == q && t.direct {
		t.deadline(q)
	}
}

// set says whether readers may read. Those that wait look again.
func (t *turn) set(direct bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.direct = direct
	switch {
	case direct:
	case t.leader != nil:
		t.until(past)
	default:
		t.until(time.Time{})
	}
	t.chosen = nil
	for q := range t.waiting {
		q.Wake()
	}
	clear(t.waiting)
}

package hop

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// queueDepth is how many datagrams a Queue holds: about what a socket does at the system's defaults.
const queueDepth = 256

// Pump is the trunk that fills a Queue. A reader that waits may read the trunk itself, for all, so that a packet wakes
// nobody but the one it is for.
type Pump interface {
	// Lead reads the trunk until the queue holds something, or its deadline passes or changes, and returns true; or
	// returns false when somebody else reads, and the queue is to wait until it is woken.
	Lead(q *Queue) bool
	// Leave says that the queue, which Lead had told to wait, does not any more.
	Leave(q *Queue)
	// Kick says that the queue's deadline has changed.
	Kick(q *Queue)
}

// Queue is the receiving end of one stream on a trunk: what a socket of its own is without one. Put is called by whoever
// reads the trunk, the rest by the hop's reader.
type Queue struct {
	ready   chan struct{} // holds a token when there may be something to see
	pump    Pump
	release func()
	timer   *time.Timer // used by next alone

	mu       sync.Mutex
	ring     [][]byte // grows to queueDepth
	head, n  int
	deadline time.Time
	waiting  bool // for a token
	closed   bool
}

// NewQueue makes a Queue that the pump fills; release is called once, when it is closed.
func NewQueue(pump Pump, release func()) *Queue {
	return &Queue{ready: make(chan struct{}, 1), pump: pump, release: release}
}

// Put adds a datagram, which the queue keeps. It does not block: a full queue loses it, as a socket would.
func (q *Queue) Put(d []byte) {
	q.mu.Lock()
	if q.closed || q.n == queueDepth {
		q.mu.Unlock()
		return
	}
	if q.n == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.n)%len(q.ring)] = d
	q.n++
	waits := q.waiting
	q.waiting = false
	q.mu.Unlock()
	if waits {
		q.Wake()
	}
}

// grow doubles the ring.
func (q *Queue) grow() {
	ring := make([][]byte, max(4, 2*len(q.ring)))
	for i := range q.n {
		ring[i] = q.ring[(q.head+i)%len(q.ring)]
	}
	q.ring, q.head = ring, 0
}

// Wake makes a reader that waits look again.
func (q *Queue) Wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// next waits for a datagram until the deadline. The buffer is not used: what was put is given. What has come by then is
// given though the deadline has passed: it may stand in the trunk's socket because nobody read it.
func (q *Queue) next([]byte) ([]byte, netip.AddrPort, error) {
	for expired := false; ; {
		d, deadline, err := q.pop()
		if d != nil || err != nil {
			return d, netip.AddrPort{}, err
		}
		if expired {
			return nil, netip.AddrPort{}, os.ErrDeadlineExceeded
		}
		expired = !deadline.IsZero() && !time.Now().Before(deadline)
		if q.pump.Lead(q) {
			continue
		}
		if !expired && q.waits() {
			q.wait(deadline)
		}
		q.pump.Leave(q)
	}
}

// waits says that the reader is about to wait; false says that something has come.
func (q *Queue) waits() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = q.n == 0
	return q.waiting
}

// wait waits to be woken, or for the deadline.
func (q *Queue) wait(deadline time.Time) {
	if deadline.IsZero() {
		<-q.ready
		return
	}
	if q.timer == nil {
		q.timer = time.NewTimer(time.Until(deadline))
	} else {
		q.timer.Reset(time.Until(deadline))
	}
	select {
	case <-q.ready:
	case <-q.timer.C:
	}
	q.timer.Stop()
}

// Pending reports whether the queue holds something, and until when its reader waits: zero is for ever.
func (q *Queue) Pending() (bool, time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false, longAgo
	}
	return q.n > 0, q.deadline
}

func (q *Queue) pop() ([]byte, time.Time, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return nil, time.Time{}, net.ErrClosed
	case q.deadline.Equal(longAgo): // to decide anew comes first, as it does at a socket
		return nil, time.Time{}, os.ErrDeadlineExceeded
	case q.n == 0:
		return nil, q.deadline, nil
	}
	d := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) % len(q.ring)
	q.n--
	return d, time.Time{}, nil
}

// SetReadDeadline makes a wait end at the time; zero is none.
func (q *Queue) SetReadDeadline(t time.Time) error {
	q.mu.Lock()
	q.deadline = t
	q.mu.Unlock()
	q.Wake()
	q.pump.Kick(q)
	return nil
}

// Close drops what is held and takes the stream off the trunk. It may be called again.
func (q *Queue) Close() error {
	q.mu.Lock()
	was := q.closed
	q.closed, q.ring, q.n = true, nil, 0
	q.mu.Unlock()
	q.Wake()
	if !was {
		q.pump.Kick(q)
		q.release()
	}
	return nil
}

// Next waits for the next datagram, which is the caller's; net.ErrClosed ends it. It is for readers that have no Inbox.
func (q *Queue) Next() ([]byte, error) {
	d, _, err := q.next(nil)
	return d, err
}

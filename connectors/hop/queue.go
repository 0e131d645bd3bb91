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

// Queue is the receiving end of one stream on a trunk: what a socket of its own is without one. Put is called by the
// trunk's goroutine, the rest by the hop's reader.
type Queue struct {
	ready   chan struct{} // holds a token when there may be something to see
	release func()
	timer   *time.Timer // used by next alone

	mu       sync.Mutex
	ring     [][]byte // grows to queueDepth
	head, n  int
	deadline time.Time
	closed   bool
}

// NewQueue makes a Queue; release is called once, when it is closed.
func NewQueue(release func()) *Queue {
	return &Queue{ready: make(chan struct{}, 1), release: release}
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
	q.mu.Unlock()
	q.wake()
}

// grow doubles the ring.
func (q *Queue) grow() {
	ring := make([][]byte, max(4, 2*len(q.ring)))
	for i := range q.n {
		ring[i] = q.ring[(q.head+i)%len(q.ring)]
	}
	q.ring, q.head = ring, 0
}

func (q *Queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// next waits for a datagram until the deadline. The buffer is not used: what was put is given.
func (q *Queue) next([]byte) ([]byte, netip.AddrPort, error) {
	for {
		d, deadline, err := q.pop()
		if d != nil || err != nil {
			return d, netip.AddrPort{}, err
		}
		if deadline.IsZero() {
			<-q.ready
			continue
		}
		wait := time.Until(deadline)
		if wait <= 0 {
			return nil, netip.AddrPort{}, os.ErrDeadlineExceeded
		}
		if q.timer == nil {
			q.timer = time.NewTimer(wait)
		} else {
			q.timer.Reset(wait)
		}
		select {
		case <-q.ready:
		case <-q.timer.C:
		}
		q.timer.Stop()
	}
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
	q.wake()
	return nil
}

// Close drops what is held and takes the stream off the trunk. It may be called again.
func (q *Queue) Close() error {
	q.mu.Lock()
	was := q.closed
	q.closed, q.ring, q.n = true, nil, 0
	q.mu.Unlock()
	if !was && q.release != nil {
		q.release()
	}
	q.wake()
	return nil
}

// Next waits for the next datagram, which is the caller's; net.ErrClosed ends it. It is for readers that have no Inbox.
func (q *Queue) Next() ([]byte, error) {
	d, _, err := q.next(nil)
	return d, err
}

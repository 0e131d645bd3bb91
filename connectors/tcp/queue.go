package tcp

import (
	"sync"

	"ninja/connectors"
)

// Bounds of what a receiving end holds for its operator; one ADU is always let in. When they are reached the session is
// not read, and TCP tells the sender.
const (
	maxADUs  = 32
	maxBytes = 1 << 20
)

// queue stands between the session's goroutine (push, end, flushed) and the reader (the others).
type queue struct {
	ready chan struct{}   // something for the reader
	room  chan struct{}   // something for push
	done  <-chan struct{} // the session has ended

	mu       sync.Mutex
	adus     []connectors.ADU // from head on
	head     int
	bytes    int
	ended    bool
	left     bool
	flushing bool // drop what comes until the sender has taken the flush
}

type state int

const (
	waiting state = iota
	full
	ended
	left
)

func newQueue(done <-chan struct{}) *queue {
	return &queue{ready: make(chan struct{}, 1), room: make(chan struct{}, 1), done: done}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// push adds an ADU and blocks while the queue is full and the session lasts.
func (q *queue) push(a connectors.ADU) {
	for !q.tryPush(a) {
		select {
		case <-q.room:
		case <-q.done:
			return
		}
	}
}

func (q *queue) tryPush(a connectors.ADU) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.left || q.flushing {
		return true
	}
	n := len(q.adus) - q.head
	if n > 0 && (n >= maxADUs || q.bytes+len(a.Payload) > maxBytes) {
		return false
	}
	if q.head > 0 && len(q.adus) == cap(q.adus) {
		q.adus = q.adus[:copy(q.adus, q.adus[q.head:])]
		q.head = 0
	}
	q.adus = append(q.adus, a)
	q.bytes += len(a.Payload)
	wake(q.ready)
	return true
}

// pop takes the next ADU when the state is full.
func (q *queue) pop() (connectors.ADU, state) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.left:
		return connectors.ADU{}, left
	case q.head < len(q.adus):
		a := q.adus[q.head]
		q.adus[q.head] = connectors.ADU{}
		q.head++
		if q.head == len(q.adus) {
			q.adus, q.head = q.adus[:0], 0
		}
		q.bytes -= len(a.Payload)
		wake(q.room)
		return a, full
	case q.ended:
		return connectors.ADU{}, ended
	}
	return connectors.ADU{}, waiting
}

func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.head == len(q.adus) && !q.ended && !q.left
}

// end says that nothing more comes.
func (q *queue) end() { q.set(func() { q.ended = true }) }

// leave drops everything, now and later.
func (q *queue) leave() { q.set(func() { q.left = true; q.clear() }) }

// flush drops everything until flushed is called.
func (q *queue) flush() { q.set(func() { q.flushing = true; q.clear() }) }

// flushed ends the dropping.
func (q *queue) flushed() { q.set(func() { q.flushing = false }) }

func (q *queue) clear() {
	clear(q.adus)
	q.adus, q.head, q.bytes = q.adus[:0], 0, 0
}

func (q *queue) set(change func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	change()
	wake(q.ready)
	wake(q.room)
}

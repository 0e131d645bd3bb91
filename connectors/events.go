package connectors

import "sync"

// Bounds of events.
const (
	// MaxEvents is how many events wait for the sending end; beyond it the oldest is dropped.
	MaxEvents = 16
	// MaxEventText is the greatest length of an event's text in bytes.
	MaxEventText = 1024
)

// EventQueue is the bounded queue between the receiving end's Signal and the sending end's Events, which every
// transport needs. Its methods may be called by any goroutine and do not block.
type EventQueue struct {
	mu     sync.Mutex
	c      chan Event
	closed bool
}

// NewEventQueue makes an empty queue.
func NewEventQueue() *EventQueue { return &EventQueue{c: make(chan Event, MaxEvents)} }

// Put adds an event; when the queue is full the oldest gives way. After Close it does nothing.
func (q *EventQueue) Put(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed {
		select {
		case q.c <- e:
			return
		default:
		}
		select {
		case <-q.c:
		default:
		}
	}
}

// C delivers the events; it is closed by Close.
func (q *EventQueue) C() <-chan Event { return q.c }

// Close ends the queue. It may be called again.
func (q *EventQueue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.c)
	}
}

// Clip shortens the text of an event to what is allowed.
func (e Event) Clip() Event {
	e.Text = e.Text[:min(len(e.Text), MaxEventText)]
	return e
}

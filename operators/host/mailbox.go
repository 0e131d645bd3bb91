package host

import "sync"

// mailbox holds what waits for a slow taker. What must arrive stays in order and is never dropped: when it is too much
// the whole mailbox has overflowed, and its user ends the stream. Notes have a bound of their own and are dropped,
// newest first; of heartbeats only the latest is kept. Putting never blocks.
type mailbox[T any] struct {
	wake chan struct{} // holds a token when there may be something to take

	mu         sync.Mutex
	queue      []letter[T]
	notes      int
	beat       *T
	overflowed bool
}

type letter[T any] struct {
	what T
	note bool
}

const (
	maxLetters = 1024
	maxNotes   = 64
)

func newMailbox[T any]() *mailbox[T] {
	return &mailbox[T]{wake: make(chan struct{}, 1)}
}

// put adds what must arrive.
func (m *mailbox[T]) put(v T) { m.add(letter[T]{what: v}) }

// note adds what may be dropped.
func (m *mailbox[T]) note(v T) { m.add(letter[T]{what: v, note: true}) }

func (m *mailbox[T]) add(l letter[T]) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case l.note && m.notes == maxNotes:
		return
	case l.note:
		m.notes++
	case len(m.queue)-m.notes >= maxLetters:
		m.overflowed = true
		return
	}
	m.queue = append(m.queue, l)
	m.ring()
}

// heartbeat replaces the heartbeat that was not taken yet.
func (m *mailbox[T]) heartbeat(v T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beat = &v
	m.ring()
}

func (m *mailbox[T]) ring() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take returns the next letter, the heartbeat last. ok is false when there is none; overflowed when letters were lost.
func (m *mailbox[T]) take() (v T, ok, overflowed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.overflowed:
		return v, false, true
	case len(m.queue) > 0:
		l := m.queue[0]
		m.queue[0] = letter[T]{}
		m.queue = m.queue[1:]
		if l.note {
			m.notes--
		}
		return l.what, true, false
	case m.beat != nil:
		v = *m.beat
		m.beat = nil
		return v, true, false
	}
	return v, false, false
}

package udp

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"ninja/connectors"
	"ninja/connectors/hop"
)

// reader is the receiving end. It has no goroutine: Read itself waits at the socket.
type reader struct {
	session *hop.Session
	inbox   *hop.Inbox
	opener  opener // Read alone uses it
	once    sync.Once

	adus, bytes atomic.Uint64

	// Under the inbox's lock:
	buffer buffer
	credit credit
	closed bool
}

func newReader(s *hop.Session, in *hop.Inbox, cfg Config) (*reader, error) {
	opener, err := newOpener(s)
	if err != nil {
		return nil, err
	}
	r := &reader{session: s, inbox: in, opener: opener, buffer: buffer{reorder: cfg.Reorder}}
	r.credit = credit{granted: window, reorder: cfg.Reorder}
	change := r.inbox.Change
	s.Begin(hop.Handler{
		Mark:    func(m connectors.Mark, at uint64) { change(func() { r.buffer.mark(m, at, time.Now()) }) },
		End:     func(at uint64) { change(func() { r.buffer.finish(at, time.Now()) }) },
		Flushed: func(at uint64) { change(func() { r.buffer.flushed(at) }) },
		Sent:    func(n uint64) { change(func() { r.credit.waits(n, time.Now()) }) },
		Ended:   func() { change(func() {}) },
	})
	return r, nil
}

// Read implements connectors.Reader.
func (r *reader) Read(ctx context.Context) (connectors.ADU, error) {
	now := time.Now()
	r.inbox.Lock()
	r.inbox.Watch(ctx)
	r.buffer.listening = now
	r.inbox.Unlock()
	for {
		a, wait, err := r.decide(ctx, now)
		if !wait {
			return a, err
		}
		if a, now, wait = r.take(); !wait {
			return a, nil
		}
	}
}

// decide returns what Read returns, or says that it must wait at the socket.
func (r *reader) decide(ctx context.Context, now time.Time) (a connectors.ADU, wait bool, err error) {
	r.inbox.Lock()
	defer r.inbox.Unlock()
	r.inbox.Awake()
	if r.closed {
		return a, false, connectors.ErrClosed
	}
	a, v, until := r.buffer.take(now)
	switch v {
	case deliver:
		r.adus.Add(1)
		r.bytes.Add(uint64(len(a.Payload)))
		return a, false, nil
	case eof:
		return a, false, io.EOF
	}
	if err := ctx.Err(); err != nil {
		return a, false, err
	}
	if !r.buffer.ended { // after the end of the stream that of the session is nothing new
		select {
		case <-r.session.Done():
			return a, false, r.session.Err()
		default:
		}
	}
	overdue := r.credit.overdue(now, r.buffer.listening)
	if position, ok := r.credit.grant(r.buffer.room()); ok {
		r.session.Credit(position)
	}
	if !overdue.IsZero() && (until.IsZero() || overdue.Before(until)) {
		until = overdue
	}
	r.inbox.WaitUntil(until)
	return a, true, nil
}

// take waits for a datagram. It returns its ADU, or the time and that there is more to decide.
func (r *reader) take() (a connectors.ADU, now time.Time, wait bool) {
	d := r.inbox.Next()
	now = time.Now()
	if d == nil {
		return a, now, true
	}
	o, err := r.opener.open(d)
	if err != nil {
		r.inbox.Strange()
		return a, now, true
	}
	r.inbox.Genuine()
	f, err := parse(o.plain, r.opener.chunk)
	f.stamp = connectors.Received(o.age, r.session.Link(), now)
	r.inbox.Lock()
	defer r.inbox.Unlock()
	r.credit.came(o.number)
	if err == nil && !r.closed {
		if a, ok := r.buffer.pass(f); ok {
			r.inbox.Awake()
			r.adus.Add(1)
			r.bytes.Add(uint64(len(a.Payload)))
			return a, now, false
		}
	}
	if err != nil || !r.buffer.put(f, now) {
		r.inbox.Strange()
	}
	return a, now, true
}

// Signal implements connectors.Reader.
func (r *reader) Signal(e connectors.Event) error {
	if e.Kind == connectors.Flush {
		r.inbox.Change(r.buffer.flush)
	}
	return r.session.Signal(e)
}

// Close implements connectors.Reader.
func (r *reader) Close() error {
	r.once.Do(func() {
		r.inbox.Change(func() { r.closed = true })
		r.inbox.Close()
		r.session.Leave()
	})
	return nil
}

// Stats implements connectors.Measured.
func (r *reader) Stats() connectors.Stats {
	r.inbox.Lock()
	lost, late := r.buffer.lost, r.buffer.late
	r.inbox.Unlock()
	return connectors.Stats{
		ADUs: r.adus.Load(), Bytes: r.bytes.Load(), Lost: lost, Late: late, Link: r.session.Link(),
	}
}

// credit decides how far the sender may go, in datagrams. It is pure: the time is handed in.
type credit struct {
	reorder time.Duration
	seen    uint64 // the latest datagram that has come, or that is known to be lost
	granted uint64
	sent    uint64 // what the sender says it has sent, and waits
	sentAt  time.Time
}

// came takes the number of a datagram, from 1.
func (c *credit) came(number uint64) { c.seen = max(c.seen, number) }

// waits takes the sender's word that it waits for credit.
func (c *credit) waits(sent uint64, now time.Time) {
	c.sent, c.sentAt = min(sent, c.granted), now // more than was granted it cannot have sent
}

// overdue counts what was sent and has not come as lost when it is time, or says when that is. What may stand in the
// socket since before the reader listened is not lost yet.
func (c *credit) overdue(now, listening time.Time) time.Time {
	if c.sent <= c.seen {
		return time.Time{}
	}
	due := c.sentAt.Add(c.reorder)
	if least := listening.Add(drain); least.After(due) {
		due = least
	}
	if due.After(now) {
		return due
	}
	c.seen = c.sent
	return time.Time{}
}

// grant returns the credit to give, if it is worth saying.
func (c *credit) grant(room bool) (position uint64, ok bool) {
	if position = c.seen + window; !room || position < c.granted+window/2 {
		return 0, false
	}
	c.granted = position
	return position, true
}

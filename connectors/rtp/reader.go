package rtp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"ninja/connectors"
	"ninja/connectors/hop"
)

// reader is the receiving end. It has no goroutine: Read itself waits at the socket, so that a packet wakes nobody but
// the operator. What else can end its wait (the session's goroutine, a context, Close) moves the socket's deadline.
type reader struct {
	session  *hop.Session
	conn     net.PacketConn
	receive  func([]byte) (int, netip.AddrPort, error)
	opener   opener // Read alone uses it, and the three below
	clock    jitter
	source   netip.AddrPort // of the first genuine datagram
	datagram [maxPacket + 1]byte
	once     sync.Once

	adus, bytes atomic.Uint64
	strange     atomic.Uint64 // datagrams that were not genuine, or came from elsewhere
	jitter      atomic.Int64

	mu       sync.Mutex
	buffer   buffer
	closed   bool
	done     <-chan struct{} // of the context that Read was called with last
	unwatch  func() bool
	waiting  bool      // at the socket
	deadline time.Time // of the socket
}

func newReader(s *hop.Session, conn net.PacketConn, f format, cfg Config) (*reader, error) {
	k, err := deriveKeys(s)
	if err != nil {
		return nil, err
	}
	r := &reader{session: s, conn: conn, receive: receiver(conn), opener: opener{keys: k, format: f}}
	r.buffer = buffer{format: f, reorder: cfg.Reorder, playout: cfg.Playout}
	s.Begin(hop.Handler{
		Mark:    func(m connectors.Mark, at uint64) { r.change(func() { r.buffer.mark(m, at) }) },
		End:     func(at uint64) { r.change(func() { r.buffer.finish(at, time.Now()) }) },
		Flushed: func(at uint64) { r.change(func() { r.buffer.flushed(at) }) },
		Ended:   func() { r.change(func() {}) },
	})
	return r, nil
}

// change changes what Read decides by, and makes a Read that waits decide again.
func (r *reader) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	if r.waiting {
		r.setDeadline(longAgo)
	}
}

var longAgo = time.Unix(1, 0)

// setDeadline sets the socket's deadline; the caller holds mu.
func (r *reader) setDeadline(t time.Time) {
	if !t.Equal(r.deadline) {
		r.deadline = t
		r.conn.SetReadDeadline(t)
	}
}

// receiver returns the way to read a datagram that allocates least.
func receiver(c net.PacketConn) func([]byte) (int, netip.AddrPort, error) {
	if u, ok := c.(*net.UDPConn); ok {
		return u.ReadFromUDPAddrPort
	}
	return func(b []byte) (int, netip.AddrPort, error) {
		n, from, err := c.ReadFrom(b)
		if a, ok := from.(*net.UDPAddr); ok {
			return n, a.AddrPort(), err
		}
		return n, netip.AddrPort{}, err
	}
}

// Read implements connectors.Reader.
func (r *reader) Read(ctx context.Context) (connectors.ADU, error) {
	r.mu.Lock()
	r.watch(ctx)
	r.buffer.listening = time.Now()
	r.mu.Unlock()
	for {
		a, wait, err := r.decide(ctx)
		if !wait {
			return a, err
		}
		r.take()
	}
}

// watch makes the end of ctx end a wait. A context stays registered, because operators pass the same one each time.
func (r *reader) watch(ctx context.Context) {
	if ctx.Done() == r.done {
		return
	}
	if r.unwatch != nil {
		r.unwatch()
	}
	r.done, r.unwatch = ctx.Done(), nil
	if r.done != nil {
		r.unwatch = context.AfterFunc(ctx, func() { r.change(func() {}) })
	}
}

// decide returns what Read returns, or says that it must wait at the socket, whose deadline it has set.
func (r *reader) decide(ctx context.Context) (a connectors.ADU, wait bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = false
	if r.closed {
		return a, false, connectors.ErrClosed
	}
	a, v, until := r.buffer.take(time.Now())
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
	r.waiting = true
	r.setDeadline(until)
	return a, true, nil
}

// take waits for a datagram. The first genuine one fixes the address that all others must come from; what is not genuine
// is counted and never answered.
func (r *reader) take() {
	n, from, err := r.receive(r.datagram[:])
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return
	}
	if err != nil || n > maxPacket || r.source.IsValid() && from != r.source {
		r.strange.Add(1)
		return
	}
	p, err := r.opener.open(r.datagram[:n])
	if err != nil {
		r.strange.Add(1)
		return
	}
	r.source = from
	now := time.Now()
	r.jitter.Store(int64(r.clock.sample(now, r.opener.format.span(p.time))))
	p.payload = append(make([]byte, 0, len(p.payload)), p.payload...)
	r.mu.Lock()
	r.buffer.put(p, now)
	r.mu.Unlock()
}

// Signal implements connectors.Reader.
func (r *reader) Signal(e connectors.Event) error {
	if e.Kind == connectors.Flush {
		r.change(r.buffer.flush)
	}
	return r.session.Signal(e)
}

// Close implements connectors.Reader.
func (r *reader) Close() error {
	r.once.Do(func() {
		r.change(func() { r.closed = true })
		r.conn.Close()
		r.session.Leave()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.unwatch != nil {
			r.unwatch()
		}
	})
	return nil
}

// Stats implements connectors.Measured.
func (r *reader) Stats() connectors.Stats {
	r.mu.Lock()
	lost, late := r.buffer.lost, r.buffer.late
	r.mu.Unlock()
	return connectors.Stats{
		ADUs: r.adus.Load(), Bytes: r.bytes.Load(), Lost: lost, Late: late,
		Link: r.session.Link(), Jitter: time.Duration(r.jitter.Load()),
	}
}

// jitter estimates the interarrival jitter (RFC 3550, 6.4.1 and A.8).
type jitter struct {
	transit  time.Duration
	estimate time.Duration
	start    time.Time
}

// sample takes the arrival of a packet with the media time and returns the estimate.
func (j *jitter) sample(arrived time.Time, media time.Duration) time.Duration {
	if j.start.IsZero() {
		j.start = arrived
		j.transit = -media
		return 0
	}
	transit := arrived.Sub(j.start) - media
	d := (transit - j.transit).Abs()
	j.transit = transit
	j.estimate += (d - j.estimate) / 16
	return j.estimate
}

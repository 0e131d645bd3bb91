package rtp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ninja/connectors"
	"ninja/connectors/hop"
)

// reader is the receiving end. One goroutine of its own takes datagrams; the session's goroutine brings marks, the end
// and answers to flushes; Read delivers.
type reader struct {
	session *hop.Session
	conn    net.PacketConn
	ready   chan struct{}
	timer   *time.Timer
	once    sync.Once
	receive sync.WaitGroup

	adus, bytes atomic.Uint64
	strange     atomic.Uint64 // datagrams that were not genuine, or came from elsewhere
	jitter      atomic.Int64

	mu     sync.Mutex
	buffer buffer
	closed bool
}

func newReader(s *hop.Session, conn net.PacketConn, f format, cfg Config) (*reader, error) {
	k, err := deriveKeys(s)
	if err != nil {
		return nil, err
	}
	t := time.NewTimer(time.Hour)
	t.Stop()
	r := &reader{session: s, conn: conn, ready: make(chan struct{}, 1), timer: t}
	r.buffer = buffer{format: f, reorder: cfg.Reorder, playout: cfg.Playout}
	s.Begin(hop.Handler{
		Mark:    func(m connectors.Mark, at uint64) { r.change(func() { r.buffer.mark(m, at) }) },
		End:     func(at uint64) { r.change(func() { r.buffer.finish(at, time.Now()) }) },
		Flushed: func(at uint64) { r.change(func() { r.buffer.flushed(at) }) },
	})
	r.receive.Go(func() { r.datagrams(opener{keys: k, format: f}) })
	return r, nil
}

// change changes the buffer and wakes Read.
func (r *reader) change(f func()) {
	r.mu.Lock()
	f()
	r.mu.Unlock()
	r.wake()
}

func (r *reader) wake() {
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// datagrams takes datagrams until the socket is closed. The first genuine one fixes the address that all others must
// come from; what is not genuine is counted and never answered.
func (r *reader) datagrams(o opener) {
	var (
		b       [maxPacket + 1]byte
		source  netip.AddrPort
		clock   jitter
		receive = receiver(r.conn)
	)
	for {
		n, from, err := receive(b[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n > maxPacket || source.IsValid() && from != source {
			r.strange.Add(1)
			continue
		}
		p, err := o.open(b[:n])
		if err != nil {
			r.strange.Add(1)
			continue
		}
		source = from
		now := time.Now()
		r.jitter.Store(int64(clock.sample(now, o.format.span(p.time))))
		p.payload = append(make([]byte, 0, len(p.payload)), p.payload...)
		r.mu.Lock()
		r.buffer.put(p, now)
		r.mu.Unlock()
		r.wake()
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
	for {
		r.mu.Lock()
		closed, ended := r.closed, r.buffer.ended
		a, v, until := r.buffer.take(time.Now())
		r.mu.Unlock()
		switch {
		case closed:
			return connectors.ADU{}, connectors.ErrClosed
		case v == deliver:
			r.adus.Add(1)
			r.bytes.Add(uint64(len(a.Payload)))
			return a, nil
		case v == eof:
			return a, io.EOF
		}
		var over <-chan struct{}
		if !ended {
			over = r.session.Done() // after the end the session's end is nothing new
		}
		var due <-chan time.Time
		if !until.IsZero() {
			r.timer.Reset(time.Until(until))
			due = r.timer.C
		}
		select {
		case <-r.ready:
		case <-due:
		case <-over:
			if !r.ended() {
				return a, r.session.Err()
			}
		case <-ctx.Done():
			return a, ctx.Err()
		}
	}
}

func (r *reader) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buffer.ended || r.closed
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
		r.receive.Wait()
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

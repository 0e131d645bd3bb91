package rtp

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
	opener  opener // Read alone uses it, and those to slab
	clock   jitter
	arrived time.Time // of the last packet, until report has seen it
	reports reporter
	slab    connectors.Slab
	once    sync.Once

	adus, bytes atomic.Uint64
	jitter      atomic.Int64

	// Under the inbox's lock:
	buffer buffer
	closed bool
}

func newReader(s *hop.Session, in *hop.Inbox, f format, t connectors.Type, cfg Config) (*reader, error) {
	k, err := deriveKeys(s)
	if err != nil {
		return nil, err
	}
	r := &reader{session: s, inbox: in, opener: opener{keys: k, format: f}}
	r.buffer = buffer{format: f, textType: ptT140, reorder: cfg.Reorder, playout: playout{initial: cfg.Playout, most: cfg.PlayoutMost, bound: cfg.bound}}
	if c := cfg.Conceal; c != nil {
		r.buffer.conceal = func(last []byte, n, run int) []byte { return c(t, last, n, run) }
	}
	change := r.inbox.Change
	r.reports = reporter{ssrc: k.ssrc, sequence: k.sequence, wanted: s.Extra() == wantsReports}
	s.Begin(hop.Handler{
		Mark:    func(m connectors.Mark, at uint64) { change(func() { r.buffer.mark(m, at, time.Now()) }) },
		End:     func(at uint64) { change(func() { r.buffer.finish(at, time.Now()) }) },
		Flushed: func(at uint64) { change(func() { r.buffer.flushed(at) }) },
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
	r.inbox.WaitUntil(until)
	return a, true, nil
}

// take waits for a datagram. It returns its ADU, or the time and that there is more to decide.
func (r *reader) take() (a connectors.ADU, now time.Time, wait bool) {
	r.report()
	d := r.inbox.Next()
	now = time.Now()
	if d == nil {
		return a, now, true
	}
	p, err := r.opener.open(d)
	if err != nil {
		r.inbox.Strange()
		return a, now, true
	}
	r.inbox.Genuine()
	r.arrived = now
	if p.stamp != nil {
		p.stamp = connectors.Received(p.stamp.Age, r.session.Link(), now)
	}
	r.jitter.Store(int64(r.clock.sample(now, r.opener.format.span(p.time))))
	if !r.session.Trunked() { // there it is ours already
		p.payload = r.slab.Copy(p.payload)
	}
	r.inbox.Lock()
	defer r.inbox.Unlock()
	if !r.closed {
		if a, ok := r.buffer.pass(p); ok {
			r.inbox.Awake()
			r.adus.Add(1)
			r.bytes.Add(uint64(len(a.Payload)))
			return a, now, false
		}
	}
	if !r.opener.format.text {
		r.buffer.put(p, now)
	} else if !r.buffer.putText(p, now) {
		r.inbox.Strange()
	}
	return a, now, true
}

// report tells the sending end when it is time, by the packet that came last: before the next wait, not between a packet
// and who reads it.
func (r *reader) report() {
	if r.arrived.IsZero() {
		return
	}
	r.inbox.Lock()
	lost := r.buffer.lost
	r.inbox.Unlock()
	if b := r.reports.due(r.arrived, r.opener.position, lost, r.opener.format.samples(r.clock.estimate)); b != nil {
		r.session.Report(b)
	}
	r.arrived = time.Time{}
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

// Package tcp carries ADUs, each framed by its length, over the hop's own TLS session: in order, without loss, encrypted,
// with TCP's back pressure. It carries every type.
package tcp

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/connectors/hop"
	"ninja/internal/world"
)

// Config of a Transport.
type Config struct {
	// Hops is where Listen waits for senders; nil makes a transport that only dials.
	Hops *hop.Server
	// Identity and World are required.
	Identity *ca.Identity
	World    world.World
	// Linger is how long Close waits for the receiving end to have everything; 0 is 2 s.
	Linger time.Duration
}

// scheme is how addresses begin.
const scheme = "tcp"

// New makes the transport.
func New(cfg Config) connectors.Transport {
	if cfg.Linger == 0 {
		cfg.Linger = 2 * time.Second
	}
	return &transport{cfg}
}

type transport struct{ cfg Config }

// Scheme implements connectors.Transport.
func (*transport) Scheme() string { return scheme }

// Listen implements connectors.Transport.
func (t *transport) Listen(_ context.Context, h connectors.Hop) (connectors.Pending, error) {
	if t.cfg.Hops == nil {
		return nil, fmt.Errorf("listen for %s: this process has no hop server", h.Name)
	}
	p, err := t.cfg.Hops.Expect(scheme, h, hop.TakesStamps)
	if err != nil {
		return nil, err
	}
	return pending{p}, nil
}

// Dial implements connectors.Transport.
func (t *transport) Dial(ctx context.Context, address string, h connectors.Hop) (connectors.Writer, error) {
	s, err := hop.Dial(ctx, hop.DialConfig{
		Identity: t.cfg.Identity, World: t.cfg.World, Scheme: scheme, Address: address, Hop: h,
	})
	if err != nil {
		return nil, err
	}
	w := &writer{session: s, linger: t.cfg.Linger, events: connectors.NewEventQueue()}
	s.Begin(hop.Handler{
		Event: w.events.Put,
		Ended: w.events.Close,
	})
	return w, nil
}

type pending struct{ *hop.Pending }

// Accept implements connectors.Pending.
func (p pending) Accept(ctx context.Context) (connectors.Reader, error) {
	s, err := p.Pending.Accept(ctx)
	if err != nil {
		return nil, err
	}
	r := &reader{session: s, queue: newQueue(s.Done())}
	s.Begin(hop.Handler{ADU: r.queue.push, End: func(uint64) { r.queue.end() }, Flushed: func(uint64) { r.queue.flushed() }})
	return r, nil
}

// count is what an end has seen; one goroutine adds, any may read.
type count struct{ adus, bytes atomic.Uint64 }

func (c *count) add(n int) {
	c.adus.Add(1)
	c.bytes.Add(uint64(n))
}

type writer struct {
	session *hop.Session
	linger  time.Duration
	events  *connectors.EventQueue
	seq     uint64
	count   count
	once    sync.Once
	result  error
}

// Write implements connectors.Writer.
func (w *writer) Write(ctx context.Context, a connectors.ADU) error {
	w.seq++
	if a.Seq == 0 {
		a.Seq = w.seq
	} else {
		w.seq = a.Seq
	}
	if err := w.session.Send(ctx, a); err != nil {
		return err
	}
	w.count.add(len(a.Payload))
	return nil
}

// Events implements connectors.Writer.
func (w *writer) Events() <-chan connectors.Event { return w.events.C() }

// Close implements connectors.Writer.
func (w *writer) Close() error {
	w.once.Do(func() { w.result = w.session.Finish(0, w.linger) })
	return w.result
}

// Abort implements connectors.Aborter.
func (w *writer) Abort(cause error) {
	w.once.Do(func() { w.session.Abort(cause.Error()) })
}

// Stats implements connectors.Measured.
func (w *writer) Stats() connectors.Stats {
	return connectors.Stats{ADUs: w.count.adus.Load(), Bytes: w.count.bytes.Load(), Link: w.session.Link()}
}

type reader struct {
	session *hop.Session
	queue   *queue
	count   count
	once    sync.Once
}

// Read implements connectors.Reader.
func (r *reader) Read(ctx context.Context) (connectors.ADU, error) {
	for {
		a, state := r.queue.pop()
		switch state {
		case full:
			r.count.add(len(a.Payload))
			return a, nil
		case ended:
			return a, io.EOF
		case left:
			return a, connectors.ErrClosed
		}
		select {
		case <-r.queue.ready:
		case <-ctx.Done():
			return a, ctx.Err()
		case <-r.session.Done():
			if r.queue.empty() {
				return a, r.session.Err()
			}
		}
	}
}

// Signal implements connectors.Reader.
func (r *reader) Signal(e connectors.Event) error {
	if e.Kind == connectors.Flush {
		r.queue.flush()
	}
	return r.session.Signal(e)
}

// Close implements connectors.Reader.
func (r *reader) Close() error {
	r.once.Do(func() {
		r.queue.leave()
		r.session.Leave()
	})
	return nil
}

// Stats implements connectors.Measured.
func (r *reader) Stats() connectors.Stats {
	return connectors.Stats{ADUs: r.count.adus.Load(), Bytes: r.count.bytes.Load(), Link: r.session.Link()}
}

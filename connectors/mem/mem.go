// Package mem joins two operators of one process: a bounded queue of ADUs, nothing copied, nothing encrypted.
package mem

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"ninja/connectors"
)

// Depth is how many ADUs a hop of the Transport holds.
const Depth = 16

// pipe is one hop. The sending end alone closes data, so that the queue drains before its end is seen.
type pipe struct {
	data   chan connectors.ADU
	events *connectors.EventQueue
	// aborted is why data was closed; nil is the end of the stream. It is set before the closing.
	aborted error
	// left is closed when the receiving end closes.
	left     chan struct{}
	leftOnce sync.Once
}

// Pair makes a hop that holds n ADUs; 0 is Depth.
func Pair(n int) (connectors.Writer, connectors.Reader) {
	if n <= 0 {
		n = Depth
	}
	p := &pipe{data: make(chan connectors.ADU, n), events: connectors.NewEventQueue(), left: make(chan struct{})}
	return &writer{pipe: p}, &reader{pipe: p}
}

// count is what an end has seen. Its two halves are written by one goroutine and read by any.
type count struct{ adus, bytes atomic.Uint64 }

func (c *count) add(a connectors.ADU) {
	// One goroutine adds, so a load and a store do what the dearer atomic addition would.
	c.adus.Store(c.adus.Load() + 1)
	c.bytes.Store(c.bytes.Load() + uint64(len(a.Payload)))
}

// Stats implements connectors.Measured.
func (c *count) Stats() connectors.Stats {
	return connectors.Stats{ADUs: c.adus.Load(), Bytes: c.bytes.Load()}
}

type writer struct {
	*pipe
	count
	seq    uint64
	closed atomic.Bool
}

// Write implements connectors.Writer.
func (w *writer) Write(ctx context.Context, a connectors.ADU) error {
	if w.closed.Load() {
		return connectors.ErrClosed
	}
	if len(a.Payload) > connectors.MaxPayload {
		return fmt.Errorf("ADU of %d bytes: at most %d are allowed; split it", len(a.Payload), connectors.MaxPayload)
	}
	w.seq++
	if a.Seq == 0 {
		a.Seq = w.seq
	} else {
		w.seq = a.Seq
	}
	select {
	case <-w.left:
		return connectors.ErrClosed
	default:
	}
	select {
	case w.data <- a:
	default:
		select {
		case w.data <- a:
		case <-w.left:
			return connectors.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w.add(a)
	return nil
}

// Events implements connectors.Writer.
func (w *writer) Events() <-chan connectors.Event { return w.events.C() }

// Close implements connectors.Writer. What is queued can still be read.
func (w *writer) Close() error {
	w.end(nil)
	return nil
}

// Abort implements connectors.Aborter. What is queued can still be read.
func (w *writer) Abort(cause error) { w.end(fmt.Errorf("%w: %w", connectors.ErrAborted, cause)) }

func (w *writer) end(aborted error) {
	if !w.closed.Swap(true) {
		w.aborted = aborted
		close(w.data)
		w.events.Close()
	}
}

type reader struct {
	*pipe
	count
}

// Read implements connectors.Reader.
func (r *reader) Read(ctx context.Context) (connectors.ADU, error) {
	select {
	case <-r.left:
		return connectors.ADU{}, connectors.ErrClosed
	default:
	}
	select {
	case a, ok := <-r.data:
		return r.took(a, ok)
	default:
	}
	select {
	case a, ok := <-r.data:
		return r.took(a, ok)
	case <-r.left:
		return connectors.ADU{}, connectors.ErrClosed
	case <-ctx.Done():
		return connectors.ADU{}, ctx.Err()
	}
}

func (r *reader) took(a connectors.ADU, ok bool) (connectors.ADU, error) {
	if !ok && r.aborted != nil {
		return a, r.aborted
	}
	if !ok {
		return a, io.EOF
	}
	r.add(a)
	return a, nil
}

// Signal implements connectors.Reader.
func (r *reader) Signal(e connectors.Event) error {
	select {
	case <-r.left:
		return connectors.ErrClosed
	default:
	}
	if e.Kind == connectors.Flush {
		r.drop()
	}
	r.events.Put(e.Clip())
	return nil
}

// drop empties the queue of what stood in it when it was called.
func (r *reader) drop() {
	for range len(r.data) {
		select {
		case <-r.data:
		default:
			return
		}
	}
}

// Close implements connectors.Reader.
func (r *reader) Close() error {
	r.leftOnce.Do(func() {
		close(r.left)
		r.events.Close()
	})
	return nil
}

// Transport makes hops inside the process.
type Transport struct {
	mu      sync.Mutex
	waiting map[connectors.StreamID]*pending
	drawn   uint64
}

// New makes a Transport. Both ends of a hop must use the same one.
func New() connectors.Transport {
	return &Transport{waiting: make(map[connectors.StreamID]*pending)}
}

// Scheme implements connectors.Transport.
func (*Transport) Scheme() string { return "mem" }

// maxWaiting bounds the hops that wait for their sender.
const maxWaiting = 4096

// Listen implements connectors.Transport.
func (t *Transport) Listen(_ context.Context, h connectors.Hop) (connectors.Pending, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.Stream == (connectors.StreamID{}) {
		t.drawn++ // names within one process need not be unguessable
		binary.BigEndian.PutUint64(h.Stream[:], t.drawn)
	}
	if _, taken := t.waiting[h.Stream]; taken || len(t.waiting) >= maxWaiting {
		return nil, fmt.Errorf("listen for %s: the stream is taken or %d hops wait for their senders", h.Name, maxWaiting)
	}
	p := &pending{transport: t, hop: h, arrived: make(chan connectors.Reader, 1), closed: make(chan struct{})}
	t.waiting[h.Stream] = p
	return p, nil
}

// Dial implements connectors.Transport.
func (t *Transport) Dial(_ context.Context, address string, h connectors.Hop) (connectors.Writer, error) {
	a, err := connectors.ParseAddress("mem", address)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.waiting[a.Stream]
	switch {
	case !ok || h.Stream != (connectors.StreamID{}) && h.Stream != a.Stream:
		return nil, fmt.Errorf("%w: no such stream: %s", connectors.ErrRefused, address)
	case p.hop.Epoch != h.Epoch:
		return nil, fmt.Errorf("%w: it is for epoch %d, not %d", connectors.ErrRefused, p.hop.Epoch, h.Epoch)
	case p.hop.Type != h.Type:
		return nil, fmt.Errorf("%w: it is for %s, not %s", connectors.ErrRefused, p.hop.Type, h.Type)
	}
	delete(t.waiting, a.Stream)
	w, r := Pair(Depth)
	p.arrived <- r
	return w, nil
}

type pending struct {
	transport *Transport
	hop       connectors.Hop
	arrived   chan connectors.Reader
	closed    chan struct{}
	once      sync.Once
}

// Address implements connectors.Pending.
func (p *pending) Address() string {
	return connectors.Address{Scheme: "mem", Host: "local:0", Stream: p.hop.Stream}.String()
}

// Accept implements connectors.Pending.
func (p *pending) Accept(ctx context.Context) (connectors.Reader, error) {
	select {
	case r := <-p.arrived:
		return r, nil
	case <-p.closed:
		return nil, connectors.ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the sender of %s: %w", p.hop.Name, ctx.Err())
	}
}

// Close implements connectors.Pending.
func (p *pending) Close() error {
	p.once.Do(func() {
		p.transport.mu.Lock()
		if p.transport.waiting[p.hop.Stream] == p {
			delete(p.transport.waiting, p.hop.Stream)
		}
		p.transport.mu.Unlock()
		close(p.closed)
		select {
		case r := <-p.arrived:
			r.Close()
		default:
		}
	})
	return nil
}

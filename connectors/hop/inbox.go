package hop

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// MaxDatagram is the longest datagram that an Inbox takes.
const MaxDatagram = 1400

// Inbox is where the datagrams of a receiving end come in: a socket of its own, or its Queue on a trunk. The end has no
// goroutine: its Read itself waits here, so that a packet wakes nobody but the operator. What else can end the wait (the
// session's goroutine, a context, Close) moves the deadline. The first genuine datagram fixes the address that all others
// must come from; what is not genuine is counted and never answered.
//
// The Inbox is also the lock of what the reader decides by.
type Inbox struct {
	in       datagrams
	strange  atomic.Uint64
	source   netip.AddrPort // of the first genuine datagram; the reader alone uses it, and the two below
	from     netip.AddrPort
	datagram [MaxDatagram + 1]byte

	mu       sync.Mutex
	done     <-chan struct{} // of the context that was watched last
	unwatch  func() bool
	waiting  bool      // at the socket
	deadline time.Time // of the socket
}

// datagrams is what an Inbox takes datagrams from.
type datagrams interface {
	// next waits for a datagram until the deadline; it may use the buffer.
	next(buffer []byte) ([]byte, netip.AddrPort, error)
	SetReadDeadline(t time.Time) error
	Close() error
}

// newInbox makes an Inbox, which owns the socket or the queue from now on.
func newInbox(from datagrams) *Inbox { return &Inbox{in: from} }

// socket is a hop's own.
type socket struct {
	net.PacketConn
	receive func([]byte) (int, netip.AddrPort, error)
}

func newSocket(c net.PacketConn) *socket { return &socket{c, receiver(c)} }

func (s *socket) next(buffer []byte) ([]byte, netip.AddrPort, error) {
	n, from, err := s.receive(buffer)
	return buffer[:n], from, err
}

// receiver returns the way to read a datagram that allocates least.
func receiver(c net.PacketConn) func([]byte) (int, netip.AddrPort, error) {
	if u, ok := c.(*net.UDPConn); ok {
		if in := newInlet(u); in != nil {
			return in.read
		}
	}
	return func(b []byte) (int, netip.AddrPort, error) {
		n, from, err := c.ReadFrom(b)
		if a, ok := from.(*net.UDPAddr); ok {
			return n, a.AddrPort(), err
		}
		return n, netip.AddrPort{}, err
	}
}

// Lock locks what the reader decides by.
func (b *Inbox) Lock() { b.mu.Lock() }

// Unlock unlocks it.
func (b *Inbox) Unlock() { b.mu.Unlock() }

// Change changes, under the lock, what the reader decides by, and makes a reader that waits decide again.
func (b *Inbox) Change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	if b.waiting {
		b.setDeadline(longAgo)
	}
}

// Watch makes the end of ctx end a wait. A context stays registered, because operators pass the same one each time. The
// caller holds the lock.
func (b *Inbox) Watch(ctx context.Context) {
	if ctx.Done() == b.done {
		return
	}
	if b.unwatch != nil {
		b.unwatch()
	}
	b.done, b.unwatch = ctx.Done(), nil
	if b.done != nil {
		b.unwatch = context.AfterFunc(ctx, func() { b.Change(func() {}) })
	}
}

// WaitUntil says that the reader is about to call Next, which then ends at the time; zero is none. The caller holds the
// lock.
func (b *Inbox) WaitUntil(t time.Time) {
	b.waiting = true
	b.setDeadline(t)
}

// Awake says that the reader decides and does not wait. The caller holds the lock.
func (b *Inbox) Awake() { b.waiting = false }

func (b *Inbox) setDeadline(t time.Time) {
	if !t.Equal(b.deadline) {
		b.deadline = t
		b.in.SetReadDeadline(t)
	}
}

// Next waits for a datagram; nil says to decide anew. The datagram is valid until the next call. The caller says of it
// whether it was Genuine or Strange, and does not hold the lock.
func (b *Inbox) Next() []byte {
	d, from, err := b.in.next(b.datagram[:])
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed):
	case err != nil || len(d) > MaxDatagram || len(d) == 0 || b.source.IsValid() && from != b.source:
		b.Strange()
	default:
		b.from = from
		return d
	}
	return nil
}

// Genuine says that the datagram that Next gave was the sending end's.
func (b *Inbox) Genuine() { b.source = b.from }

// Strange says that it was not.
func (b *Inbox) Strange() { b.strange.Add(1) }

// Strangers counts the datagrams that were not the sending end's.
func (b *Inbox) Strangers() uint64 { return b.strange.Load() }

// Addr is the address of the hop's own socket; nil on a trunk.
func (b *Inbox) Addr() net.Addr {
	if s, ok := b.in.(*socket); ok {
		return s.LocalAddr()
	}
	return nil
}

// Close closes the socket, or takes the stream off its trunk.
func (b *Inbox) Close() {
	b.in.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unwatch != nil {
		b.unwatch()
	}
}

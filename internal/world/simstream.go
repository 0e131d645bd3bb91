package world

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// backlog is how many streams wait to be accepted; those beyond are refused.
	backlog = 128
	// window is how many bytes of a stream may be under way or unread.
	window = 64 << 10
)

// listener accepts streams of a Sim.
type listener struct {
	host   *host
	at     netip.AddrPort
	queue  chan *stream
	closed chan struct{}
	once   sync.Once
}

// Listen implements Network.
func (h *host) Listen(_ context.Context, network, address string) (net.Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, err := h.bind(network, address, func(p uint16) bool { return h.listeners[p] != nil })
	if err != nil {
		return nil, err
	}
	l := &listener{host: h, at: at, queue: make(chan *stream, backlog), closed: make(chan struct{})}
	h.listeners[at.Port()] = l
	return l, nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Close implements net.Listener. Streams nobody accepted are closed.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.host.mu.Lock()
		delete(l.host.listeners, l.at.Port())
		l.host.mu.Unlock()
		close(l.closed)
		for {
			select {
			case c := <-l.queue:
				c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// Dial implements Network: "tcp" networks take a round trip, "udp" none.
func (h *host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if strings.HasPrefix(network, "udp") {
		return h.dialPacket(network, address)
	}
	ip, port, err := h.resolve(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s %s: %w", network, address, err)
	}
	h.mu.Lock()
	h.port = max(h.port+1, 40_000)
	local := netip.AddrPortFrom(h.ip, h.port)
	h.mu.Unlock()
	remote := netip.AddrPortFrom(ip, port)
	there, back := h.sim.link(h.ip, ip), h.sim.link(ip, h.ip)
	near, far := newStreams(local, remote, there, back)
	answer := make(chan error, 1)
	there.stream(func() {
		err := h.sim.host(ip).knock(far)
		// The answer is sent by another goroutine: the two links may be one, which is locked now.
		go back.stream(func() { answer <- err })
	})
	select {
	case err := <-answer:
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Addr: near.RemoteAddr(), Err: err}
		}
		return near, nil
	case <-ctx.Done():
		near.Close()
		return nil, fmt.Errorf("dial %s %s: %w", network, address, ctx.Err())
	}
}

// knock offers a stream to whoever listens.
func (h *host) knock(c *stream) error {
	h.mu.Lock()
	l := h.listeners[c.local.Port()]
	h.mu.Unlock()
	if l == nil {
		return syscall.ECONNREFUSED
	}
	select {
	case <-l.closed:
	case l.queue <- c:
		return nil
	default:
	}
	return syscall.ECONNREFUSED
}

// flow is one direction of a stream: what has arrived, and how much is under way.
type flow struct {
	mu       sync.Mutex
	arrived  []byte
	underway int
	ended    bool // the sender has closed and all has arrived
	gone     bool // the reader has closed, and the sender knows
	// changed is closed and replaced at every change.
	changed chan struct{}
}

func (f *flow) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

// stream is one end of a stream.
type stream struct {
	local, remote netip.AddrPort
	in, out       *flow
	link          *link // that out takes
	closed        chan struct{}
	once, endOnce sync.Once
	read, write   deadline
}

func newStreams(a, b netip.AddrPort, there, back *link) (near, far *stream) {
	x, y := &flow{changed: make(chan struct{})}, &flow{changed: make(chan struct{})}
	return &stream{local: a, remote: b, in: y, out: x, link: there, closed: make(chan struct{})},
		&stream{local: b, remote: a, in: x, out: y, link: back, closed: make(chan struct{})}
}

// Read implements net.Conn.
func (c *stream) Read(b []byte) (int, error) {
	for {
		over := c.read.wait()
		select {
		case <-c.closed:
			return 0, c.fail("read", net.ErrClosed)
		case <-over:
			return 0, c.fail("read", os.ErrDeadlineExceeded)
		default:
		}
		n := 0
		c.in.mu.Lock()
		changed, ended := c.in.changed, c.in.ended
		has := len(c.in.arrived) > 0
		c.in.mu.Unlock()
		if has || len(b) == 0 {
			c.in.change(func() {
				n = copy(b, c.in.arrived)
				c.in.arrived = slices.Delete(c.in.arrived, 0, n)
			})
			return n, nil
		}
		if ended {
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-over:
		case <-c.closed:
		}
	}
}

// Write implements net.Conn.
func (c *stream) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		over := c.write.wait()
		select {
		case <-c.closed:
			return written, c.fail("write", net.ErrClosed)
		case <-over:
			return written, c.fail("write", os.ErrDeadlineExceeded)
		default:
		}
		c.out.mu.Lock()
		changed, gone := c.out.changed, c.out.gone
		n := min(len(b)-written, window-c.out.underway-len(c.out.arrived))
		if n > 0 {
			c.out.underway += n
		}
		c.out.mu.Unlock()
		if gone {
			return written, c.fail("write", syscall.EPIPE)
		}
		if n > 0 {
			piece, out := slices.Clone(b[written:written+n]), c.out
			c.link.stream(func() {
				out.change(func() {
					out.underway -= len(piece)
					out.arrived = append(out.arrived, piece...)
				})
			})
			written += n
			continue
		}
		select {
		case <-changed:
		case <-over:
		case <-c.closed:
		}
	}
	return written, nil
}

// CloseWrite ends what this end sends.
func (c *stream) CloseWrite() error {
	c.endOnce.Do(func() {
		out := c.out
		c.link.stream(func() { out.change(func() { out.ended = true }) })
	})
	return nil
}

// Close implements net.Conn. What was written still arrives.
func (c *stream) Close() error {
	err := c.fail("close", net.ErrClosed)
	c.once.Do(func() {
		err = nil
		close(c.closed)
		c.read.set(time.Time{})
		c.write.set(time.Time{})
		c.CloseWrite()
		in := c.in
		c.link.stream(func() { in.change(func() { in.gone = true }) })
	})
	return err
}

func (c *stream) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// LocalAddr implements net.Conn.
func (c *stream) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr implements net.Conn.
func (c *stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline implements net.Conn.
func (c *stream) SetDeadline(t time.Time) error {
	c.read.set(t)
	c.write.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *stream) SetReadDeadline(t time.Time) error { c.read.set(t); return nil }

// SetWriteDeadline implements net.Conn.
func (c *stream) SetWriteDeadline(t time.Time) error { c.write.set(t); return nil }

package world

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	maxDatagram = 65_507
	// socketQueue is how many datagrams wait in a socket; those beyond are lost, as in a kernel.
	socketQueue = 256
)

// packetConn is a datagram socket of a Sim.
type packetConn struct {
	host   *host
	local  netip.AddrPort
	group  netip.AddrPort // when it has joined one
	remote netip.AddrPort // when it was dialed
	in     chan datagram
	closed chan struct{}
	once   sync.Once
	read   deadline
}

type datagram struct {
	from netip.AddrPort
	data []byte
}

// ListenPacket implements Network.
func (h *host) ListenPacket(_ context.Context, network, address string) (net.PacketConn, error) {
	return h.open(network, address)
}

func (h *host) open(network, address string) (*packetConn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, err := h.bind(network, address, func(p uint16) bool { return h.sockets[p] != nil })
	if err != nil {
		return nil, err
	}
	c := newPacketConn(h, at)
	h.sockets[at.Port()] = c
	return c, nil
}

func newPacketConn(h *host, local netip.AddrPort) *packetConn {
	return &packetConn{host: h, local: local, in: make(chan datagram, socketQueue), closed: make(chan struct{})}
}

// ListenMulticast implements Network.
func (h *host) ListenMulticast(_ context.Context, group netip.AddrPort, via netip.Addr) (net.PacketConn, error) {
	if via != h.ip && !via.IsLoopback() || !group.Addr().IsMulticast() {
		return nil, fmt.Errorf("join %v: host %v has no interface with the address %v, or that is no group", group, h.ip, via)
	}
	c := newPacketConn(h, netip.AddrPortFrom(h.ip, group.Port()))
	c.group = group
	h.sim.mu.Lock()
	defer h.sim.mu.Unlock()
	h.sim.groups[group] = append(h.sim.groups[group], c)
	return c, nil
}

// ReadFrom implements net.PacketConn. What does not fit b is cut off.
func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	over := c.read.wait()
	select {
	case <-c.closed:
		return 0, nil, c.fail("read", net.ErrClosed)
	case <-over:
		return 0, nil, c.fail("read", os.ErrDeadlineExceeded)
	default:
	}
	select {
	case d := <-c.in:
		return copy(b, d.data), net.UDPAddrFromAddrPort(d.from), nil
	case <-c.closed:
		return 0, nil, c.fail("read", net.ErrClosed)
	case <-over:
		return 0, nil, c.fail("read", os.ErrDeadlineExceeded)
	}
}

// WriteTo implements net.PacketConn.
func (c *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	a, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, c.fail("write", errors.New("not a UDP address"))
	}
	return c.send(b, netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port()))
}

func (c *packetConn) send(b []byte, to netip.AddrPort) (int, error) {
	select {
	case <-c.closed:
		return 0, c.fail("write", net.ErrClosed)
	default:
	}
	if len(b) > maxDatagram {
		return 0, c.fail("write", errors.New("message too long"))
	}
	d := datagram{from: c.local, data: slices.Clone(b)}
	sim := c.host.sim
	if to.Addr().IsMulticast() {
		sim.mu.Lock()
		members := slices.Clone(sim.groups[to])
		sim.mu.Unlock()
		// A host that lost the datagram lost it for all its sockets.
		for i, m := range members {
			if slices.IndexFunc(members, func(o *packetConn) bool { return o.host == m.host }) == i {
				sim.link(c.host.ip, m.host.ip).datagram(func() { deliverAll(members, m.host, d) })
			}
		}
		return len(b), nil
	}
	ip := to.Addr()
	if ip.IsLoopback() || ip.IsUnspecified() {
		ip = c.host.ip
	}
	sim.link(c.host.ip, ip).datagram(func() {
		far := sim.host(ip)
		far.mu.Lock()
		s := far.sockets[to.Port()]
		far.mu.Unlock()
		if s != nil {
			s.deliver(d)
		}
	})
	return len(b), nil
}

func deliverAll(members []*packetConn, at *host, d datagram) {
	for _, m := range members {
		if m.host == at {
			m.deliver(datagram{from: d.from, data: slices.Clone(d.data)})
		}
	}
}

func (c *packetConn) deliver(d datagram) {
	if c.remote.IsValid() && d.from != c.remote {
		return
	}
	select {
	case <-c.closed:
	case c.in <- d:
	default: // lost: nobody reads
	}
}

func (c *packetConn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Addr: c.LocalAddr(), Err: err}
}

// Close implements net.PacketConn and net.Conn.
func (c *packetConn) Close() error {
	err := c.fail("close", net.ErrClosed)
	c.once.Do(func() {
		err = nil
		close(c.closed)
		c.read.set(time.Time{})
		if c.group.IsValid() {
			c.host.sim.mu.Lock()
			defer c.host.sim.mu.Unlock()
			c.host.sim.groups[c.group] = slices.DeleteFunc(slices.Clone(c.host.sim.groups[c.group]),
				func(o *packetConn) bool { return o == c })
			return
		}
		c.host.mu.Lock()
		defer c.host.mu.Unlock()
		delete(c.host.sockets, c.local.Port())
	})
	return err
}

// LocalAddr implements net.PacketConn.
func (c *packetConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.local) }

// SetDeadline implements net.PacketConn.
func (c *packetConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (c *packetConn) SetReadDeadline(t time.Time) error { c.read.set(t); return nil }

// SetWriteDeadline implements net.PacketConn; writes do not block.
func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }

// dialed is a datagram socket with one peer.
type dialed struct{ *packetConn }

func (h *host) dialPacket(network, address string) (net.Conn, error) {
	ip, port, err := h.resolve(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s %s: %w", network, address, err)
	}
	c, err := h.open(network, net.JoinHostPort(h.ip.String(), "0"))
	if err != nil {
		return nil, err
	}
	c.remote = netip.AddrPortFrom(ip, port)
	return dialed{c}, nil
}

// Read implements net.Conn.
func (c dialed) Read(b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	return n, err
}

// Write implements net.Conn.
func (c dialed) Write(b []byte) (int, error) { return c.send(b, c.remote) }

// RemoteAddr implements net.Conn.
func (c dialed) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.remote) }

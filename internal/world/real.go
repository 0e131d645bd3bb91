package world

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// realNetwork is the operating system's network.
type realNetwork struct{}

func (realNetwork) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, network, address)
}

func (realNetwork) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (realNetwork) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, network, address)
}

func (realNetwork) ListenMulticast(ctx context.Context, group netip.AddrPort, via netip.Addr) (net.PacketConn, error) {
	ifi, err := interfaceWith(via)
	if err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: reuse}
	// Binding to the group itself keeps out unicast datagrams and those of other groups on the same port.
	c, err := lc.ListenPacket(ctx, "udp4", group.String())
	if err != nil {
		return nil, fmt.Errorf("join %v: %w", group, err)
	}
	p := ipv4.NewPacketConn(c)
	err = p.JoinGroup(ifi, &net.UDPAddr{IP: group.Addr().AsSlice()})
	if err == nil {
		err = p.SetMulticastInterface(ifi)
	}
	if err == nil {
		err = p.SetMulticastLoopback(true)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("join %v on %s: %w", group, ifi.Name, err)
	}
	return c, nil
}

// reuse lets several processes of one host listen to the same group.
func reuse(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	if err != nil {
		return err
	}
	return failed
}

// interfaceWith finds the interface that has the address.
func interfaceWith(via netip.Addr) (*net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for i := range all {
		addrs, err := all[i].Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == via {
					return &all[i], nil
				}
			}
		}
	}
	return nil, fmt.Errorf("no network interface has the address %v", via)
}

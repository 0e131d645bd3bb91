package world

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"

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

// ListenMulticast makes the socket by hand: package net binds a multicast listener to the wildcard address, where it
// hears the datagrams of other groups on the same port and sends from whatever address routing prefers.
func (realNetwork) ListenMulticast(_ context.Context, group netip.AddrPort, via netip.Addr) (net.PacketConn, error) {
	ifi, err := interfaceWith(via)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("join %v on %s: %w", group, ifi.Name, err)
	}
	err = joinGroup(fd, group, via, ifi.Index)
	f := os.NewFile(uintptr(fd), group.String())
	defer f.Close() // net.FilePacketConn has its own copy
	if err != nil {
		return nil, fmt.Errorf("join %v on %s: %w", group, ifi.Name, err)
	}
	return net.FilePacketConn(f)
}

// joinGroup binds the socket to the group and makes it send through the interface.
func joinGroup(fd int, group netip.AddrPort, via netip.Addr, ifi int) error {
	// Several processes of one host listen to the same group.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(group.Port()), Addr: group.Addr().As4()}); err != nil {
		return err
	}
	m := &unix.IPMreqn{Multiaddr: group.Addr().As4(), Address: via.As4(), Ifindex: int32(ifi)}
	if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, m); err != nil {
		return err
	}
	if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, m); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 1)
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

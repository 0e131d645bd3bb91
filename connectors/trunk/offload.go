package trunk

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"ninja/connectors/hop"
)

// canSegment asks the kernel whether it knows UDP_SEGMENT (Linux 4.18).
func canSegment(c *net.UDPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	known := false
	err = raw.Control(func(fd uintptr) {
		_, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		known = err == nil
	})
	return err == nil && known
}

// coalesce asks the kernel to put equal datagrams together (UDP_GRO, Linux 5.0).
func coalesce(c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) })
	}
}

// segmentControl is a control message that asks for segmentation; setSegment says of what size.
func segmentControl() []byte {
	b := make([]byte, unix.CmsgSpace(2))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(2)))
	binary.NativeEndian.PutUint32(b[8:], unix.IPPROTO_UDP)
	binary.NativeEndian.PutUint32(b[12:], unix.UDP_SEGMENT)
	return b
}

func setSegment(control []byte, size int) {
	binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], uint16(size))
}

// segmentSize reads the size that the kernel tells with what it put together; 0 is none.
func segmentSize(control []byte) int {
	const level, kind, data = 8, 12, 16
	if len(control) < data+2 || binary.NativeEndian.Uint32(control[level:]) != unix.IPPROTO_UDP ||
		binary.NativeEndian.Uint32(control[kind:]) != unix.UDP_GRO {
		return 0
	}
	return int(binary.NativeEndian.Uint16(control[data:]))
}

// refusesSegments reports whether a write failed because this way out cannot segment.
func refusesSegments(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) ||
		errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EMSGSIZE)
}

// message is what one call takes from the kernel. It is for one goroutine at a time.
type message struct {
	data    [1 << 16]byte
	control [64]byte
	name    unix.RawSockaddrInet6 // holds an IPv4 one too
	part    unix.Iovec
	header  unix.Msghdr
}

func newMessage() *message {
	m := &message{}
	m.part.Base = &m.data[0]
	m.part.SetLen(len(m.data))
	m.header.Iov = &m.part
	m.header.SetIovlen(1)
	m.header.Name = (*byte)(unsafe.Pointer(&m.name))
	m.header.Control = &m.control[0]
	return m
}

// receive takes what is there, without waiting and without allocating: datagrams of the size, the last perhaps shorter.
// ok is false when there is nothing. The result is valid until the next call.
func (m *message) receive(fd int) (b []byte, size int, from netip.AddrPort, ok bool) {
	for {
		m.header.Namelen = unix.SizeofSockaddrInet6
		m.header.SetControllen(len(m.control))
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.header)), unix.MSG_DONTWAIT)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return nil, 0, from, false
		case errno != 0: // an error that was waiting, as of a datagram that could not be delivered, is told once
			return nil, 1, from, true
		}
		size = int(n)
		if s := segmentSize(m.control[:m.header.Controllen]); s > 0 {
			size = s
		}
		return m.data[:n], max(size, 1), hop.Source(&m.name), true
	}
}

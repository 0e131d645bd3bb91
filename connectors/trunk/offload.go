package trunk

import (
	"encoding/binary"
	"errors"
	"net"

	"golang.org/x/sys/unix"
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

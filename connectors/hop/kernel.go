package hop

import (
	"io"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Outlet is the way out for the datagrams of a connected socket; each Write is one. A socket of the kernel's is written
// without waiting, with a system call that the scheduler is not told of: it takes no longer than what leads up to it.
// Only when the socket is full does Write wait as the connection's does. It is for one goroutine at a time.
type Outlet struct {
	conn  net.Conn
	raw   syscall.RawConn // nil outside the kernel
	try   func(fd uintptr)
	d     []byte
	errno syscall.Errno
}

// NewOutlet makes an Outlet, which owns the connection from now on.
func NewOutlet(c net.Conn) *Outlet {
	o := &Outlet{conn: c}
	if u, ok := c.(*net.UDPConn); ok {
		o.raw, _ = u.SyscallConn()
	}
	o.try = o.send
	return o
}

// Write implements io.Writer.
func (o *Outlet) Write(d []byte) (int, error) {
	if o.raw == nil || len(d) == 0 {
		return o.conn.Write(d)
	}
	o.d = d
	err := o.raw.Control(o.try)
	o.d = nil
	switch {
	case err != nil:
		return 0, err
	case o.errno == unix.EAGAIN:
		return o.conn.Write(d)
	case o.errno != 0:
		return 0, o.errno
	}
	return len(d), nil
}

func (o *Outlet) send(fd uintptr) {
	for {
		_, _, o.errno = unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&o.d[0])), uintptr(len(o.d)), unix.MSG_DONTWAIT, 0, 0)
		if o.errno != unix.EINTR {
			return
		}
	}
}

// Close closes the socket.
func (o *Outlet) Close() error { return o.conn.Close() }

var _ io.WriteCloser = (*Outlet)(nil)

// inlet takes datagrams from a socket of the kernel's in the same way. It is for one goroutine at a time.
type inlet struct {
	raw   syscall.RawConn
	try   func(fd uintptr) bool
	b     []byte
	n     int
	errno syscall.Errno
	name  unix.RawSockaddrInet6 // holds an IPv4 one too
	size  uint32                // of the name
}

func newInlet(c *net.UDPConn) *inlet {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	i := &inlet{raw: raw}
	i.try = i.receive
	return i
}

func (i *inlet) read(b []byte) (int, netip.AddrPort, error) {
	i.b = b
	err := i.raw.Read(i.try)
	i.b = nil
	switch {
	case err != nil:
		return 0, netip.AddrPort{}, err
	case i.errno != 0:
		return 0, netip.AddrPort{}, i.errno
	}
	return i.n, Source(&i.name), nil
}

// receive reports false when there is nothing.
func (i *inlet) receive(fd uintptr) bool {
	for {
		i.size = unix.SizeofSockaddrInet6
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&i.b[0])), uintptr(len(i.b)), unix.MSG_DONTWAIT,
			uintptr(unsafe.Pointer(&i.name)), uintptr(unsafe.Pointer(&i.size)))
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		i.n, i.errno = int(n), errno
		return true
	}
}

// Source reads the address that the kernel filled in.
func Source(name *unix.RawSockaddrInet6) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&name.Port))
	number := uint16(port[0])<<8 | uint16(port[1])
	switch name.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), number)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), number)
	}
	return netip.AddrPort{}
}

// holdBytes makes a socket hold n bytes: past the system's limit (net.core.rmem_max) where the process may, else up to it.
func holdBytes(c *net.UDPConn, n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	forced := false
	raw.Control(func(fd uintptr) {
		forced = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, n) == nil
	})
	if !forced {
		c.SetReadBuffer(n)
	}
}

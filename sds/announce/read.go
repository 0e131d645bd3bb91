package announce

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"ninja/ca/seal"
)

// readLoop hands every datagram to handle until the socket is closed. One that makes handle panic is logged and
// forgotten: no datagram stops the reader. The datagram is only handle's until it returns.
func readLoop(conn net.PacketConn, log *slog.Logger, handle func(d []byte, from netip.AddrPort)) {
	b := make([]byte, seal.MaxDatagram+1) // one more, so that what is too long is seen to be
	read := func() (int, netip.AddrPort, error) {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return 0, netip.AddrPort{}, err
		}
		return n, addrPort(from), nil
	}
	if udp, ok := conn.(*net.UDPConn); ok { // makes no address anew for each datagram
		read = func() (int, netip.AddrPort, error) {
			n, from, err := udp.ReadFromUDPAddrPort(b)
			return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
		}
	}
	began, handled := time.Now(), time.Now() // of a spell without a wait, and of the last datagram
	for {
		n, from, err := read()
		now := time.Now()
		if now.Sub(handled) > waited {
			began = now
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // transient by nature: a full queue, an unreachable host
			continue
		}
		guard(log, func() { handle(b[:n], from) })
		if handled = time.Now(); handled.Sub(began) > spell {
			time.Sleep(rest)
			began = time.Now()
		}
	}
}

// A reader whose socket never runs empty would keep a processor to itself: Go looks for what has come on other connections
// when a processor has nothing to do, and otherwise every ten milliseconds. So it rests between spells, and what comes
// meanwhile waits in the socket.
const (
	spell  = 500 * time.Microsecond
	rest   = 100 * time.Microsecond
	waited = 20 * time.Microsecond // longer than a read that finds a datagram there
)

// wide is how many bytes of datagrams a server's sockets hold, if they may: what comes while the server does not run must
// not be lost.
const wide = 4 << 20

// widen makes a socket hold more. Beyond the system's bound (net.core.rmem_max) only a privileged process may go.
func widen(conn net.PacketConn) {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, wide) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, wide) // cut at the bound
		}
	})
}

// guard calls f and turns a panic into a line in the log.
func guard(log *slog.Logger, f func()) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("a datagram was not handled: please report this", "panic", fmt.Sprint(p))
		}
	}()
	f()
}

func addrPort(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		p := u.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return p
}

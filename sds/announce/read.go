package announce

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"ninja/ca/seal"
)

// readLoop hands every datagram to handle until the socket is closed. One that makes handle panic is logged and
// forgotten: no datagram stops the reader. The datagram is only handle's until it returns.
func readLoop(conn net.PacketConn, log *slog.Logger, handle func(d []byte, from netip.AddrPort)) {
	b := make([]byte, seal.MaxDatagram+1) // one more, so that what is too long is seen to be
	for {
		n, from, err := conn.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // transient by nature: a full queue, an unreachable host
			continue
		}
		guard(log, func() { handle(b[:n], addrPort(from)) })
	}
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

package external

import (
	"context"
	"net"
	"net/netip"
)

// Answer answers challenges for a host whose programs cannot: it holds the consent port of a Rule. It consents for
// the ports that it is given (all of the host's when there are none) and to nobody without the key, and answers nothing
// else. It returns when ctx ends or the socket fails.
func Answer(ctx context.Context, c net.PacketConn, key string, ports ...uint16) error {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	buffer := make([]byte, maxSTUN+1)
	for {
		n, from, err := c.ReadFrom(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		m, err := parseSTUN(buffer[:n])
		if err != nil || m.kind != stunRequest || !m.keyed(key) || !serves(m.username, ports) {
			continue
		}
		_, _ = c.WriteTo(appendSTUN(nil, stunSuccess, m.id, m.username, key), from)
	}
}

// serves reports whether the username, an address, is of one of the ports.
func serves(username string, ports []uint16) bool {
	at, err := netip.ParseAddrPort(username)
	if err != nil {
		return false
	}
	for _, p := range ports {
		if p == at.Port() {
			return true
		}
	}
	return len(ports) == 0
}

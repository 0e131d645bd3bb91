package operators

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// External is a part of the network outside the system that a proxy may send to and receive from, by address: telephones
// and cameras that run nothing of ours. It is written NETWORK or NETWORK:PORTS, as in 10.0.0.0/8:5004-5100, 192.0.2.7 or
// [2001:db8::/32]:5004.
type External struct {
	Network     netip.Prefix
	First, Last uint16 // ports, both included
}

// MaxExternal bounds the bytes of all that a node says it may reach.
const MaxExternal = 2 << 10

// ParseExternal reads what String writes. Without ports all from 1024 on are meant: well-known ports are services of others.
func ParseExternal(s string) (External, error) {
	e := External{First: 1024, Last: 65535}
	network, ports := s, ""
	if rest, ok := strings.CutPrefix(s, "["); ok {
		network, ports, ok = strings.Cut(rest, "]")
		if !ok || ports != "" && ports[0] != ':' {
			return e, fmt.Errorf("external %q: want [NETWORK]:PORTS", s)
		}
		ports = strings.TrimPrefix(ports, ":")
	} else if strings.Count(s, ":") == 1 {
		network, ports, _ = strings.Cut(s, ":")
		if ports == "" {
			return e, fmt.Errorf("external %q: want ports behind the colon", s)
		}
	}
	var err error
	if one, isOne := netip.ParseAddr(network); isOne == nil && one.Zone() == "" {
		e.Network = netip.PrefixFrom(one, one.BitLen())
	} else if e.Network, err = netip.ParsePrefix(network); err != nil {
		return e, fmt.Errorf("external %q: want NETWORK or NETWORK:PORTS, as in 10.0.0.0/8:5004-5100: %w", s, err)
	}
	if e.Network.Addr().Is4In6() || e.Network != e.Network.Masked() {
		return e, fmt.Errorf("external %q: want the network itself, as in %v", s, e.Network.Masked())
	}
	if ports == "" {
		return e, nil
	}
	first, last, two := strings.Cut(ports, "-")
	a, errA := strconv.ParseUint(first, 10, 16)
	b := a
	var errB error
	if two {
		b, errB = strconv.ParseUint(last, 10, 16)
	}
	if errA != nil || errB != nil || a == 0 || b < a {
		return e, fmt.Errorf("external %q: want ports as 5004 or 5004-5100", s)
	}
	e.First, e.Last = uint16(a), uint16(b)
	return e, nil
}

// String is what ParseExternal reads.
func (e External) String() string {
	network := e.Network.String()
	if e.Network.Addr().Is6() {
		network = "[" + network + "]"
	}
	switch {
	case e.First == 1024 && e.Last == 65535:
		return network
	case e.First == e.Last:
		return network + ":" + strconv.Itoa(int(e.First))
	}
	return fmt.Sprintf("%s:%d-%d", network, e.First, e.Last)
}

// Holds reports whether an address is within.
func (e External) Holds(a netip.AddrPort) bool {
	return e.Network.Contains(a.Addr()) && a.Port() >= e.First && a.Port() <= e.Last
}

// Reaches reports whether a node says that it may reach an address outside the system. What of its list cannot be read
// reaches nothing.
func (n *Node) Reaches(a netip.AddrPort) bool {
	if len(n.External) > MaxExternal {
		return false
	}
	for _, s := range strings.Fields(n.External) {
		if e, err := ParseExternal(s); err == nil && e.Holds(a) {
			return true
		}
	}
	return false
}

// Programs of a proxy for the ends of paths that are addresses outside the system: a source and a sink. Their arguments
// are ExternalAddress, an IP address with a port.
const (
	ExternalIn      = "external/receive"
	ExternalOut     = "external/send"
	ExternalAddress = "address"
)

package announce

import (
	"net/netip"
	"slices"
	"time"

	"ninja/ca"
)

// ServerInfo is what an SDS server says of itself in its announcement (ninja-architecture, 6.1).
type ServerInfo struct {
	// ID is the server; only the kind sds may be one.
	ID ca.ID
	// Extent is what part of the network the server is responsible for.
	Extent Extent
	// Addresses are those of its gRPC service, HOST:PORT, the best first.
	Addresses []string
	// UDP is where it takes datagrams by unicast; the zero AddrPort when it does not.
	UDP netip.AddrPort
	// Channel is the multicast group of service announcements; the zero AddrPort when there is none.
	Channel netip.AddrPort
	// Incarnation is larger after every start of the server (its start in Unix milliseconds), Sequence larger in every
	// announcement of one incarnation.
	Incarnation, Sequence uint64
	// Time is when the announcement was made, by the server's clock; for Lifetime longer the server may be used.
	Time     time.Time
	Lifetime time.Duration
	// Period is how often the server wants to hear from each service: a power of two milliseconds.
	Period time.Duration
	// CA and Capability are the addresses of the certificate authority and of the capability manager.
	CA, Capability []string
	// KeyHash and ChainHash are the SHA-256 of the present sealing key and of the server's encoded certificate chain.
	KeyHash, ChainHash [32]byte
}

// Domain is the trust domain that the server is of.
func (s ServerInfo) Domain() string { return s.ID.Domain() }

// Extent is a part of the network: hosts of some networks and principals of some kinds.
type Extent struct {
	// Networks are the address ranges; none is all.
	Networks []netip.Prefix
	// Kinds are the kinds of principals (ca.KindUnit ...); none is all.
	Kinds []string
}

// Covers says whether a principal of the kind at the address is within the extent, and how specific the extent is
// about it: a service follows the most specific server. A longer prefix is more specific than a named kind.
func (e Extent) Covers(at netip.Addr, kind string) (specific int, ok bool) {
	if len(e.Kinds) > 0 {
		if !slices.Contains(e.Kinds, kind) {
			return 0, false
		}
		specific = 1
	}
	if len(e.Networks) == 0 {
		return specific, true
	}
	longest := -1
	for _, p := range e.Networks {
		if p.Contains(at) {
			longest = max(longest, p.Bits())
		}
	}
	return specific + 2*(longest+1), longest >= 0
}

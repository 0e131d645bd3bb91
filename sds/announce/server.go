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

// Extent is a part of the network: hosts of some networks and principals of some kinds, or some of their owners' hashes.
type Extent struct {
	// Networks are the address ranges; none is all.
	Networks []netip.Prefix
	// Owners are a range of principals by the hash of their IDs; the zero value is all.
	Owners Owners
	// Kinds are the kinds of principals (ca.KindUnit ...); none is all.
	Kinds []string
}

// Covers says whether a principal at the address is within the extent, and how specific the extent is about it: a service
// follows the most specific server. A longer prefix of the address counts first, then a smaller range of owners, then
// fewer kinds.
func (e Extent) Covers(at netip.Addr, owner ca.ID) (specific int, ok bool) {
	longest := -1
	for _, p := range e.Networks {
		if p.Contains(at) {
			longest = max(longest, p.Bits())
		}
	}
	if len(e.Networks) > 0 && longest < 0 {
		return 0, false
	}
	within, ok := e.CoversOwner(owner)
	return (longest+1)*(ownersMost+1)*(maxList+1) + within, ok
}

// CoversOwner is Covers for who is within the networks: what tells servers of the same networks apart.
func (e Extent) CoversOwner(owner ca.ID) (specific int, ok bool) {
	if e.Owners.bits > 0 && !e.Owners.Covers(OwnerHash(owner)) {
		return 0, false
	}
	if len(e.Kinds) > 0 {
		if !slices.Contains(e.Kinds, owner.Kind()) {
			return 0, false
		}
		specific = max(1, maxList+1-len(e.Kinds))
	}
	return int(e.Owners.bits)*(maxList+1) + specific, true
}

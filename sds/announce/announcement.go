package announce

import (
	"crypto/ed25519"
	"encoding/binary"
	"net/netip"
	"time"

	"ninja/ca"
	"ninja/ca/seal"
)

// announcementContext is what a server announcement is signed under.
const announcementContext = "ninja server announcement 1"

// maxList bounds every list in a server announcement.
const maxList = 16

// MaxKinds is how many kinds of principals an extent may name.
const MaxKinds = maxList

// What a blob or a solicitation is of.
const (
	blobAnnouncement = 0 // in solicitations only
	blobKey          = 1
	blobChain        = 2
)

// appendAnnouncement writes an announcement up to its signature.
//
//	version, kind 1, zero, zero
//	incarnation (64)  sequence (64)  time, ms (64)  lifetime, ms (64)
//	log2 of the period in ms (8)
//	hash of the sealing key (256)  hash of the certificate chain (256)
//	service channel  unicast address: each length (8) address port (16)
//	ID of the server: length (8) text
//	networks of the extent: number (8), each length (8) address bits (8)
//	kinds of the extent, gRPC addresses, CA, capability manager: each number (8), strings of length (8) text
//	owners of the extent: number of binary digits (8), they in whole bytes; servers before these were known end here
//	whatever later versions add; readers pass over it
//	Ed25519 signature (512) over all before it
func appendAnnouncement(b []byte, s ServerInfo) []byte {
	b = appendPrefix(b, kindServer)
	b = binary.BigEndian.AppendUint64(b, s.Incarnation)
	b = binary.BigEndian.AppendUint64(b, s.Sequence)
	b = appendMillis(b, s.Time)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Lifetime.Milliseconds()))
	b = append(b, periodLog(s.Period))
	b = append(b, s.KeyHash[:]...)
	b = append(b, s.ChainHash[:]...)
	b = appendAddrPort(b, s.Channel)
	b = appendAddrPort(b, s.UDP)
	b = appendString(b, string(s.ID))
	b = append(b, byte(len(s.Extent.Networks)))
	for _, p := range s.Extent.Networks {
		b = append(appendAddr(b, p.Addr()), byte(p.Bits()))
	}
	b = appendStrings(b, s.Extent.Kinds)
	b = appendStrings(b, s.Addresses)
	b = appendStrings(b, s.CA)
	b = appendStrings(b, s.Capability)
	return s.Extent.Owners.append(b)
}

// signAnnouncement makes the datagram of s in the name of id.
func signAnnouncement(id *ca.Identity, s ServerInfo) ([]byte, error) {
	for _, list := range [][]string{s.Extent.Kinds, s.Addresses, s.CA, s.Capability} {
		if len(list) > maxList {
			return nil, refuse(ReasonMalformed, "a list of %d in a server announcement; allowed are %d", len(list), maxList)
		}
		for _, text := range list {
			if len(text) > 255 {
				return nil, refuse(ReasonMalformed, "%.20q... in a server announcement has %d bytes; allowed are 255", text, len(text))
			}
		}
	}
	if len(s.Extent.Networks) > maxList {
		return nil, refuse(ReasonMalformed, "%d networks in a server announcement; allowed are %d", len(s.Extent.Networks), maxList)
	}
	b := appendAnnouncement(nil, s)
	b = append(b, id.Sign(announcementContext, b)...)
	if len(b) > seal.MaxDatagram {
		return nil, refuse(ReasonMalformed, "a server announcement of %d bytes does not fit into %d: name fewer addresses or networks", len(b), seal.MaxDatagram)
	}
	return b, nil
}

// parseAnnouncement reads a server announcement and says nothing about whether it is true.
func parseAnnouncement(d []byte) (ServerInfo, error) {
	if kindOf(d) != kindServer || len(d) < prefixSize+ed25519.SignatureSize {
		return ServerInfo{}, refuse(ReasonMalformed, "not a server announcement")
	}
	r := reader{b: d[prefixSize : len(d)-ed25519.SignatureSize]}
	s := ServerInfo{Incarnation: r.uint64(), Sequence: r.uint64(), Time: r.millis()}
	lifetime := r.uint64()
	s.Period = periodOf(r.byte())
	s.KeyHash, s.ChainHash = r.hash(), r.hash()
	s.Channel, s.UDP = r.addrPort(), r.addrPort()
	id, err := ca.ParseID(r.string())
	s.ID = id
	networks := int(r.byte())
	for i := 0; i < networks && !r.bad; i++ {
		p := netip.PrefixFrom(r.addr(), int(r.byte()))
		r.bad = r.bad || !p.IsValid()
		s.Extent.Networks = append(s.Extent.Networks, p)
	}
	s.Extent.Kinds = r.strings(maxList)
	s.Addresses, s.CA, s.Capability = r.strings(maxList), r.strings(maxList), r.strings(maxList)
	if len(r.b) > 0 {
		s.Extent.Owners = r.owners()
	}
	if r.bad || err != nil || networks > maxList || lifetime > uint64((24*time.Hour).Milliseconds()) {
		return ServerInfo{}, refuse(ReasonMalformed, "a server announcement that is cut off or over its bounds")
	}
	s.Lifetime = time.Duration(lifetime) * time.Millisecond
	return s, nil
}

// announcementSignedBy says whether the announcement's signature is by the key.
func announcementSignedBy(key ed25519.PublicKey, d []byte) bool {
	n := len(d) - ed25519.SignatureSize
	return ca.VerifySignature(key, announcementContext, d[:n], d[n:])
}

// makeBlob makes the datagram that carries a sealing key or a chain: version, kind 2, zero, zero, what (8), bytes. It needs no
// signature: a listener takes it only for the hash that a signed announcement names, or checks the chain itself.
func makeBlob(what byte, content []byte) ([]byte, error) {
	b := append(appendPrefix(nil, kindBlob), what)
	b = append(b, content...)
	if len(b) > seal.MaxDatagram {
		return nil, refuse(ReasonMalformed, "%d bytes of key or certificates do not fit into a datagram of %d: use a shorter chain", len(content), seal.MaxDatagram)
	}
	return b, nil
}

func parseBlob(d []byte) (what byte, content []byte, err error) {
	if kindOf(d) != kindBlob || len(d) < prefixSize+2 {
		return 0, nil, refuse(ReasonMalformed, "not a key or chain")
	}
	return d[prefixSize], d[prefixSize+1:], nil
}

// makeSolicit asks for one of the server's datagrams: version, kind 7, zero, zero, what (8), zeros. It is as long as the longest
// answer, so that nobody gains by forging its sender.
func makeSolicit(what byte) []byte {
	b := append(appendPrefix(make([]byte, 0, seal.MaxDatagram), kindSolicit), what)
	return b[:seal.MaxDatagram]
}

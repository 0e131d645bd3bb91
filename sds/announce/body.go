// Package announce carries what services say of themselves to the SDS server, and what the server says of itself to
// them, by announce and listen (ninja-architecture, 6.1): both repeat themselves on multicast channels, what is no
// longer repeated expires, and a restarted server restores what it held by listening.
//
// A server runs a ServerAnnouncer and a Receiver; a service runs an Announcer; a client finds a server with Listen.
// FORMATS.md describes the datagrams and PERIOD.md how often they are sent.
package announce

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"ninja/ca"
)

// Bounds of what is announced.
const (
	// MaxDescription is the largest description, in bytes.
	MaxDescription = 64 << 10
	// MaxName is the longest name of a service, in bytes.
	MaxName = 100
	// MaxNumbers is how many named numbers a service may have, and MaxNumberName the longest name of one, in bytes.
	MaxNumbers, MaxNumberName = 16, 32
	// LifetimePeriods is after how many missed periods a service expires.
	LifetimePeriods = 5
)

// descriptionContext is what a description is signed under.
const descriptionContext = "ninja description 1"

// Body is one version of a service's description as its owner signed it, and what came with it.
type Body struct {
	// Owner announces the service; Name is its own name for it, letters, digits and ". - _ / :" (see CheckName).
	Owner ca.ID
	Name  string
	// Version grows with every change. An owner starts from its clock (see Announcer), so that it grows over restarts.
	Version uint64
	// Description is the document, whose exact bytes are signed.
	Description []byte
	// Signature is the owner's, over owner, name, version and description.
	Signature []byte
	// Chain is the owner's certificate chain, DER, leaf first.
	Chain [][]byte
	// Numbers are what changes often (load, queue, price). They are not signed by the owner: they are vouched for by
	// the channel that brought them.
	Numbers map[string]float64
	// Lifetime is for how long the service lives unless it is refreshed. Zero when made by Sign; set by who receives.
	Lifetime time.Duration
}

// Pair says that a service still lives, at which version, with which numbers.
type Pair struct {
	Name    string
	Version uint64
	Numbers map[string]float64
}

// ID is the service's identity, OWNER-ID#name.
func (b Body) ID() string { return string(b.Owner) + "#" + b.Name }

// Sign makes the body of a description in the name of id. It checks nothing but signs; Verify refuses what is over
// the bounds.
func Sign(id *ca.Identity, name string, version uint64, description []byte) Body {
	b := Body{Owner: id.ID(), Name: name, Version: version, Description: description, Chain: id.Chain()}
	b.Signature = id.Sign(descriptionContext, b.signed())
	return b
}

// Verify checks the bounds, the owner's chain against the roots that id trusts, and the owner's signature. It says
// who the owner is; every error is a *Refused.
func (b Body) Verify(id *ca.Identity) (ca.Peer, error) {
	if err := b.check(); err != nil {
		return ca.Peer{}, err
	}
	peer, err := id.Verify(b.Chain)
	if err != nil {
		return ca.Peer{}, refuse(ReasonIdentity, "%s: %v", b.ID(), err)
	}
	return peer, b.verifyBy(peer)
}

// VerifyBy is Verify for who has verified the owner's chain before.
func (b Body) VerifyBy(peer ca.Peer) error {
	if err := b.check(); err != nil {
		return err
	}
	return b.verifyBy(peer)
}

// verifyBy checks the signature by a peer whose chain has been verified.
func (b Body) verifyBy(peer ca.Peer) error {
	if peer.ID != b.Owner {
		return refuse(ReasonIdentity, "%s is announced with the certificate of %s: only its owner may", b.ID(), peer.ID)
	}
	if !ca.VerifySignature(peer.Key, descriptionContext, b.signed(), b.Signature) {
		return refuse(ReasonSignature, "%s version %d does not carry its owner's signature", b.ID(), b.Version)
	}
	return nil
}

// check holds the body against the bounds.
func (b Body) check() error {
	if err := CheckName(b.Name); err != nil {
		return err
	}
	if len(b.Description) == 0 || len(b.Description) > MaxDescription {
		return refuse(ReasonMalformed, "%s: a description of %d bytes; allowed are 1 to %d", b.ID(), len(b.Description), MaxDescription)
	}
	return CheckNumbers(b.Numbers)
}

// signed are the bytes that the owner signs: every part with its length before it, so that no two bodies share them.
func (b Body) signed() []byte {
	m := make([]byte, 0, 20+len(b.Owner)+len(b.Name)+len(b.Description))
	m = binary.BigEndian.AppendUint32(m, uint32(len(b.Owner)))
	m = append(m, b.Owner...)
	m = binary.BigEndian.AppendUint32(m, uint32(len(b.Name)))
	m = append(m, b.Name...)
	m = binary.BigEndian.AppendUint64(m, b.Version)
	m = binary.BigEndian.AppendUint32(m, uint32(len(b.Description)))
	return append(m, b.Description...)
}

// CheckName says whether name can be a service's: 1 to MaxName letters, digits and ". - _ / :". The error is a *Refused.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return refuse(ReasonMalformed, "a service name of %d bytes; allowed are 1 to %d", len(name), MaxName)
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '.', c == '-', c == '_', c == '/', c == ':':
		default:
			return refuse(ReasonMalformed, "service name %q: only letters, digits and . - _ / : are allowed", name)
		}
	}
	return nil
}

// CheckNumbers says whether the named numbers are within the bounds and finite. The error is a *Refused.
func CheckNumbers(n map[string]float64) error {
	if len(n) > MaxNumbers {
		return refuse(ReasonMalformed, "%d named numbers; allowed are %d", len(n), MaxNumbers)
	}
	for k, v := range n {
		if k == "" || len(k) > MaxNumberName {
			return refuse(ReasonMalformed, "a number's name of %d bytes; allowed are 1 to %d", len(k), MaxNumberName)
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return refuse(ReasonMalformed, "the number %q is not finite", k)
		}
	}
	return nil
}

// Reason is why something was refused: a short fixed word, fit to be a metric's label.
type Reason string

// The reasons.
const (
	ReasonMalformed Reason = "malformed" // not in the format, or over a bound
	ReasonIdentity  Reason = "identity"  // a certificate that does not hold, or not that of the owner
	ReasonSignature Reason = "signature" // a signature or authentication tag that does not hold
	ReasonReplay    Reason = "replay"    // heard before, or older than what was heard
	ReasonSkew      Reason = "skew"      // made at a time too far from this host's
	ReasonDomain    Reason = "domain"    // meant for another domain, server or incarnation
	ReasonUnknown   Reason = "unknown"   // sealed by nobody known (yet)
	ReasonFull      Reason = "full"      // a bound of this server is reached
)

// Reasons lists all of them.
func Reasons() []Reason {
	return []Reason{
		ReasonMalformed, ReasonIdentity, ReasonSignature, ReasonReplay, ReasonSkew, ReasonDomain, ReasonUnknown, ReasonFull,
	}
}

// Refused is the error for whatever came from outside and was not accepted.
type Refused struct {
	Reason Reason
	// Detail says what was wrong and, where there is one, the remedy. It holds no secrets.
	Detail string
	// of is whose datagram was refused, where Detail does not say. Whoever floods a server must not have it write a
	// sentence for each datagram.
	of ca.ID
}

// Error is the reason and the detail.
func (r *Refused) Error() string { return fmt.Sprintf("refused (%s): %s", r.Reason, r.detail()) }

func (r *Refused) detail() string {
	if r.of == "" {
		return r.Detail
	}
	return string(r.of) + ": " + r.Detail
}

func refuse(reason Reason, format string, args ...any) error {
	return &Refused{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

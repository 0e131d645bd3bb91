// Package ca is who is who: the certificate authority issues, renews and checks identities, and makes TLS
// configurations of them (ninja-architecture, 6.1: "the CA is a trusted source which provides proof of the binding
// between a principal and its public and encryption keys, in the form of a certificate").
package ca

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Identity is a principal that can prove itself: its key, its present certificate with the issuing certificate behind
// it, and the roots it trusts. It is safe for use by many goroutines; a renewal replaces the certificate under the
// same key.
type Identity struct {
	id  ID
	key ed25519.PrivateKey
	now func() time.Time
	// authorities are addresses where it can be renewed; it keeps them for whoever loads it.
	authorities []string
	// credential is replaced whole, at each renewal and whenever the authority says anew whom to trust; changing is held
	// by who replaces it.
	credential atomic.Pointer[credential]
	changing   sync.Mutex
	onBan      watched
}

type credential struct {
	chain   [][]byte // leaf first, without the root
	leaf    *x509.Certificate
	cert    tls.Certificate
	anchors *anchors
}

// NewIdentity makes an identity of a key and a certificate chain (leaf first, DER) that must be for the key and chain to
// one of the roots (DER).
func NewIdentity(key ed25519.PrivateKey, chain, roots [][]byte, now func() time.Time) (*Identity, error) {
	i := &Identity{key: key, now: now}
	if err := i.Renew(chain, roots); err != nil {
		return nil, err
	}
	return i, nil
}

// Renew replaces the certificate chain and the roots of its own domain.
func (i *Identity) Renew(chain, roots [][]byte) error { return i.renewAt(chain, roots, i.now()) }

func (i *Identity) renewAt(chain, roots [][]byte, now time.Time) error {
	i.changing.Lock()
	defer i.changing.Unlock()
	state := State{Roots: roots}
	if old := i.credential.Load(); old != nil {
		state.Domains, state.Keys, state.Banned = old.anchors.state.Domains, old.anchors.state.Keys, old.anchors.state.Banned
	}
	a, err := newAnchors(state)
	if err != nil {
		return err
	}
	peer, err := a.verify(chain, i.id.Domain(), now)
	if err != nil {
		return err
	}
	if !peer.Key.Equal(i.key.Public()) {
		return fmt.Errorf("certificate of %s is for another key", peer.ID)
	}
	if i.id != "" && i.id != peer.ID {
		return fmt.Errorf("certificate of %s cannot renew %s", peer.ID, i.id)
	}
	if i.id == "" {
		i.id = peer.ID
	}
	i.credential.Store(&credential{
		chain: chain, leaf: peer.Leaf, anchors: a,
		cert: tls.Certificate{Certificate: chain, PrivateKey: i.key, Leaf: peer.Leaf},
	})
	return nil
}

// ID is whose identity it is.
func (i *Identity) ID() ID { return i.id }

// Public is the key that the certificates are for.
func (i *Identity) Public() ed25519.PublicKey { return i.key.Public().(ed25519.PublicKey) }

// Chain is the present certificate chain, leaf first, without the root, in DER.
func (i *Identity) Chain() [][]byte { return i.credential.Load().chain }

// Roots are the root certificates of its own domain that it trusts, in DER.
func (i *Identity) Roots() [][]byte { return i.credential.Load().anchors.state.Roots }

// Authorities are the addresses where it was issued and can be renewed; none if it never joined over the network.
func (i *Identity) Authorities() []string { return i.authorities }

// RenewedBy sets the addresses of the authorities that can renew the identity, before it is saved or shared.
func (i *Identity) RenewedBy(addresses ...string) *Identity {
	i.authorities = addresses
	return i
}

// Expires is when the present certificate ends.
func (i *Identity) Expires() time.Time { return i.credential.Load().leaf.NotAfter }

// Now is the wall-clock time of the identity's host, by which it judges certificates.
func (i *Identity) Now() time.Time { return i.now() }

// Sign signs message under a context, which is a short constant of the caller's such as "ninja description 1": a
// signature made under one context is never valid under another.
func (i *Identity) Sign(context string, message []byte) []byte {
	return ed25519.Sign(i.key, inContext(context, message))
}

// VerifySignature checks a signature made by Identity.Sign.
func VerifySignature(key ed25519.PublicKey, context string, message, signature []byte) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, inContext(context, message), signature)
}

func inContext(context string, message []byte) []byte {
	b := make([]byte, 0, len(context)+1+len(message))
	b = append(b, context...)
	b = append(b, 0)
	return append(b, message...)
}

// Peer is who is at the other end, or who made something.
type Peer struct {
	ID   ID
	Key  ed25519.PublicKey
	Leaf *x509.Certificate
	// Foreign says that it belongs to another domain, which ours trusts for itself. What a kind may do in one domain it
	// may not do in another.
	Foreign bool
}

// ErrUntrusted is wrapped by every error about a certificate that does not hold.
var ErrUntrusted = errors.New("certificate not trusted")

// Verify checks a certificate chain (leaf first, DER) against the roots of i's own domain, at the present time.
func (i *Identity) Verify(chain [][]byte) (Peer, error) {
	return home(i.VerifyAny(chain))
}

// VerifyAny is Verify for principals of every trusted domain.
func (i *Identity) VerifyAny(chain [][]byte) (Peer, error) {
	return i.credential.Load().anchors.verify(chain, i.id.Domain(), i.now())
}

// home lets those of the own domain pass.
func home(p Peer, err error) (Peer, error) {
	if err == nil && p.Foreign {
		return Peer{}, fmt.Errorf("%w: %s is of another domain", ErrUntrusted, p.ID)
	}
	return p, err
}

// lastValid is the present, or the last second of a leaf certificate (DER) that has expired.
func lastValid(leaf []byte, now time.Time) time.Time {
	if c, err := x509.ParseCertificate(leaf); err == nil && now.After(c.NotAfter) {
		return c.NotAfter
	}
	return now
}

// peerOf reads who a leaf certificate is for.
func peerOf(leaf *x509.Certificate) (Peer, error) {
	key, ok := leaf.PublicKey.(ed25519.PublicKey)
	if !ok || leaf.IsCA || len(leaf.URIs) != 1 {
		return Peer{}, fmt.Errorf("%w: not the leaf certificate of one principal", ErrUntrusted)
	}
	id, err := ParseID(leaf.URIs[0].String())
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %v", ErrUntrusted, err)
	}
	return Peer{ID: id, Key: key, Leaf: leaf}, nil
}

// ServerTLS is the configuration of a server that demands a certificate of every client. Accept decides who may
// connect; nil is anyone of the own domain.
func (i *Identity) ServerTLS(accept func(Peer) error) *tls.Config {
	c := i.config(accept)
	c.ClientAuth = tls.RequireAnyClientCert
	return c
}

// ClientTLS is the configuration of a client. Accept decides who the server may be; use Is, KindIs or KindIn.
func (i *Identity) ClientTLS(accept func(Peer) error) *tls.Config {
	c := i.config(accept)
	// Names in certificates are SPIFFE IDs, never host names: VerifyConnection checks the chain and the ID.
	c.InsecureSkipVerify = true
	return c
}

func (i *Identity) config(accept func(Peer) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Time:                   i.now,
		SessionTicketsDisabled: true, // a resumed session would outlive the certificate that opened it
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &i.credential.Load().cert, nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &i.credential.Load().cert, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			p, err := i.PeerOf(s)
			if err == nil {
				err = admit(accept, p)
			}
			return err
		},
	}
}

// PeerOf says who is at the other end of a TLS connection made with one of the configurations.
func (i *Identity) PeerOf(s tls.ConnectionState) (Peer, error) {
	if n := len(s.PeerCertificates); n == 0 || n > maxShown {
		return Peer{}, fmt.Errorf("%w: the peer shows %d certificates", ErrUntrusted, n)
	}
	var behind [][]byte
	for _, c := range s.PeerCertificates[1:] {
		behind = append(behind, c.Raw)
	}
	return i.credential.Load().anchors.verifyLeaf(s.PeerCertificates[0], behind, i.id.Domain(), i.now())
}

// admit asks accept; without one, those of the own domain pass.
func admit(accept func(Peer) error, p Peer) error {
	if accept == nil {
		_, err := home(p, nil)
		return err
	}
	return accept(p)
}

// Is accepts the peers with one of the IDs.
func Is(ids ...ID) func(Peer) error {
	return func(p Peer) error {
		if slices.Contains(ids, p.ID) {
			return nil
		}
		return fmt.Errorf("%w: the peer is %s, wanted %v", ErrUntrusted, p.ID, ids)
	}
}

// KindIs accepts the peers of one of the kinds in the own domain.
func KindIs(kinds ...string) func(Peer) error { return KindIn(nil, kinds...) }

// KindIn accepts the peers of one of the kinds in the own domain, and in those named.
func KindIn(domains []string, kinds ...string) func(Peer) error {
	return func(p Peer) error {
		if p.Foreign && !slices.Contains(domains, p.ID.Domain()) {
			_, err := home(p, nil)
			return err
		}
		if slices.Contains(kinds, p.ID.Kind()) {
			return nil
		}
		return fmt.Errorf("%w: the peer is %s, wanted the kind %v", ErrUntrusted, p.ID, kinds)
	}
}

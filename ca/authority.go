package ca

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"sync"
	"time"

	"ninja/internal/world"
)

// Authority signs certificates and says whom to trust: a root, whose key can be taken away once an issuing certificate is
// made, and the short-lived issuing key that signs leaves. The root changes without anyone noticing (Rotate). It is safe
// for use by many goroutines.
type Authority struct {
	world  world.World
	domain string
	dir    string // where it is kept; "" is nowhere

	mu      sync.Mutex
	roots   []root // the active one first
	issuing []byte // DER
	issuer  *x509.Certificate
	key     ed25519.PrivateKey

	life    time.Duration // of leaves; set before anyone else has the Authority
	domains map[string][][]byte
	keys    map[string][][]byte // routing keys of the domains
	banned  map[ID]time.Time    // when
	changed chan struct{}       // closed and replaced whenever the state changes
}

// Lives of certificates.
const (
	RootLife    = 10 * 365 * 24 * time.Hour
	IssuingLife = 30 * 24 * time.Hour
	LeafLife    = time.Hour
)

// clockSkew is how far two hosts' clocks may differ: certificates begin that much before they are made.
const clockSkew = time.Minute

// NewAuthority makes a new root and issuing key for the trust domain, in memory.
func NewAuthority(w world.World, domain string) (*Authority, error) {
	rootKey, der, err := newRoot(w, domain)
	if err != nil {
		return nil, err
	}
	a := emptyAuthority(w, domain, "")
	a.roots = []root{{der: der, state: rootActive, since: w.Now()}}
	return a, a.newIssuing(rootKey)
}

func emptyAuthority(w world.World, domain, dir string) *Authority {
	return &Authority{
		world: w, domain: domain, dir: dir, life: LeafLife,
		domains: map[string][][]byte{}, keys: map[string][][]byte{}, banned: map[ID]time.Time{}, changed: make(chan struct{}),
	}
}

// newRoot makes a root key and its certificate.
func newRoot(w world.World, domain string) (ed25519.PrivateKey, []byte, error) {
	if _, err := MakeID(domain, KindCA, "root"); err != nil {
		return nil, nil, err
	}
	pub, key, err := ed25519.GenerateKey(w.Rand)
	if err != nil {
		return nil, nil, err
	}
	template := caTemplate(w, domain, "root", RootLife)
	der, err := x509.CreateCertificate(w.Rand, template, template, pub, key)
	return key, der, err
}

// newIssuing makes a new issuing key and has the active root sign it.
func (a *Authority) newIssuing(rootKey ed25519.PrivateKey) error {
	key, issuing, err := makeIssuing(a.world, a.domain, a.roots[0].der, rootKey)
	if err != nil {
		return err
	}
	return a.setIssuing(key, issuing)
}

// makeIssuing makes an issuing key and certificate under a root. It can sign leaves of this domain only.
func makeIssuing(w world.World, domain string, root []byte, rootKey ed25519.PrivateKey) (ed25519.PrivateKey, []byte, error) {
	parent, err := x509.ParseCertificate(root)
	if err != nil {
		return nil, nil, err
	}
	if !rootKey.Public().(ed25519.PublicKey).Equal(parent.PublicKey) {
		return nil, nil, errors.New("the root key is not the root certificate's")
	}
	pub, key, err := ed25519.GenerateKey(w.Rand)
	if err != nil {
		return nil, nil, err
	}
	template := caTemplate(w, domain, "issuing", IssuingLife)
	template.MaxPathLenZero = true
	template.PermittedDNSDomainsCritical = true // the flag is for all name constraints
	template.PermittedURIDomains = []string{domain}
	issuing, err := x509.CreateCertificate(w.Rand, template, parent, pub, rootKey)
	return key, issuing, err
}

func (a *Authority) setIssuing(key ed25519.PrivateKey, issuing []byte) error {
	issuer, err := x509.ParseCertificate(issuing)
	if err != nil {
		return err
	}
	if !key.Public().(ed25519.PublicKey).Equal(issuer.PublicKey) {
		return errors.New("the issuing key is not the issuing certificate's")
	}
	a.issuing, a.issuer, a.key = issuing, issuer, key
	return nil
}

func caTemplate(w world.World, domain, name string, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          serial(w),
		Subject:               pkix.Name{CommonName: domain + " " + name},
		NotBefore:             w.Now().Add(-clockSkew),
		NotAfter:              w.Now().Add(life),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: domain}},
	}
}

func serial(w world.World) *big.Int {
	var b [16]byte
	w.Fill(b[:])
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

// Domain is the trust domain.
func (a *Authority) Domain() string { return a.domain }

// Roots are the certificates of this domain to trust (DER), the one that signs first.
func (a *Authority) Roots() [][]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.advance(a.world.Now())
	return a.trusted()
}

// WithLife makes certificates live for another time than LeafLife; it decides too how fast the root can change. Call it
// before anything is issued. After it was shortened, let the old life pass before the root is changed.
func (a *Authority) WithLife(life time.Duration) *Authority {
	a.life = life
	return a
}

// Issue signs a certificate for a principal of the domain and returns the chain, leaf first. It checks nothing about
// who asks. A life of 0 is that of the authority's leaves.
func (a *Authority) Issue(id ID, key ed25519.PublicKey, life time.Duration) ([][]byte, error) {
	if id.Domain() != a.domain {
		return nil, fmt.Errorf("identity %s is not of the domain %s", id, a.domain)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.world.Now()
	a.advance(now)
	if err := a.freshIssuer(now); err != nil {
		return nil, err
	}
	if life == 0 {
		life = a.life
	}
	ends := now.Add(life)
	if ends.After(a.issuer.NotAfter) {
		ends = a.issuer.NotAfter
	}
	leaf, err := x509.CreateCertificate(a.world.Rand, &x509.Certificate{
		SerialNumber: serial(a.world),
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     ends,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:         []*url.URL{id.URL()},
	}, a.issuer, key, a.key)
	if err != nil {
		return nil, err
	}
	return [][]byte{leaf, a.issuing}, nil
}

// NewIdentity makes a key and an identity for it: what tests and a daemon that is its own authority use.
func (a *Authority) NewIdentity(kind, name string) (*Identity, error) {
	id, err := MakeID(a.domain, kind, name)
	if err != nil {
		return nil, err
	}
	pub, key, err := ed25519.GenerateKey(a.world.Rand)
	if err != nil {
		return nil, err
	}
	chain, err := a.Issue(id, pub, 0)
	if err != nil {
		return nil, err
	}
	i, err := NewIdentity(key, chain, a.Roots(), a.world.Now)
	if err == nil {
		err = i.Adopt(a.State())
	}
	return i, err
}

package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"
)

// trust is a set of roots and what has been verified against them. Leaves are many and their issuing certificates are
// few: a path from an issuing certificate to a root that has been checked once is remembered, so that the next leaf
// behind the same bytes costs one signature. The memory only saves work: whatever it does not answer with yes is checked
// from the beginning, and it goes with the roots that it belongs to.
type trust struct {
	roots *x509.CertPool

	mu    sync.RWMutex
	paths map[[sha256.Size]byte]*path // by all that stood behind the leaf
}

// path is a verified way from an issuing certificate to a root.
type path struct {
	issuing *x509.CertPool // it alone
	// from and until bound the time in which every certificate above the issuing one holds.
	from, until time.Time
}

// maxPaths bounds the remembered paths. A domain has two at a time, while the issuing certificate changes.
const maxPaths = 32

// maxChain bounds the certificates of a chain.
const maxChain = 4

func newTrust(roots *x509.CertPool) *trust {
	return &trust{roots: roots, paths: map[[sha256.Size]byte]*path{}}
}

// verify checks a chain, leaf first, DER, at a moment.
func (t *trust) verify(chain [][]byte, now time.Time) (Peer, error) {
	if err := checkLength(len(chain)); err != nil {
		return Peer{}, err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %v", ErrUntrusted, err)
	}
	return t.verifyLeaf(leaf, chain[1:], now)
}

func checkLength(n int) error {
	if n == 0 || n > maxChain {
		return fmt.Errorf("%w: chain of %d certificates", ErrUntrusted, n)
	}
	return nil
}

// verifyLeaf checks a leaf with the certificates that stand behind it.
func (t *trust) verifyLeaf(leaf *x509.Certificate, behind [][]byte, now time.Time) (Peer, error) {
	key := digest(behind)
	if t.known(key, leaf, now) {
		return peerOf(leaf)
	}
	between := x509.NewCertPool()
	for _, der := range behind {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return Peer{}, fmt.Errorf("%w: %v", ErrUntrusted, err)
		}
		between.AddCert(c)
	}
	chains, err := leaf.Verify(options(t.roots, between, now))
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %v", ErrUntrusted, err)
	}
	peer, err := peerOf(leaf)
	if err == nil {
		t.remember(key, chains[0])
	}
	return peer, err
}

func options(roots, between *x509.CertPool, now time.Time) x509.VerifyOptions {
	return x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
}

// known says whether a remembered path vouches for the leaf: its issuing certificate is taken as the root, with its
// expiry, name constraints and path length, and those above it must be within their times.
func (t *trust) known(key [sha256.Size]byte, leaf *x509.Certificate, now time.Time) bool {
	t.mu.RLock()
	p := t.paths[key]
	t.mu.RUnlock()
	if p == nil || now.Before(p.from) || now.After(p.until) || !plain(leaf) {
		return false
	}
	_, err := leaf.Verify(options(p.issuing, nil, now))
	return err == nil
}

// remember keeps the path of a verified chain (leaf to root), if known can check all that was checked here. It cannot if
// a certificate above the issuing one constrains names, or any has extensions, as policies, that bear on the whole chain.
// The path's length it need not check: every chain through this path has the same.
func (t *trust) remember(key [sha256.Size]byte, chain []*x509.Certificate) {
	if len(chain) < 3 || !plain(chain[1], oidNameConstraints) {
		return
	}
	p := &path{issuing: x509.NewCertPool(), from: chain[2].NotBefore, until: chain[2].NotAfter}
	p.issuing.AddCert(chain[1])
	for _, c := range chain[2:] {
		if !plain(c) {
			return
		}
		if c.NotBefore.After(p.from) {
			p.from = c.NotBefore
		}
		if c.NotAfter.Before(p.until) {
			p.until = c.NotAfter
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for old := range t.paths { // any one goes: it costs one more check if it is wanted again
		if len(t.paths) < maxPaths {
			break
		}
		delete(t.paths, old)
	}
	t.paths[key] = p
}

// The extensions (RFC 5280, 4.2.1) that are about their own certificate alone: key identifiers, key usage, alternative
// names, basic constraints, extended key usage.
var (
	plainExtensions = []asn1.ObjectIdentifier{
		{2, 5, 29, 35}, {2, 5, 29, 14}, {2, 5, 29, 15}, {2, 5, 29, 17}, {2, 5, 29, 19}, {2, 5, 29, 37},
	}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
)

// plain says whether a certificate has no extensions but the plain ones and those that are allowed besides.
func plain(c *x509.Certificate, also ...asn1.ObjectIdentifier) bool {
	for _, e := range c.Extensions {
		if !slices.ContainsFunc(plainExtensions, e.Id.Equal) && !slices.ContainsFunc(also, e.Id.Equal) {
			return false
		}
	}
	return true
}

// digest is a hash of the certificates and where each ends.
func digest(certificates [][]byte) (d [sha256.Size]byte) {
	h := sha256.New()
	for _, der := range certificates {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(der)))
		h.Write(size[:])
		h.Write(der)
	}
	h.Sum(d[:0])
	return d
}

package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// State is what an authority says to everyone of its domain about whom to trust, beyond their own certificates. It is
// always whole: what it does not name is not trusted.
type State struct {
	// Roots are the domain's own (DER): one, and while the root changes the next or the last beside it.
	Roots [][]byte
	// Domains are the roots of other domains, each trusted for its own domain alone.
	Domains map[string][][]byte
	// Keys are the routing keys (X25519) of the capability managers of those domains whose trust files have them.
	Keys map[string][][]byte
	// Banned are principals whose last certificates may not have ended yet; sorted.
	Banned []ID
}

// ErrBanned is wrapped by errors about a principal that its authority has ended. It is an ErrUntrusted.
var ErrBanned = fmt.Errorf("%w: banned by its authority", ErrUntrusted)

// anchors are all that an identity judges others by: the trust of its own domain, that of each other domain, and who is
// banned. A domain's roots vouch for that domain alone, whatever their certificates say.
type anchors struct {
	state   State
	own     *trust
	domains map[string]*trust
	roots   map[string][sha256.Size]byte // of each domain, digested
	banned  map[ID]struct{}
}

func newAnchors(s State) (*anchors, error) {
	own, err := trustIn(s.Roots)
	if err != nil {
		return nil, err
	}
	a := &anchors{state: s, own: own, domains: map[string]*trust{}, roots: map[string][sha256.Size]byte{}, banned: map[ID]struct{}{}}
	for domain, roots := range s.Domains {
		if a.domains[domain], err = trustIn(roots); err != nil {
			return nil, fmt.Errorf("domain %s: %w", domain, err)
		}
		a.roots[domain] = digest(roots)
	}
	for _, id := range s.Banned {
		a.banned[id] = struct{}{}
	}
	return a, nil
}

// trustIn is the trust in some roots (DER).
func trustIn(roots [][]byte) (*trust, error) {
	pool := x509.NewCertPool()
	for _, der := range roots {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("root certificate: %w", err)
		}
		pool.AddCert(c)
	}
	return newTrust(pool), nil
}

// verify checks a chain, leaf first, DER, at a moment, for an identity of the domain mine; "" is that of the leaf.
func (a *anchors) verify(chain [][]byte, mine string, now time.Time) (Peer, error) {
	if err := checkLength(len(chain)); err != nil {
		return Peer{}, err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %v", ErrUntrusted, err)
	}
	return a.verifyLeaf(leaf, chain[1:], mine, now)
}

func (a *anchors) verifyLeaf(leaf *x509.Certificate, behind [][]byte, mine string, now time.Time) (Peer, error) {
	domain := mine
	if len(leaf.URIs) == 1 {
		domain = leaf.URIs[0].Host
	}
	t, foreign := a.own, mine != "" && domain != mine
	if foreign {
		if t = a.domains[domain]; t == nil {
			return Peer{}, fmt.Errorf("%w: the domain %q is not trusted here (an administrator exchanges roots: ninjactl ca trust)", ErrUntrusted, domain)
		}
	}
	peer, err := t.verifyLeaf(leaf, behind, now)
	if err != nil {
		return peer, err
	}
	if _, banned := a.banned[peer.ID]; banned {
		return Peer{}, fmt.Errorf("%w: %s", ErrBanned, peer.ID)
	}
	peer.Foreign = foreign
	return peer, nil
}

// ended says whether nothing of a principal's is to be accepted any more, for an identity of the domain mine.
func (a *anchors) ended(id ID, mine string) bool {
	_, banned := a.banned[id]
	return banned || id.Domain() != mine && a.domains[id.Domain()] == nil
}

// watched are functions to call when a principal is banned.
type watched struct {
	mu   sync.Mutex
	next int
	of   map[ID]map[int]func()
}

// OnBan calls f once, in a goroutine of its own, when the authority bans the principal or trusts its domain no more: at
// once if it does already. It
// returns a function that takes that back. Whoever keeps something for a principal that outlives a check of its
// certificate (a connection, a session) ends it so.
func (i *Identity) OnBan(id ID, f func()) (stop func()) {
	i.onBan.mu.Lock()
	defer i.onBan.mu.Unlock()
	if i.credential.Load().anchors.ended(id, i.id.Domain()) {
		go f()
		return func() {}
	}
	if i.onBan.of == nil {
		i.onBan.of = map[ID]map[int]func(){}
	}
	if i.onBan.of[id] == nil {
		i.onBan.of[id] = map[int]func(){}
	}
	i.onBan.next++
	key := i.onBan.next
	i.onBan.of[id][key] = f
	return func() {
		i.onBan.mu.Lock()
		defer i.onBan.mu.Unlock()
		if delete(i.onBan.of[id], key); len(i.onBan.of[id]) == 0 {
			delete(i.onBan.of, id)
		}
	}
}

// Banned says whether the authority has banned the principal, as far as is known here.
func (i *Identity) Banned(id ID) bool {
	_, banned := i.credential.Load().anchors.banned[id]
	return banned
}

// TrustIn is a digest of the roots by which another domain is trusted, for those who remember what they verified: it
// changes with them. ok is false when the domain is not trusted, or is the own one.
func (i *Identity) TrustIn(domain string) (roots [sha256.Size]byte, ok bool) {
	roots, ok = i.credential.Load().anchors.roots[domain]
	return roots, ok
}

// State is what the identity knows of whom to trust.
func (i *Identity) State() State { return i.credential.Load().anchors.state }

// Adopt takes over what the authority says of whom to trust, and ends what OnBan was asked to end. It must come from the
// authority itself. A state without roots is refused.
func (i *Identity) Adopt(s State) error {
	if len(s.Roots) == 0 {
		return errors.New("a state of the domain without roots")
	}
	i.changing.Lock()
	c := *i.credential.Load()
	if sameState(c.anchors.state, s) {
		i.changing.Unlock()
		return nil
	}
	a, err := newAnchors(s)
	if err == nil {
		c.anchors = a
		i.credential.Store(&c)
	}
	i.changing.Unlock()
	if err != nil {
		return err
	}
	i.endUntrusted(a)
	return nil
}

// endUntrusted calls what waits for the end of those who are banned, or whose domain is trusted no more.
func (i *Identity) endUntrusted(a *anchors) {
	i.onBan.mu.Lock()
	defer i.onBan.mu.Unlock()
	for id, waiting := range i.onBan.of {
		if !a.ended(id, i.id.Domain()) {
			continue
		}
		for _, f := range waiting {
			go f()
		}
		delete(i.onBan.of, id)
	}
}

func sameState(a, b State) bool {
	return sameCertificates(a.Roots, b.Roots) && slices.Equal(a.Banned, b.Banned) && sameDomains(a, b)
}

// sameDomains reports whether two states trust the same other domains alike.
func sameDomains(a, b State) bool {
	return maps.EqualFunc(a.Domains, b.Domains, sameCertificates) && maps.EqualFunc(a.Keys, b.Keys, sameCertificates)
}

func sameCertificates(a, b [][]byte) bool { return digest(a) == digest(b) }

// Fingerprint is the SHA-256 of a certificate (DER), by which people compare roots.
func Fingerprint(der []byte) [sha256.Size]byte { return sha256.Sum256(der) }

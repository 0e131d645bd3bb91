package capability

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"ninja/ca"
)

// Narrowing is what to take from a capability; what is zero stays as it is.
type Narrowing struct {
	// Ops are the operations to keep.
	Ops Operations
	// Expires is when the narrowed one ends, if that is earlier. It has a resolution of a second.
	Expires time.Time
	// Template is conjoined to every query made with it, at most 4 KiB.
	Template []byte
	// Path is the one path that it is good for, at most 255 bytes.
	Path string
	// Delegate is the key of whom it is for.
	Delegate ed25519.PublicKey
}

// Narrow adds a block that takes something from a capability, signed by its present holder. Nobody has to be asked. The
// result never allows more than the token.
func Narrow(token []byte, holder *ca.Identity, n Narrowing) ([]byte, error) {
	blocks, _, c, err := parse(token)
	if err != nil {
		return nil, fmt.Errorf("narrow: %w", err)
	}
	if !c.Holder.Equal(holder.Public()) {
		return nil, fmt.Errorf("narrow: %w: %s does not hold it", ErrInvalid, holder.ID())
	}
	if len(blocks) == maxBlocks {
		return nil, fmt.Errorf("narrow: %w: it has %d blocks already", ErrInvalid, maxBlocks)
	}
	if len(n.Template) > maxTemplate || len(n.Path) > maxPath || (n.Path != "" && c.Path != "" && n.Path != c.Path) {
		return nil, fmt.Errorf("narrow: template over %d bytes, path over %d, or another path than before", maxTemplate, maxPath)
	}
	if n.Delegate != nil && len(n.Delegate) != sizeKey {
		return nil, errors.New("narrow: the delegate's key is not an Ed25519 key")
	}
	f := further{expires: c.Expires.Unix(), ops: c.Ops, delegate: n.Delegate, template: n.Template, path: n.Path}
	if n.Ops != 0 {
		f.ops &= n.Ops
	}
	if !n.Expires.IsZero() && n.Expires.Before(c.Expires) {
		f.expires = n.Expires.Unix()
	}
	out := slices.Clone(token)
	out[len(magic)]++
	b := block{before: token[len(magic)+1:], body: f.encode()}
	out = appendBlock(out, b.body, holder.Sign(contextBlock, b.message()))
	if len(out) > maxToken {
		return nil, fmt.Errorf("narrow: the result has %d bytes, at most %d", len(out), maxToken)
	}
	return out, nil
}

// Inspect reads what a capability claims without checking that it holds: for its own holder, to see when to renew it.
func Inspect(token []byte) (Claims, error) {
	_, _, c, err := parse(token)
	return c, err
}

// revocations tells which capabilities were taken back; a Follower does.
type revocations interface {
	Revoked(principal ca.ID, epoch uint64) bool
}

// Verifier checks capabilities. It remembers the chains it has verified, so that the same one costs a hash the next
// time. It is safe for use by many goroutines.
type Verifier struct {
	id      *ca.Identity
	manager func(ca.Peer) error
	revoked revocations

	mu       sync.Mutex
	new, old map[[sha256.Size]byte]Claims // verified; two generations, dropped in turn
}

// maxRemembered bounds each of the two generations of verified capabilities.
const maxRemembered = 4096

// NewVerifier makes a Verifier that trusts the roots of id and whatever manager accepts as capability manager; nil is
// ca.KindIs(ca.KindCapability).
func NewVerifier(id *ca.Identity, manager func(ca.Peer) error) *Verifier {
	if manager == nil {
		manager = ca.KindIs(ca.KindCapability)
	}
	return &Verifier{id: id, manager: manager, new: map[[sha256.Size]byte]Claims{}}
}

// WithRevocations makes the Verifier refuse what a Follower heard to be revoked. Call it before the first Verify.
func (v *Verifier) WithRevocations(f *Follower) *Verifier {
	v.revoked = f
	return v
}

// Verify checks a capability that the holder of a key presents, which is the key of the verified TLS peer. Errors wrap
// ErrInvalid. Each claim's slices are shared: do not change them.
func (v *Verifier) Verify(token []byte, holder ed25519.PublicKey) (Claims, error) {
	if len(token) > maxToken {
		return Claims{}, invalid("%d bytes, at most %d", len(token), maxToken)
	}
	hash := sha256.Sum256(token)
	c, ok := v.recall(hash)
	if !ok {
		var err error
		if c, err = v.verifyChain(slices.Clone(token), false); err != nil {
			return Claims{}, err
		}
		v.remember(hash, c)
	}
	if err := v.holds(c, holder); err != nil {
		return Claims{}, err
	}
	// Another domain counts its epochs for itself: there a voucher says so (VerifyAny).
	if v.revoked != nil && v.revoked.Revoked(c.Principal, c.Epoch) {
		return Claims{}, invalid("the rights of %s have changed since it was issued: get a new one", c.Principal)
	}
	return c, nil
}

// holds checks of verified claims what changes with time.
func (v *Verifier) holds(c Claims, holder ed25519.PublicKey) error {
	switch {
	case !c.Expires.After(v.id.Now()):
		return invalid("it expired at %s: get a new one", c.Expires.UTC().Format(time.RFC3339))
	case !c.Holder.Equal(holder):
		return invalid("it is presented by another key than its holder's")
	case v.id.Banned(c.Principal):
		return invalid("%s is banned by its authority", c.Principal)
	}
	return nil
}

// verifyChain checks every signature. The manager is of the own domain, or with foreign of another one that is trusted:
// there the kind capability speaks, which each domain gives to whom it wants.
func (v *Verifier) verifyChain(token []byte, foreign bool) (Claims, error) {
	blocks, f, c, err := parse(token)
	if err != nil {
		return Claims{}, err
	}
	if _, err := ca.ParseID(string(f.principal)); err != nil {
		return Claims{}, invalid("%v", err)
	}
	if now := v.id.Now(); !c.Expires.After(now) {
		return Claims{}, invalid("it expired at %s: get a new one", c.Expires.UTC().Format(time.RFC3339))
	} else if time.Unix(f.issued, 0).After(now.Add(clockSkew)) {
		return Claims{}, invalid("it was issued in the future: compare the clocks")
	}
	manager, err := v.speaker(f, foreign)
	if err != nil {
		return Claims{}, invalid("its manager: %v", err)
	}
	if manager.ID.Domain() != f.principal.Domain() {
		return Claims{}, invalid("%s cannot speak for %s", manager.ID, f.principal)
	}
	if !ca.VerifySignature(manager.Key, contextFirst, blocks[0].body, blocks[0].signature) {
		return Claims{}, invalid("the manager's signature is wrong")
	}
	holder := f.holder
	for _, b := range blocks[1:] {
		if !ca.VerifySignature(holder, contextBlock, b.message(), b.signature) {
			return Claims{}, invalid("the signature of a narrowing block is wrong")
		}
		if n, _ := decodeFurther(b.body); n.delegate != nil { // parse has seen that it is well-formed
			holder = n.delegate
		}
	}
	// A capability ends with the certificate that vouches for it.
	if end := manager.Leaf.NotAfter; end.Before(c.Expires) {
		c.Expires = end
	}
	c.manager = manager.Key
	return c, nil
}

// speaker is the manager that issued a capability.
func (v *Verifier) speaker(f first, foreign bool) (ca.Peer, error) {
	if !foreign {
		p, err := v.id.Verify(f.chain)
		if err == nil {
			err = v.manager(p)
		}
		return p, err
	}
	p, err := v.id.VerifyAny(f.chain)
	if err == nil {
		err = ca.KindIn([]string{f.principal.Domain()}, ca.KindCapability)(p)
	}
	return p, err
}

// clockSkew is how far two hosts' clocks may differ.
const clockSkew = time.Minute

func (v *Verifier) recall(hash [sha256.Size]byte) (Claims, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c, ok := v.new[hash]; ok {
		return c, true
	}
	c, ok := v.old[hash]
	if ok {
		v.put(hash, c)
	}
	return c, ok
}

func (v *Verifier) remember(hash [sha256.Size]byte, c Claims) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.put(hash, c)
}

func (v *Verifier) put(hash [sha256.Size]byte, c Claims) {
	if len(v.new) >= maxRemembered {
		v.old, v.new = v.new, make(map[[sha256.Size]byte]Claims, maxRemembered)
	}
	v.new[hash] = c
}

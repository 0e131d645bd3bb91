package ca

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "ninja/ca/capb"
)

// RoutingKey is a public key of a domain's capability manager as the domain's trust file carries it beside the roots
// (ninjactl ca roots): with it another domain's manager and this one have a secret that nobody else has, by which
// hidden services are found across the two. The manager's certificate stands with it, so whoever has compared the
// roots need compare nothing more.
type RoutingKey struct {
	// Key is the X25519 public key, 32 bytes (RFC 7748).
	Key []byte
	// Chain is the manager's, leaf first, when it signed. It may have ended since: a trust file is not used within the hour.
	Chain [][]byte
	// Signature is the manager's, context "ninja routing key 1", over the key.
	Signature []byte
}

// Bounds of routing keys.
const (
	// MaxRoutingKeys are those of one domain: the present one, and while it changes the one before.
	MaxRoutingKeys = 2
	sizeRoutingKey = 32
	maxRoutingKey  = 8 << 10 // bytes of a marshalled one
)

const contextRouting = "ninja routing key 1"

// NewRoutingKey signs a public key as a capability manager's.
func NewRoutingKey(manager *Identity, key []byte) RoutingKey {
	return RoutingKey{Key: key, Chain: manager.Chain(), Signature: manager.Sign(contextRouting, key)}
}

// Marshal is the key as ParseRoutingKey reads it.
func (k RoutingKey) Marshal() ([]byte, error) {
	return proto.Marshal(&pb.RoutingKey{Key: k.Key, Chain: k.Chain, Signature: k.Signature})
}

// ParseRoutingKey reads a key, and checks nothing but its form.
func ParseRoutingKey(b []byte) (RoutingKey, error) {
	var p pb.RoutingKey
	if len(b) > maxRoutingKey || proto.Unmarshal(b, &p) != nil || len(p.Key) != sizeRoutingKey {
		return RoutingKey{}, errors.New("the routing key cannot be read: have the file printed again with ninjactl ca roots")
	}
	return RoutingKey{Key: p.Key, Chain: p.Chain, Signature: p.Signature}, nil
}

// verifyIn checks that the capability manager of a domain with these roots signed the key, while its certificate held.
func (k RoutingKey) verifyIn(domain string, roots [][]byte, a *Authority) error {
	t, err := trustIn(roots)
	if err != nil {
		return err
	}
	if len(k.Chain) == 0 {
		return errors.New("the routing key stands without a certificate")
	}
	manager, err := t.verify(k.Chain, lastValid(k.Chain[0], a.world.Now()))
	switch {
	case err != nil:
		return fmt.Errorf("whose routing key it is: %w", err)
	case manager.ID.Domain() != domain || manager.ID.Kind() != KindCapability:
		return fmt.Errorf("the routing key is signed by %s, which is no capability manager of %s", manager.ID, domain)
	case len(k.Key) != sizeRoutingKey || !VerifySignature(manager.Key, contextRouting, k.Key, k.Signature):
		return errors.New("the signature of the routing key is wrong")
	}
	return nil
}

// routingKeys checks the keys of a domain and returns them bare.
func (a *Authority) routingKeys(domain string, roots [][]byte, keys []RoutingKey) (bare [][]byte, err error) {
	if len(keys) > MaxRoutingKeys {
		return nil, fmt.Errorf("%d routing keys, at most %d", len(keys), MaxRoutingKeys)
	}
	for _, k := range keys {
		if err := k.verifyIn(domain, roots, a); err != nil {
			return nil, err
		}
		bare = append(bare, slices.Clone(k.Key))
	}
	return bare, nil
}

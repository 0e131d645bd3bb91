package sds

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"ninja/ca"
	"ninja/sds/announce"
	"ninja/sds/check"
	"ninja/sds/sdspb"
)

// open verifies what the server sent, as far as it is not values of selected paths.
func (c *Client) open(items []item, selected int) []Found {
	out, now := make([]Found, 0, len(items)), c.cfg.World.Now()
	for i := range items {
		f, err := items[i].open(c, selected, now)
		if err != nil {
			b := &items[i].body
			c.cfg.Log.Warn("left out of the answer", "server", c.cfg.Address, "owner", b.Owner, "name", b.Name, "error", err)
			continue
		}
		out = append(out, f)
	}
	return out
}

// verify opens a service that a watch was told of.
func (c *Client) verify(m *sdspb.Found) (Found, error) {
	b := announce.Body{
		Owner: ca.ID(m.GetOwner()), Name: m.GetName(), Version: m.GetVersion(), Description: m.GetDescription(),
		Signature: m.GetSignature(), Chain: m.GetChain(),
	}
	if _, err := c.check(b); err != nil {
		return Found{}, err
	}
	return Found{
		ID: b.ID(), Owner: b.Owner, Name: b.Name, Version: b.Version, Description: b.Description, Numbers: m.GetNumbers(),
		Age: time.Duration(min(m.GetAgeMs(), maxAge)) * time.Millisecond,
	}, nil
}

// check checks the owner's chain, signature and document, once for each body while it is remembered. It says until when
// the chain holds.
func (c *Client) check(b announce.Body) (until time.Time, err error) {
	key := digest(b)
	now := c.cfg.World.Now()
	c.mu.Lock()
	until, known := c.verified[key]
	c.mu.Unlock()
	if known && !now.After(until) {
		return until, nil
	}
	peer, err := c.owner(b.Chain, now)
	if err == nil {
		err = b.VerifyBy(peer)
	}
	if err != nil {
		return time.Time{}, err
	}
	if _, err := check.Parse(b.Description); err != nil {
		return time.Time{}, err
	}
	c.remember(key, peer.Leaf.NotAfter)
	return peer.Leaf.NotAfter, nil
}

// owner verifies a chain, once while it is remembered.
func (c *Client) owner(chain [][]byte, now time.Time) (ca.Peer, error) {
	key := digest(announce.Body{Chain: chain})
	c.mu.Lock()
	peer, known := c.owners[key]
	c.mu.Unlock()
	if known && !now.After(peer.Leaf.NotAfter) {
		return peer, nil
	}
	peer, err := c.cfg.Identity.VerifyAny(chain) // of whatever domain the administrator trusts
	if err != nil {
		return ca.Peer{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	remember(c.owners, key, peer)
	return peer, nil
}

func (c *Client) remember(key [32]byte, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	remember(c.verified, key, until)
}

// remember keeps a value among a bounded number.
func remember[V any](in map[[32]byte]V, key [32]byte, v V) {
	if len(in) >= verifiedMost {
		for forgotten := range in { // any one: maps are walked at random
			delete(in, forgotten)
			break
		}
	}
	in[key] = v
}

// digest is the hash of all that Verify looks at.
func digest(b announce.Body) (sum [32]byte) {
	h := sha256.New()
	put := func(p []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	put([]byte(b.Owner))
	put([]byte(b.Name))
	put(binary.BigEndian.AppendUint64(nil, b.Version))
	put(b.Description)
	put(b.Signature)
	for _, c := range b.Chain {
		put(c)
	}
	h.Sum(sum[:0])
	return sum
}

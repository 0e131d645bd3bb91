package tree

import (
	"context"
	"crypto/hpke"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/sds/route"
	"ninja/sds/tree/treepb"
)

// keyring is what a client has presented to servers beyond its first.
type keyring struct {
	id    *ca.Identity
	world world.World

	mu    sync.Mutex
	by    map[ca.ID]*presented
	order []ca.ID // the latest last
}

// presented is the key that one server was presented, with which capability.
type presented struct {
	key        []byte
	capability [32]byte // its hash
}

func newKeyring(id *ca.Identity, w world.World) *keyring {
	return &keyring{id: id, world: w, by: make(map[ca.ID]*presented)}
}

// handles go with a question: for each server that the capability was presented to, the handle and MAC.
func (k *keyring) handles(capability, query, question []byte) *treepb.Proof {
	hash := sha256.Sum256(capability)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.by) == 0 {
		return nil
	}
	out := &treepb.Proof{}
	for _, p := range k.by {
		if p.capability == hash {
			h := handleOf(p.key)
			out.Shown = append(out.Shown, &treepb.Shown{Handle: h[:], Mac: macOf(p.key, query, question)})
		}
	}
	return out
}

// key is the one that a server was presented.
func (k *keyring) key(server ca.ID) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.by[server]; p != nil {
		return p.key
	}
	return nil
}

// keep remembers a key, and forgets the oldest when there are many.
func (k *keyring) keep(server ca.ID, key, capability []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.by[server] = &presented{key, sha256.Sum256(capability)}
	k.order = append(slices.DeleteFunc(k.order, func(id ca.ID) bool { return id == server }), server)
	if len(k.order) > handlesMost {
		delete(k.by, k.order[0])
		k.order = k.order[1:]
	}
}

// present seals a capability for a server that says that it has something hidden; one of another domain wants a voucher
// with it.
func (k *keyring) present(server ca.ID, h *treepb.Hidden, origin string, capability, voucher, question []byte) (*treepb.Proof, error) {
	peer, err := k.id.VerifyAny(h.GetChain())
	if err != nil {
		return nil, err
	}
	if peer.ID != server || peer.ID.Kind() != ca.KindSDS || !ca.VerifySignature(peer.Key, boxContext, h.GetKey(), h.GetSignature()) {
		return nil, fmt.Errorf("the key that %s shows is not its own", server)
	}
	public, err := kem().NewPublicKey(h.GetKey())
	if err != nil {
		return nil, err
	}
	p := &treepb.Presentation{
		Chain: k.id.Chain(), Capability: capability, Key: make([]byte, keySize), Nonce: make([]byte, 16), Origin: origin,
		UnixMs: k.world.Now().UnixMilli(), Voucher: voucher,
	}
	k.world.Fill(p.Key)
	k.world.Fill(p.Nonce)
	p.Signature = k.id.Sign(proofContext, proofOf(server, question, p))
	plain, err := proto.Marshal(p)
	if err != nil {
		return nil, err
	}
	sealed, err := hpke.Seal(public, kdf(), aead(), []byte(hpkeInfo+string(server)), plain)
	if err != nil {
		return nil, err
	}
	k.keep(server, p.Key, capability)
	return &treepb.Proof{Sealed: sealed}, nil
}

// presentMost is how many servers a client presents its capability to for one query.
const presentMost = 32

// reveal presents the capability to the servers that have something hidden for it, and takes what they answer.
func (w *wide) reveal(ctx context.Context, capability []byte) {
	hidden := w.hidden
	w.hidden = nil
	if len(hidden) > presentMost {
		hidden = hidden[:presentMost]
	}
	var all sync.WaitGroup
	for _, o := range hidden {
		all.Go(func() {
			err := w.revealOne(ctx, o, capability)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.revealed(ca.ID(o.GetServer()), err)
		})
	}
	all.Wait()
}

func (w *wide) revealOne(ctx context.Context, o *treepb.Outcome, capability []byte) error {
	server := ca.ID(o.GetServer())
	voucher, err := w.voucherFor(ctx, server, capability)
	if err != nil {
		return err
	}
	proof, err := w.keys.present(server, o.GetHidden(), w.cfg.Address, capability, voucher, w.question)
	if err != nil {
		return err
	}
	a := &treepb.Ask{
		Question: w.question, Scope: uint32(route.Local), Way: o.GetHidden().GetWay(), Proof: proof, Capability: capability,
	}
	return w.exchange(ctx, a)
}

// voucherFor is what a server of another domain wants beside a capability; nil for one of the own domain.
func (c *Client) voucherFor(ctx context.Context, server ca.ID, capability []byte) ([]byte, error) {
	if server.Domain() == c.cfg.Identity.ID().Domain() {
		return nil, nil
	}
	if c.cfg.Vouch == nil {
		return nil, errors.New("it is of another domain, and no capability manager is known that vouches for the capability")
	}
	return c.cfg.Vouch(ctx, capability)
}

// revealed notes in the server's outcome what came of presenting to it.
func (w *wide) revealed(server ca.ID, err error) {
	for i := range w.answer.Outcomes {
		o := &w.answer.Outcomes[i]
		if o.Server != server || !o.Hidden {
			continue
		}
		if o.Hidden = false; err != nil {
			o.Status, o.Detail = route.Failed, err.Error()
		}
	}
}

// unseal takes hits that are for this client's eyes.
func (w *wide) unseal(query []byte, all []*treepb.Sealed) {
	for _, s := range all {
		key := w.keys.key(ca.ID(s.GetServer()))
		m, err := openBox(key, query, s)
		if key == nil {
			err = errors.New("a sealed answer of a server that nothing was presented to")
		}
		if err != nil {
			if w.cfg.Log != nil {
				w.cfg.Log.Warn("left out of the answer", "server", s.GetServer(), "error", err)
			}
			continue
		}
		for _, h := range m.GetHits() {
			h.Server = s.GetServer()
		}
		w.hits(m.GetHits())
	}
}

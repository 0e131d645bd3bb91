package tree

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/tree/treepb"
)

// Beyond its first server nobody gets a client's capability but the servers that have something for it, and nobody on
// the way reads what they answer. A server that a question's tokens lead to, and that has services for one of their
// grants, says so with an HPKE key (Hidden). The client checks that the key is an SDS server's, and presents to it: the
// capability, and its own signature over server, origin, time, nonce, question and capability (Presentation). Later
// questions of the session carry a handle and a MAC instead. What is found is encrypted under the presented key.
const (
	boxContext   = "ninja tree box 1"   // of the signature over a server's HPKE key
	proofContext = "ninja tree proof 1" // of a client's over what it presents
	hpkeInfo     = "ninja tree present 1\x00"

	boxLife     = time.Hour   // of an HPKE key; then it is destroyed
	proofSkew   = time.Minute // how far a client's clock may be off
	keySize     = 32
	handleSize  = 16
	shownMost   = 4096 // presentations that a server remembers
	handlesMost = 64   // that travel with a question
)

func kem() hpke.KEM   { return hpke.MLKEM768X25519() }
func kdf() hpke.KDF   { return hpke.HKDFSHA256() }
func aead() hpke.AEAD { return hpke.AES256GCM() }

// boxes are what clients present to a server.
type boxes struct {
	id *ca.Identity

	mu       sync.Mutex
	now, old hpke.PrivateKey
	made     time.Time
	told     *treepb.Hidden // of now
	shown    map[[handleSize]byte]*shown
}

// shown is one presentation that held.
type shown struct {
	peer       ca.Peer
	chain      [][]byte
	capability []byte
	voucher    []byte
	key        []byte
}

func newBoxes(id *ca.Identity) (*boxes, error) {
	b := &boxes{id: id, shown: make(map[[handleSize]byte]*shown)}
	_, err := b.hidden()
	return b, err
}

// hidden is how to present something to this server.
func (b *boxes) hidden() (*treepb.Hidden, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.told == nil || time.Since(b.made) > boxLife {
		fresh, err := kem().GenerateKey()
		if err != nil {
			return nil, fmt.Errorf("tree: the key that capabilities are presented under: %w", err)
		}
		b.old, b.now, b.made = b.now, fresh, time.Now()
		public := fresh.PublicKey().Bytes()
		b.told = &treepb.Hidden{Key: public, Chain: b.id.Chain(), Signature: b.id.Sign(boxContext, public)}
	}
	return &treepb.Hidden{Key: b.told.Key, Chain: b.told.Chain, Signature: b.told.Signature}, nil
}

// take opens what was presented with a question.
func (b *boxes) take(sealed, question []byte) (*shown, error) {
	b.mu.Lock()
	keys := []hpke.PrivateKey{b.now, b.old}
	b.mu.Unlock()
	var plain []byte
	err := errors.New("no key")
	for _, k := range keys {
		if k != nil && err != nil {
			plain, err = hpke.Open(k, kdf(), aead(), []byte(hpkeInfo+string(b.id.ID())), sealed)
		}
	}
	if err != nil {
		return nil, errors.New("what was presented is not sealed to this server's key of this hour")
	}
	var p treepb.Presentation
	if err := proto.Unmarshal(plain, &p); err != nil || len(p.GetKey()) != keySize || len(p.GetChain()) > 4 {
		return nil, errors.New("what was presented cannot be read")
	}
	peer, err := b.id.VerifyAny(p.GetChain())
	if err != nil {
		return nil, fmt.Errorf("who presents a capability: %w", err)
	}
	if age := b.id.Now().Sub(time.UnixMilli(p.GetUnixMs())); age > proofSkew || age < -proofSkew {
		return nil, fmt.Errorf("a proof of %v ago: compare the clocks", age.Round(time.Second))
	}
	if !ca.VerifySignature(peer.Key, proofContext, proofOf(b.id.ID(), question, &p), p.GetSignature()) {
		return nil, errors.New("the signature of a proof is wrong")
	}
	s := &shown{peer: peer, chain: p.GetChain(), capability: p.GetCapability(), voucher: p.GetVoucher(), key: p.GetKey()}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.shown) >= shownMost {
		for forgotten := range b.shown { // any one: its client presents again
			delete(b.shown, forgotten)
			break
		}
	}
	b.shown[handleOf(s.key)] = s
	return s, nil
}

// find is the presentation that one of the handles stands for, if its MAC is right.
func (b *boxes) find(all []*treepb.Shown, query, question []byte) *shown {
	for _, m := range all[:min(len(all), handlesMost)] {
		if len(m.GetHandle()) != handleSize {
			continue
		}
		b.mu.Lock()
		s := b.shown[[handleSize]byte(m.GetHandle())]
		b.mu.Unlock()
		if s != nil && hmac.Equal(macOf(s.key, query, question), m.GetMac()) {
			return s
		}
	}
	return nil
}

// proofOf is what a client signs: every field with its length, so that it can mean one thing only.
func proofOf(server ca.ID, question []byte, p *treepb.Presentation) []byte {
	var b []byte
	capabilityHash, questionHash, keyHash := sha256.Sum256(p.GetCapability()), sha256.Sum256(question), sha256.Sum256(p.GetKey())
	for _, f := range [][]byte{[]byte(server), []byte(p.GetOrigin()), questionHash[:], capabilityHash[:], keyHash[:], p.GetNonce()} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(p.GetUnixMs()))
}

func handleOf(key []byte) [handleSize]byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("handle"))
	return [handleSize]byte(h.Sum(nil))
}

func macOf(key, query, question []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("question"))
	h.Write(query)
	h.Write(question)
	return h.Sum(nil)[:16]
}

// box encrypts an answer for the client; server and query are bound to it. openBox is its reverse.
func box(w world.World, key []byte, server ca.ID, query []byte, m *treepb.Answer) (*treepb.Sealed, error) {
	plain, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	a, err := boxAEAD(key)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, a.NonceSize())
	w.Fill(nonce)
	return &treepb.Sealed{Server: string(server), Box: a.Seal(nonce, nonce, plain, append([]byte(server), query...))}, nil
}

func openBox(key []byte, query []byte, s *treepb.Sealed) (*treepb.Answer, error) {
	a, err := boxAEAD(key)
	if err != nil {
		return nil, err
	}
	n := a.NonceSize()
	if len(s.GetBox()) < n {
		return nil, errors.New("a sealed answer that is too short")
	}
	plain, err := a.Open(nil, s.GetBox()[:n], s.GetBox()[n:], append([]byte(s.GetServer()), query...))
	if err != nil {
		return nil, errors.New("an answer that is not sealed for this client and question")
	}
	var m treepb.Answer
	return &m, proto.Unmarshal(plain, &m)
}

func boxAEAD(key []byte) (cipher.AEAD, error) {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("answers"))
	block, err := aes.NewCipher(h.Sum(nil))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// secrets tells what the server has for the asker beyond what everyone may find, sealed for its eyes; or, when it was
// presented nothing that holds now, that there may be something.
func (q *inquiry) secrets(public []sds.Hit) ([]*treepb.Sealed, *treepb.Hidden, error) {
	proof := q.ask.GetProof()
	var s *shown
	var err error
	now := len(proof.GetSealed()) > 0 && len(q.ask.GetWay()) == 0
	if now {
		if s, err = q.boxes.take(proof.GetSealed(), q.ask.GetQuestion()); err != nil {
			return nil, nil, err
		}
	} else if len(proof.GetShown()) > 0 {
		s = q.boxes.find(proof.GetShown(), q.ask.GetQuery(), q.ask.GetQuestion())
	}
	if s != nil {
		asker, err := q.stands(s)
		switch {
		case err == nil:
			sealed, err := q.sealedFor(asker, s.key, public)
			return sealed, nil, err
		case now: // as if it had not been presented
			q.cfg.Log.Info("a capability that was presented does not hold", "by", s.peer.ID, "error", err)
			return nil, nil, nil
		}
	}
	of, ok := q.opens(q.ask.GetTokens())
	if !ok {
		return nil, nil, nil
	}
	h, err := q.offer(of)
	return nil, h, err
}

// stands says what somebody may find who presented a capability, if it and who presented it are good still. Who is of
// another domain has the names that its domain gives it, and the groups of this domain that it is in.
func (n *Node) stands(s *shown) (sds.Asker, error) {
	if !s.peer.Foreign {
		return n.cfg.Local.Asks(s.peer, s.capability)
	}
	if _, err := n.cfg.Identity.VerifyAny(s.chain); err != nil {
		return sds.Asker{}, err
	}
	asker, err := n.cfg.Local.AsksFrom(s.peer, s.capability, s.voucher)
	if err == nil && asker.Principal.Domain() != n.self.Domain() && !asker.Nothing() {
		asker.Grants = slices.Concat(asker.Grants, n.cfg.Routes().Groups(asker.Principal))
	}
	return asker, err
}

// sealedFor are the hits for an asker that are not public, under the key that it presented.
func (q *inquiry) sealedFor(asker sds.Asker, key []byte, public []sds.Hit) ([]*treepb.Sealed, error) {
	hits, err := q.cfg.Local.Look(q.ctx, asker, q.question.local)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(public))
	for _, h := range public {
		known[h.ID] = true
	}
	m, size := &treepb.Answer{}, 0
	var out []*treepb.Sealed
	flush := func() error {
		b, err := box(q.cfg.World, key, q.self, q.ask.GetQuery(), m)
		out = append(out, b)
		m, size = &treepb.Answer{}, 0
		return err
	}
	for _, h := range hits {
		if known[h.ID] {
			continue
		}
		if size += len(h.Found.GetDescription()) + 1024; size > answerSize {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		m.Hits = append(m.Hits, hitMessage(h, q.self))
	}
	// Also when there is nothing: those on the way shall not know.
	return out, flush()
}

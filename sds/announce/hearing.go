package announce

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca"
	"ninja/ca/seal"
)

// Bounds of what a server holds about senders.
const (
	epochsPerSender = 4               // two processes of one identity, each with the next epoch
	maxEpochLife    = 24 * time.Hour  // a key block for longer is refused
	checkEvery      = 1 * time.Second // a sender's renewed chain or next epoch is checked at most so often
	maxVerified     = 256             // digests of bodies
)

// hearing is what a server knows of those that announce services to it, and what it does with their datagrams. It is
// pure: datagrams and times in, calls of the Sink and replies out. It may be used by several goroutines.
type hearing struct {
	id     *ca.Identity
	server *ServerAnnouncer
	sink   Sink
	most   int // epochs

	// heard are bytes that nobody but their senders can make, and make count once: what the period is estimated from.
	heard atomic.Uint64

	mu      sync.Mutex
	epochs  map[uint64]*heardEpoch
	senders map[ca.ID]*senderState
	lane    *lane
}

// answer is a datagram to send and where to.
type answer struct {
	datagram []byte
	to       netip.AddrPort
}

func newHearing(id *ca.Identity, server *ServerAnnouncer, sink Sink, most int, l *lane) *hearing {
	return &hearing{
		id: id, server: server, sink: sink, most: most, lane: l,
		epochs: map[uint64]*heardEpoch{}, senders: map[ca.ID]*senderState{},
	}
}

// Refusals of what anybody can send: they are made once.
var (
	errNoKind     = &Refused{Reason: ReasonMalformed, Detail: "not a datagram of the service channel"}
	errOtherKey   = &Refused{Reason: ReasonDomain, Detail: "a key block for another server, or for a key that was replaced"}
	errNoVoucher  = &Refused{Reason: ReasonSignature, Detail: "a key block for an epoch that is known, vouched for by none"}
	errNotVouched = &Refused{Reason: ReasonSignature, Detail: "a key block that its sender's present epoch does not vouch for"}
	errNoEpoch    = &Refused{Reason: ReasonUnknown, Detail: "a sealed datagram of an epoch that is not known (yet)"}
)

// handle takes a datagram from the service channel, or from the unicast port. An answer is never longer than the
// datagram. waiting says that a stranger is ready for admit. Every error is a *Refused.
func (h *hearing) handle(d []byte, from netip.AddrPort, now time.Time) (out answer, waiting bool, err error) {
	switch kindOf(d) {
	case kindSolicit:
		return answer{h.server.answer(d), from}, false, nil
	case kindKeyBlock:
		waiting, err = h.keyBlock(d, from, now)
		return answer{}, waiting, err
	case kindHello, kindRecord:
		return h.sealed(d, from, now)
	}
	return answer{}, false, errNoKind
}

// keyBlock does what is cheap: it drops what is known already, lets a known sender's next epoch in, and puts
// strangers into the lane.
func (h *hearing) keyBlock(d []byte, from netip.AddrPort, now time.Time) (waiting bool, err error) {
	k, err := parseKeyBlock(d)
	if err != nil {
		return false, err
	}
	if left := k.expires.Sub(now); left < -MaxSkew || left > maxEpochLife+MaxSkew {
		return false, refuse(ReasonSkew, "a key block whose epoch ends %v from now: set the clocks of both hosts", left.Round(time.Second))
	}
	if h.server.keys.byID(k.keyID) == nil {
		return false, errOtherKey
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	vouching := h.epochs[k.vouch]
	if vouching == nil {
		if h.epochs[k.handle] != nil {
			return false, errNoVoucher
		}
		return h.lane.add(laneKey{k.handle, from}, kindKeyBlock, d, now), nil
	}
	if !hmac.Equal(k.mac[:], vouching.vouchFor(d)) {
		return false, errNotVouched
	}
	if h.epochs[k.handle] != nil {
		return false, nil // repeated for those that lack it
	}
	return false, h.succeed(vouching, k, now)
}

// succeed opens the next epoch of a known sender, whose identity and certificates carry over.
func (h *hearing) succeed(before *heardEpoch, k keyBlock, now time.Time) error {
	before.mu.Lock()
	defer before.mu.Unlock()
	if now.Sub(before.checked) < checkEvery {
		return refuse(ReasonFull, "%s begins epochs faster than one in %v", before.owner, checkEvery)
	}
	before.checked = now
	e, _, err := h.openBlock(k)
	if err != nil {
		return err
	}
	if h.id.Banned(before.owner) {
		return refuse(ReasonIdentity, "%s is banned by its authority", before.owner)
	}
	if !before.sender.Equal(e.sender) {
		return refuse(ReasonIdentity, "%s vouches for an epoch of another key", before.owner)
	}
	next, err := newHeardEpoch(e, before.peer, before.chain, now)
	if err != nil {
		return err
	}
	next.reply = before.reply
	return h.insert(next, now)
}

func (h *hearing) openBlock(k keyBlock) (*epoch, [32]byte, error) {
	key := h.server.keys.byID(k.keyID)
	if key == nil {
		return nil, [32]byte{}, refuse(ReasonDomain, "a key block for a key that was replaced")
	}
	return openKeyBlock(k, h.server.binding(), key.private, key.hash)
}

// takeStranger is the next one for admit; nil when none is whole.
func (h *hearing) takeStranger(now time.Time) *stranger {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lane.next(now, h.server.Period())
}

// admit does what is costly: it opens a stranger's key block and checks its certificates, and tells it that it is heard.
func (h *hearing) admit(s *stranger, now time.Time) (answer, error) {
	k, err := parseKeyBlock(s.block)
	if err != nil {
		return answer{}, err
	}
	e, chainHash, err := h.openBlock(k)
	if err != nil {
		return answer{}, err
	}
	open, err := seal.NewOpener(e.toServer, e.handle)
	if err != nil {
		return answer{}, err
	}
	payload, _, err := open.Open(nil, s.hello)
	if err != nil {
		return answer{}, refuse(ReasonSignature, "certificates that are not sealed under their epoch: %v", err)
	}
	hi, err := parseHello(payload)
	if err != nil {
		return answer{}, err
	}
	if sha256.Sum256(appendChain(nil, hi.chain)) != chainHash {
		return answer{}, refuse(ReasonSignature, "other certificates than the key block names")
	}
	peer, err := h.verify(hi.chain, e)
	if err != nil {
		return answer{}, err
	}
	heard, err := newHeardEpoch(e, peer, hi.chain, now)
	if err != nil {
		return answer{}, err
	}
	heard.open, heard.reply = open, replyTo(s.key.from, hi.reply)
	h.mu.Lock()
	err = h.insert(heard, now)
	h.mu.Unlock()
	if err != nil {
		return answer{}, err
	}
	h.heard.Add(uint64(len(s.block) + len(s.hello)))
	return heard.answer(reply{}, len(s.hello)), nil
}

// verify says who a chain is of and whether it goes with the epoch's key.
func (h *hearing) verify(chain [][]byte, e *epoch) (ca.Peer, error) {
	peer, err := h.id.Verify(chain)
	if err != nil {
		return ca.Peer{}, refuse(ReasonIdentity, "certificates of a sender: %v", err)
	}
	if !peer.Key.Equal(e.sender) {
		return ca.Peer{}, refuse(ReasonIdentity, "the certificate of %s with an epoch of another key", peer.ID)
	}
	if peer.ID.Domain() != h.id.ID().Domain() {
		return ca.Peer{}, refuse(ReasonDomain, "%s is of another domain", peer.ID)
	}
	return peer, nil
}

// replyTo is where an authenticated sender wants its replies. It could name another host, which then gets less than the
// sender spends, under the sender's name.
func replyTo(from, wanted netip.AddrPort) netip.AddrPort {
	if wanted.Addr().IsMulticast() || !wanted.IsValid() || wanted.Port() == 0 {
		return from
	}
	return wanted
}

// answer seals a reply that makes no longer a datagram than the one of size bytes that it answers.
func (e *heardEpoch) answer(r reply, size int) answer {
	d, err := e.seal.Seal(nil, kindReply, r.append(nil, size-seal.Overhead))
	if err != nil || len(d) > size {
		return answer{}
	}
	return answer{d, e.reply}
}

// sealed opens what is sealed under an epoch.
func (h *hearing) sealed(d []byte, from netip.AddrPort, now time.Time) (out answer, waiting bool, err error) {
	header, err := seal.Parse(d)
	if err != nil {
		return answer{}, false, refuse(ReasonMalformed, "%v", err)
	}
	h.mu.Lock()
	e := h.epochs[header.Handle]
	if e == nil && header.Kind == kindHello {
		waiting = h.lane.add(laneKey{header.Handle, from}, kindHello, d, now)
		h.mu.Unlock()
		return answer{}, waiting, nil
	}
	h.mu.Unlock()
	if e == nil {
		return answer{}, false, errNoEpoch
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if now.After(e.until) {
		return answer{}, false, &Refused{Reason: ReasonReplay, Detail: "its epoch or certificate has ended", of: e.owner}
	}
	if h.id.Banned(e.owner) {
		return answer{}, false, refuse(ReasonIdentity, "%s is banned by its authority", e.owner)
	}
	room := rooms.Get().(*[seal.MaxDatagram]byte)
	defer rooms.Put(room)
	payload, _, err := e.open.Open(room[:0], d)
	switch {
	case errors.Is(err, seal.ErrReplayed):
		return answer{}, false, e.refused(&e.replayed, ReasonReplay, "a datagram that was heard before")
	case err != nil:
		return answer{}, false, e.refused(&e.forged, ReasonSignature, "a datagram that its epoch did not seal")
	}
	if header.Kind == kindHello {
		h.heard.Add(uint64(len(d) + keyBlockSize)) // which goes before it; by itself it could be repeated by anybody
		out, err = h.hello(e, payload, from, len(d), now)
	} else {
		h.heard.Add(uint64(len(d)))
		out, err = h.record(e, payload, len(d))
	}
	return out, false, err
}

// rooms are where datagrams are opened. What is kept of a payload is copied.
var rooms = sync.Pool{New: func() any { return new([seal.MaxDatagram]byte) }}

// hello takes a known sender's certificates and reply address, and tells it that it is heard.
func (h *hearing) hello(e *heardEpoch, payload []byte, from netip.AddrPort, size int, now time.Time) (answer, error) {
	hi, err := parseHello(payload)
	if err != nil {
		return answer{}, err
	}
	if hash := sha256.Sum256(appendChain(nil, hi.chain)); hash != e.told {
		if now.Sub(e.checked) < checkEvery {
			return answer{}, refuse(ReasonFull, "%s renews its certificate faster than once in %v", e.owner, checkEvery)
		}
		e.checked = now
		peer, err := h.verify(hi.chain, e.epoch)
		if err != nil {
			return answer{}, err
		}
		if peer.ID != e.owner {
			return answer{}, refuse(ReasonIdentity, "the certificate of %s in the epoch of %s", peer.ID, e.owner)
		}
		e.peer, e.chain, e.told = peer, hi.chain, hash
		e.lives(now)
	}
	e.reply = replyTo(from, hi.reply)
	return e.answer(reply{}, size), nil
}

// record hands what a known sender says to the Sink.
func (h *hearing) record(e *heardEpoch, payload []byte, size int) (answer, error) {
	if len(payload) == 0 {
		return answer{}, refuse(ReasonMalformed, "an empty record of %s", e.owner)
	}
	switch payload[0] {
	case recordBody:
		return h.body(e, slices.Clone(payload), size)
	case recordRefresh:
		pairs, period, err := parsePairs(payload, e.pairs)
		if err != nil {
			return answer{}, err
		}
		e.pairs = pairs
		unknown := h.sink.Refresh(e.owner, h.server.lifetime(period), pairs)
		if len(unknown) == 0 {
			return answer{}, nil
		}
		return e.answer(reply{unknown: unknown}, size), nil
	case recordWithdraw:
		pairs, _, err := parsePairs(payload, e.pairs)
		if err != nil {
			return answer{}, err
		}
		e.pairs = pairs
		for _, p := range pairs {
			h.sink.Withdraw(e.owner, p.Name, p.Version)
		}
		return answer{}, nil
	}
	return answer{}, refuse(ReasonMalformed, "a record of the unknown type %d of %s", payload[0], e.owner)
}

// put checks a body's signature and hands it to the Sink, unless it was the last that came under its name.
func (h *hearing) put(e *heardEpoch, b Body, description packed) error {
	digest := sha256.New()
	digest.Write(append(appendString(e.told[:], b.Name), description.flags))
	digest.Write(binary.BigEndian.AppendUint64(b.Signature, b.Version))
	digest.Write(description.bytes)
	sum := [32]byte(digest.Sum(nil))
	pair := []Pair{{Name: b.Name, Version: b.Version, Numbers: b.Numbers}}
	if e.verified[b.Name] == sum && len(h.sink.Refresh(e.owner, b.Lifetime, pair)) == 0 {
		return nil
	}
	if err := b.unpack(description); err != nil {
		return err
	}
	if err := b.verifyBy(e.peer); err != nil {
		return err
	}
	if err := h.sink.Put(b); err != nil {
		return err
	}
	if len(e.verified) >= maxVerified || e.verified == nil {
		e.verified = map[string][32]byte{}
	}
	e.verified[b.Name] = sum
	return nil
}

// body checks the owner's signature and puts the body into the Sink. Why one is refused is told to its owner.
func (h *hearing) body(e *heardEpoch, payload []byte, size int) (answer, error) {
	body, description, period, err := parseBody(payload)
	if err != nil {
		return answer{}, err
	}
	body.Owner, body.Chain, body.Lifetime = e.owner, e.chain, h.server.lifetime(period)
	if err = h.put(e, body, description); err == nil {
		return answer{}, nil
	}
	f := refusal{name: body.Name, version: body.Version, reason: ReasonMalformed, detail: err.Error()}
	var refused *Refused
	if errors.As(err, &refused) {
		f.reason, f.detail = refused.Reason, refused.Detail
	}
	return e.answer(reply{refused: []refusal{f}}, size), err
}

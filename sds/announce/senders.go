package announce

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ninja/ca"
	"ninja/ca/seal"
)

// senderState is what is held of one sender.
type senderState struct {
	epochs []*heardEpoch
	// floor is the latest expiry of an epoch that was given up: epochs that end no later were heard before, even if the
	// wall clock has gone back since. It is kept until every sealing key that they could be sealed to is destroyed.
	floor time.Time
	idle  time.Time // since when there are no epochs
}

// heardEpoch is a sender's epoch as the server holds it.
type heardEpoch struct {
	*epoch
	owner ca.ID

	mu      sync.Mutex // of what follows
	until   time.Time  // by this host's monotonic clock: a jump of the wall clock ends nobody
	peer    ca.Peer
	chain   [][]byte
	told    [32]byte // hash of chain
	open    *seal.Opener
	seal    *seal.Sealer
	reply   netip.AddrPort
	checked time.Time
	pairs   []Pair
	// verified are digests of the bodies that the Sink took, by name: one that is repeated is a refresh and costs no more.
	verified map[string][32]byte
	// replayed and forged are what is said of such datagrams, made when it is said first.
	replayed, forged *Refused
}

func (e *heardEpoch) refused(made **Refused, reason Reason, detail string) error {
	if *made == nil {
		*made = &Refused{Reason: reason, Detail: detail, of: e.owner}
	}
	return *made
}

func newHeardEpoch(e *epoch, peer ca.Peer, chain [][]byte, now time.Time) (*heardEpoch, error) {
	out := &heardEpoch{epoch: e, owner: peer.ID, peer: peer, chain: chain, told: sha256.Sum256(appendChain(nil, chain))}
	out.lives(now)
	var err error
	if out.open, err = seal.NewOpener(e.toServer, e.handle); err != nil {
		return nil, err
	}
	out.seal, err = seal.NewSealer(e.toService, e.handle)
	return out, err
}

// lives sets the end of the epoch: its own or its certificate's, whichever is sooner.
func (e *heardEpoch) lives(now time.Time) {
	e.until = now.Add(min(e.expires.Sub(now), e.peer.Leaf.NotAfter.Sub(now)))
}

// insert makes room for an epoch within the sender's own bound; mu is held.
func (h *hearing) insert(e *heardEpoch, now time.Time) error {
	mine := h.senders[e.owner]
	if mine == nil {
		mine = &senderState{}
	}
	switch {
	case h.epochs[e.handle] != nil:
		return nil
	case !e.until.After(now) || !e.expires.After(mine.floor):
		return refuse(ReasonReplay, "an epoch of %s that has ended", e.owner)
	case len(h.epochs) >= h.most:
		return refuse(ReasonFull, "%d epochs of senders are held; %s has to use a stream", h.most, e.owner)
	case len(mine.epochs) >= epochsPerSender:
		first := slices.MinFunc(mine.epochs, func(a, b *heardEpoch) int { return a.expires.Compare(b.expires) })
		if e.expires.Before(first.expires) {
			return refuse(ReasonReplay, "an epoch of %s that is older than %d others", e.owner, epochsPerSender)
		}
		h.drop(first, now)
	}
	h.epochs[e.handle] = e
	h.senders[e.owner] = mine
	mine.epochs = append(mine.epochs, e)
	return nil
}

// drop forgets an epoch, for good; mu is held.
func (h *hearing) drop(e *heardEpoch, now time.Time) {
	delete(h.epochs, e.handle)
	mine := h.senders[e.owner]
	mine.epochs = slices.DeleteFunc(mine.epochs, func(other *heardEpoch) bool { return other == e })
	if mine.idle = now; e.expires.After(mine.floor) {
		mine.floor = e.expires
	}
}

// sweep forgets the epochs that have ended and returns how many are left.
func (h *hearing) sweep(now time.Time) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.epochs {
		e.mu.Lock()
		ended := now.After(e.until) || h.id.Banned(e.owner)
		e.mu.Unlock()
		if ended {
			h.drop(e, now)
		}
	}
	for id, s := range h.senders {
		if len(s.epochs) == 0 && now.Sub(s.idle) > 2*h.server.cfg.KeyLife {
			delete(h.senders, id)
		}
	}
	return len(h.epochs)
}

package tree

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"time"

	"ninja/ca"
	"ninja/capability"
	"ninja/sds"
	"ninja/sds/summary"
	"ninja/sds/tree/treepb"
)

// secretAlone has routes within the domain alone, for a node that is told a secret and no routes.
func secretAlone(secret func() []byte) func() *capability.Routes {
	return func() *capability.Routes { return capability.NewRoutes(secret(), nil, nil) }
}

// tokensOf are the tokens of the grants, in order; none without a secret.
func tokensOf(routes *capability.Routes, grants []capability.Who, now time.Time) (out []summary.Term) {
	for _, g := range grants {
		for _, l := range routes.Locks(g) {
			out = append(out, summary.Token(l.Key, string(l.Name), now))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// tokensMost bounds the tokens of a question.
const tokensMost = 256

// made are the tokens of the last grants that asked: one session's questions come after one another.
type made struct {
	at     time.Time
	grants []capability.Who
	tokens []summary.Term
}

// tokens are those that the asker's grants entitle to: in its own domain, and in those that it has a secret with.
func (n *Node) tokens(a sds.Asker) (out []summary.Term) {
	if !a.Secret() {
		return nil
	}
	now := time.Now()
	if m := n.made.Load(); m != nil && now.Sub(m.at) < n.cfg.Period && slices.Equal(m.grants, a.Grants) {
		return m.tokens
	}
	for _, l := range n.cfg.Routes().Keys(a.Grants, tokensMost/2) { // around midnight each has two
		out = append(out, summary.Tokens(l.Key, []string{string(l.Name)}, n.cfg.World.Now())...)
	}
	if len(out) > 0 { // the routes may not have come yet
		n.made.Store(&made{now, slices.Clone(a.Grants), out})
	}
	return out
}

// mine are the tokens of what is hidden at this server, and what each stands for, as of a moment ago.
type mine struct {
	at  time.Time
	set map[summary.Term]capability.Lock
}

// opens finds one of the tokens that is of a grant that opens something hidden here.
func (n *Node) opens(tokens []uint64) (capability.Lock, bool) {
	if len(tokens) == 0 {
		return capability.Lock{}, false
	}
	m := n.mine.Load()
	if m == nil || time.Since(m.at) > n.cfg.Period {
		m = &mine{time.Now(), make(map[summary.Term]capability.Lock)}
		now, routes := n.cfg.World.Now(), n.cfg.Routes()
		for _, g := range n.cfg.Local.HiddenGrants() {
			for _, l := range routes.Locks(g) {
				for _, t := range summary.Tokens(l.Key, []string{string(l.Name)}, now) {
					m.set[t] = l
				}
			}
		}
		n.mine.Store(m)
	}
	for _, t := range tokens {
		if l, ok := m.set[summary.Term(t)]; ok {
			return l, true
		}
	}
	return capability.Lock{}, false
}

// offer is how to present something to this server, with the proof for a first server of another domain that this one has
// something for one of its asker's names: else any server of a trusted domain could have everyone's capabilities shown.
func (q *inquiry) offer(of capability.Lock) (*treepb.Hidden, error) {
	h, err := q.boxes.hidden()
	if routes := q.cfg.Routes(); err == nil && routes != nil && !bytes.Equal(of.Key, routes.Secret) {
		h.Offer = offerOf(of, q.self, h.GetKey(), q.ask.GetQuery())
	}
	return h, err
}

func offerOf(of capability.Lock, server ca.ID, key, query []byte) []byte {
	h := hmac.New(sha256.New, of.Key)
	for _, part := range [][]byte{[]byte("ninja tree offer 1"), []byte(of.Name), []byte(server), query, key} {
		h.Write(part)
		h.Write([]byte{0}) // names have none, a query has 16 bytes
	}
	return h.Sum(nil)[:16]
}

// offered reports whether what a server says of something hidden is to be told to the asker, whose first server this is:
// one of another domain must know one of the asker's names by what the two domains share.
func (q *inquiry) offered(server ca.ID, h *treepb.Hidden) bool {
	if server.Domain() == q.self.Domain() {
		return true
	}
	routes := q.cfg.Routes()
	if routes == nil {
		return false
	}
	for _, l := range routes.Keys(q.asker.Grants, tokensMost/2) {
		if routes.Leads(l, server.Domain()) && hmac.Equal(offerOf(l, server, h.GetKey(), q.ask.GetQuery()), h.GetOffer()) {
			return true
		}
	}
	return false
}

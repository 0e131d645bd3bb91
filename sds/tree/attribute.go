package tree

import (
	"time"

	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/sds/route"
	"ninja/sds/tree/treepb"
)

// attribute says of what a neighbour did itself how it was reached, and how old the summary was that led there. It takes
// note of whether the neighbour spoke of itself, and had reason to ask others.
func (b *branch) attribute(m *answer) {
	q, nb, kept := b.q, b.nb, m.outcomes[:0]
	for _, o := range m.outcomes {
		t, err := parseTold(o)
		if err != nil {
			continue // it says nothing
		}
		itself := string(t.server) == string(nb.id)
		b.named = b.named || itself
		b.further = b.further || !itself && (t.status == route.Searched || t.status == route.Flagged)
		if itself && string(t.via) == string(nb.id) {
			o = reached(o, string(q.self), nb.hierarchy, nb.up, uint64(max(0, time.Since(time.Unix(0, nb.heard.Load())).Milliseconds())))
		}
		if t.hidden {
			if o, err = q.through(o, string(nb.id)); err != nil {
				continue
			}
		}
		kept = append(kept, o)
	}
	m.outcomes = kept
}

// through says of what is hidden somewhere by which server that is reached.
func (q *inquiry) through(o []byte, server string) ([]byte, error) {
	m := new(treepb.Outcome)
	if err := proto.Unmarshal(o, m); err != nil {
		return nil, err
	}
	if h := m.GetHidden(); q.from.client != nil && !q.offered(ca.ID(m.GetServer()), h) {
		m.Hidden = nil // it is not for this client
	} else if len(h.Way) < route.HopsMost {
		h.Way = append([]string{server}, h.Way...)
	}
	return proto.Marshal(m)
}

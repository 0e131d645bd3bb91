package tree

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ninja/ca"
	"ninja/sds/summary"
	"ninja/sds/tree/treepb"
)

// Links tells how the neighbours fare. It tells of services only how many everyone may find.
func (n *Node) Links(ctx context.Context, _ *treepb.LinksRequest) (*treepb.LinksResponse, error) {
	out := &treepb.LinksResponse{Server: string(n.self)}
	now := time.Now()
	for _, h := range n.all() {
		var plan summary.Plan
		if !h.wait(ctx, func() { plan = h.plan(); out.Load = max(out.Load, uint64(len(h.content.docs))) }) {
			return nil, ctx.Err()
		}
		out.Hierarchies = append(out.Hierarchies, h.name)
		out.Plans = append(out.Plans, planMessage(plan))
		for _, nb := range *h.view.Load() {
			out.Links = append(out.Links, nb.message(now))
		}
	}
	return out, nil
}

func (nb *neighbour) message(now time.Time) *treepb.Link {
	l := &treepb.Link{
		Hierarchy: nb.hierarchy, Neighbour: string(nb.id), Up: nb.up, Alive: nb.stream != nil, Address: nb.address, Spawned: nb.spawned,
		AgeMs: uint64(max(0, now.Sub(time.Unix(0, nb.heard.Load())).Milliseconds())), Received: nb.received.Load(), Detail: nb.detail,
	}
	if nb.table.Known() {
		l.Services, l.Terms, l.Bytes = nb.table.Services(), uint64(nb.table.Terms()), uint64(nb.table.Bytes())
	}
	nb.account.mu.Lock()
	defer nb.account.mu.Unlock()
	l.Flag, l.Sent, l.Wasted = string(nb.account.Flag), nb.account.Sent(), nb.account.Wasted()
	return l
}

// Link is a neighbour of a server, as the server sees it.
type Link struct {
	Hierarchy string        `json:"hierarchy"`
	Neighbour ca.ID         `json:"neighbour"`
	Up        bool          `json:"parent"`
	Alive     bool          `json:"alive"`
	Address   string        `json:"address"`
	Age       time.Duration `json:"age_ns"`   // since its summary was last told or confirmed
	Services  uint64        `json:"services"` // behind it, that everyone may find
	Terms     uint64        `json:"terms"`    // of its summary
	Bytes     uint64        `json:"bytes"`    // of memory that it takes
	Received  uint64        `json:"received"` // bytes of summaries
	Flag      string        `json:"flag,omitempty"`
	Sent      uint64        `json:"sent"`   // questions
	Wasted    uint64        `json:"wasted"` // of them, that found nothing
	Spawned   bool          `json:"spawned,omitempty"`
	Detail    string        `json:"detail,omitempty"` // why it is not alive
}

// Standing is where a server stands.
type Standing struct {
	Server ca.ID           `json:"server"`
	Links  []Link          `json:"links"`
	Plans  map[string]Plan `json:"plans"` // by hierarchy
}

// Plan is how many facts the summaries of a hierarchy tell together.
type Plan struct {
	Epoch   uint64 `json:"epoch"`
	Pairs   int    `json:"pairs"`
	Triples int    `json:"triples"`
}

// Standing asks the server where it stands.
func (c *Client) Standing(ctx context.Context) (Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	m, err := treepb.NewTreeClient(c.Conn()).Links(ctx, &treepb.LinksRequest{Version: 1})
	if err != nil {
		return Standing{}, fmt.Errorf("links of the SDS server %s: %w", c.cfg.Address, err)
	}
	out := Standing{Server: ca.ID(m.GetServer()), Plans: map[string]Plan{}, Links: []Link{}}
	for i, name := range m.GetHierarchies() {
		if i < len(m.GetPlans()) {
			p := m.GetPlans()[i]
			out.Plans[name] = Plan{p.GetEpoch(), len(p.GetPairs()), len(p.GetTriples())}
		}
	}
	for _, l := range m.GetLinks() {
		out.Links = append(out.Links, Link{
			l.GetHierarchy(), ca.ID(l.GetNeighbour()), l.GetUp(), l.GetAlive(), l.GetAddress(), time.Duration(l.GetAgeMs()) * time.Millisecond,
			l.GetServices(), l.GetTerms(), l.GetBytes(), l.GetReceived(), l.GetFlag(), l.GetSent(), l.GetWasted(), l.GetSpawned(), l.GetDetail(),
		})
	}
	slices.SortStableFunc(out.Links, func(a, b Link) int {
		if a.Hierarchy != b.Hierarchy {
			return slices.Compare([]string{a.Hierarchy}, []string{b.Hierarchy})
		}
		return 0
	})
	return out, nil
}

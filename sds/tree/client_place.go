package tree

import (
	"context"
	"fmt"

	"ninja/ca"
	"ninja/sds/tree/treepb"
)

// Place is where a server stands in a hierarchy.
type Place struct {
	Hierarchy string `json:"hierarchy"`
	// Parent is "" where it has none.
	Parent  ca.ID  `json:"parent"`
	Address string `json:"address,omitempty"`
	// Line are the parent's ancestors, the nearest first.
	Line []string `json:"line,omitempty"`
}

// Join has the server stand below another parent from now on; without a parent's address it stands as its configuration says.
// Only its administrator may. When it returns an error that is not about keeping the change, all is as it was.
func (c *Client) Join(ctx context.Context, p Parent) (Place, error) {
	return c.place(ctx, &treepb.PlaceRequest{Hierarchy: p.Hierarchy, Addresses: p.Addresses, Domain: p.Domain, Configured: len(p.Addresses) == 0})
}

// Leave has the server stand without a parent from now on.
func (c *Client) Leave(ctx context.Context, hierarchy string) (Place, error) {
	return c.place(ctx, &treepb.PlaceRequest{Hierarchy: hierarchy})
}

func (c *Client) place(ctx context.Context, m *treepb.PlaceRequest) (Place, error) {
	m.Version = 1
	r, err := treepb.NewTreeClient(c.Conn()).Place(ctx, m)
	if err != nil {
		return Place{}, fmt.Errorf("the SDS server %s: %w", c.cfg.Address, err)
	}
	return Place{m.GetHierarchy(), ca.ID(r.GetParent()), r.GetAddress(), r.GetLine()}, nil
}

package home

import (
	"context"

	"ninja/ca"
)

// Fresh keeps the identity's certificate fresh until ctx ends: for tools that run for hours.
func (h *Home) Fresh(ctx context.Context) error {
	r, err := ca.NewRenewer(ca.RenewerConfig{World: h.World, Identity: h.Identity, Source: ca.NewClient(h.World, h.Identity), Dir: h.Dir})
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

package tree

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/sds/tree/treepb"
)

// moveTo has a new ascent, or none, be the one of the hierarchy. The link of the one before is left in order: it is out of
// sight for questions at once. The hierarchy's owner calls it.
func (h *hierarchy) moveTo(a *ascent) {
	if h.ascent == a {
		return
	}
	if h.ascent != nil {
		h.ascent.leave(h.up)
	}
	switch {
	case h.ascent == nil && a != nil:
		h.fill()
	case a == nil && h.unfollow != nil:
		h.unfollow()
		h.content = newContent()
	}
	h.ascent, h.coming, h.up, h.line = a, nil, nil, nil
}

// fill begins to gather what a parent is told: what is here, and what the children have told.
func (h *hierarchy) fill() {
	h.content, h.whole = newContent(), true
	for _, c := range h.children {
		if c.held {
			continue
		}
		h.content.change(c.table.Set(), nil)
	}
	ctx, cancel := context.WithCancel(h.ctx)
	h.unfollow = cancel
	c := h.content
	h.parts.Go(func() { h.followContent(ctx, c) })
}

// close ends a hierarchy in which the server stands alone. The owner calls it.
func (h *hierarchy) close() {
	if h.ascent != nil || h.coming != nil || len(h.children) > 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hierarchies[h.name] == h {
		delete(h.hierarchies, h.name)
	}
	h.end()
}

// above is the parent, if the link to it is up.
func (h *hierarchy) above() *neighbour {
	for _, nb := range *h.view.Load() {
		if nb.up && nb.stream != nil {
			return nb
		}
	}
	return nil
}

// Join has the server stand below another parent in a hierarchy from now on. The new parent is joined first; only then the
// old one is left. When nobody at the addresses takes this server in, nothing has changed, and the error says why.
func (n *Node) Join(ctx context.Context, p Parent) error {
	if err := p.Check(); err != nil {
		return err
	}
	h, err := n.hierarchy(p.Hierarchy)
	if err != nil {
		return err
	}
	if !h.moving.TryLock() {
		return errMoving
	}
	defer h.moving.Unlock()
	first := make(chan error, 1)
	if !h.wait(ctx, func() { h.coming = h.ascend(p, first) }) {
		return errMoving
	}
	select {
	case err = <-first:
	case <-ctx.Done():
		err = fmt.Errorf("no parent has answered yet: %w", ctx.Err())
	}
	if err == nil {
		return nil
	}
	if h.wait(h.ctx, func() { err = h.stay(p, err) }) {
		h.do(h.ctx, h.close)
	}
	return err
}

// errMoving is why a change must wait.
var errMoving = errors.New("the hierarchy is being joined or left already: try again")

// stay ends an ascent that came to nothing, for the reason why. When that is that the parent is the present one, its
// addresses are taken. The owner calls it.
func (h *hierarchy) stay(p Parent, why error) error {
	a := h.coming
	if a == nil { // it was taken in just now
		return nil
	}
	h.coming = nil
	a.leaving.Store(true)
	a.cancel()
	if a.same.Load() && h.ascent != nil {
		h.ascent.parent.Store(&p)
		return nil
	}
	return why
}

// Leave has the server stand in a hierarchy without a parent from now on.
func (n *Node) Leave(hierarchy string) error {
	n.mu.Lock()
	h := n.hierarchies[hierarchy]
	n.mu.Unlock()
	if h == nil {
		return fmt.Errorf("this server has no parent in the hierarchy %q", hierarchy)
	}
	if !h.moving.TryLock() {
		return errMoving
	}
	defer h.moving.Unlock()
	alone := false
	if !h.wait(h.ctx, func() {
		alone = h.ascent == nil
		h.moveTo(nil)
		h.publish()
	}) {
		return errMoving
	}
	h.do(h.ctx, h.close)
	if alone {
		return fmt.Errorf("this server has no parent in the hierarchy %q", hierarchy)
	}
	return nil
}

// Place implements the RPC.
func (n *Node) Place(ctx context.Context, m *treepb.PlaceRequest) (*treepb.PlaceResponse, error) {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	if n.cfg.Administers == nil {
		return nil, status.Error(codes.PermissionDenied, "the parents of this server are not changed over the network")
	}
	if err := n.cfg.Administers(peer); err != nil {
		return nil, status.Errorf(codes.PermissionDenied, "%s may not change the parents of this server: %v", peer.ID, err)
	}
	if !n.placing.TryLock() { // changes are kept in the order in which they are made
		return nil, status.Error(codes.FailedPrecondition, errMoving.Error())
	}
	defer n.placing.Unlock()
	var p *Parent
	switch {
	case m.GetConfigured() && n.cfg.Configured != nil:
		p = n.cfg.Configured(m.GetHierarchy())
	case !m.GetConfigured() && len(m.GetAddresses()) > 0:
		p = &Parent{Hierarchy: m.GetHierarchy(), Addresses: m.GetAddresses(), Domain: m.GetDomain()}
	}
	if p == nil {
		err = n.Leave(m.GetHierarchy())
	} else {
		err = n.Join(ctx, *p)
	}
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	n.cfg.Log.Info("placed anew", "hierarchy", m.GetHierarchy(), "addresses", m.GetAddresses(), "by", peer.ID)
	if n.cfg.Keep != nil {
		if err := n.cfg.Keep(m.GetHierarchy(), p, m.GetConfigured()); err != nil {
			return nil, status.Errorf(codes.Internal, "it is done, but a restart undoes it, since it could not be kept: %v", err)
		}
	}
	return n.placed(ctx, m.GetHierarchy()), nil
}

// placed is where the server stands in a hierarchy.
func (n *Node) placed(ctx context.Context, hierarchy string) *treepb.PlaceResponse {
	out := &treepb.PlaceResponse{}
	n.mu.Lock()
	h := n.hierarchies[hierarchy]
	n.mu.Unlock()
	if h == nil {
		return out
	}
	var line []ca.ID
	if up := h.above(); up != nil && h.wait(ctx, func() { line = h.line }) {
		out.Parent, out.Address = string(up.id), up.address
		for _, id := range line[min(1, len(line)):] {
			out.Line = append(out.Line, string(id))
		}
	}
	return out
}

// Check says what is wrong with a parent.
func (p *Parent) Check() error {
	if err := CheckName(p.Hierarchy); err != nil {
		return err
	}
	if len(p.Addresses) == 0 || len(p.Addresses) > addressesMost {
		return fmt.Errorf("tree: the hierarchy %s wants 1 to %d addresses of its possible parents", p.Hierarchy, addressesMost)
	}
	for _, a := range p.Addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("tree: address %q: want HOST:PORT", a)
		}
	}
	if _, err := ca.MakeID(p.Domain, ca.KindSDS, "parent"); p.Domain != "" && err != nil {
		return fmt.Errorf("tree: domain %q: want one such as example.org", p.Domain)
	}
	return nil
}

// addressesMost bounds where a parent may be.
const addressesMost = 16

package tree

import (
	"context"
	"fmt"
	"maps"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/route"
	"ninja/sds/sdspb"
	"ninja/sds/tree/treepb"
)

// WatchEvent is what happened to a query that stands.
type WatchEvent struct {
	sds.WatchEvent
	// Server has the service. Of Lost it is the one that is out of reach: what it and those behind it told may hold still.
	Server ca.ID
	Lost   bool // then Kind is 0
}

// WatchAll is Watch with a scope: f is told what matches at all servers within it. A service that several servers have is
// told once. It goes on until ctx ends, whose error it returns, or the server refuses.
func (c *Client) WatchAll(ctx context.Context, q sds.Query, scope route.Scope, f func(WatchEvent)) error {
	question, err := q.Marshal()
	if err != nil {
		return err
	}
	w := &wideWatch{Client: c, tell: f, numbers: len(q.Steps) > 0, known: make(map[string]*sighting)}
	wait := backoffLeast
	for {
		progress, err := w.once(ctx, question, scope)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch status.Code(err) {
		case codes.InvalidArgument, codes.PermissionDenied, codes.Unimplemented, codes.ResourceExhausted:
			return fmt.Errorf("watch of scope %v at the SDS server %s: %w", scope, c.cfg.Address, err)
		}
		if progress {
			wait = backoffLeast
		}
		if err := world.Sleep(ctx, c.cfg.World.Jitter(wait)); err != nil {
			return err
		}
		if c.life.Err() != nil {
			return errClosed
		}
		wait = min(2*wait, backoffMost)
	}
}

// wideWatch remembers over streams what f was told.
type wideWatch struct {
	*Client
	tell    func(WatchEvent)
	numbers bool // they are followed
	known   map[string]*sighting
}

// sighting is a service that f knows of, and which servers have said so.
type sighting struct {
	version uint64
	numbers map[string]float64
	found   sds.Found
	at      map[string]bool // by server: whether it has said so since it began last
}

func (w *wideWatch) once(ctx context.Context, question []byte, scope route.Scope) (progress bool, err error) {
	token, err := w.Capability(ctx)
	if err != nil {
		return false, err
	}
	s, err := w.stream(ctx)
	if err != nil {
		return false, err
	}
	a := &treepb.Ask{Query: make([]byte, 16), Question: question, Scope: uint32(scope), Capability: token, Watch: true}
	w.cfg.World.Fill(a.Query)
	answers, err := s.ask(a)
	if err != nil {
		return false, err
	}
	defer answers.done()
	for _, k := range w.known { // all is in doubt until it is told again
		for server := range k.at {
			k.at[server] = false
		}
	}
	settle := time.NewTimer(time.Hour)
	defer settle.Stop()
	for {
		for {
			packed, ended := answers.next()
			if ended {
				return progress, errLinkLost
			}
			if packed == nil {
				break
			}
			m, err := packed.message()
			if err != nil {
				return progress, err
			}
			if m.GetLast() {
				return progress, status.Error(codes.Code(m.GetCode()), m.GetError())
			}
			progress = true
			w.take(m)
			if m.GetSettled() {
				settle.Reset(settleTime)
				w.tell(WatchEvent{WatchEvent: sds.WatchEvent{Kind: sds.Synced}})
			}
		}
		select {
		case <-answers.ready:
		case <-settle.C: // who has not told again by now does not have it
			w.drop(func(string) bool { return true })
		case <-s.ctx.Done():
			return progress, broken(s)
		case <-ctx.Done():
			return progress, ctx.Err()
		}
	}
}

// settleTime is how long after a new stream has settled what was told through an earlier one is kept.
const settleTime = 2 * time.Second

// take applies one answer.
func (w *wideWatch) take(m *treepb.Answer) {
	for _, server := range m.GetBegun() {
		for _, k := range w.known {
			if _, ok := k.at[server]; ok {
				k.at[server] = false
			}
		}
	}
	for _, h := range m.GetHits() {
		w.enter(h.GetServer(), h.GetFound())
	}
	for _, g := range m.GetGone() {
		id := g.GetOwner() + "#" + g.GetName()
		if k := w.known[id]; k != nil {
			delete(k.at, g.GetServer())
			w.leave(id, k, g.GetServer())
		}
	}
	for _, server := range m.GetSynced() {
		w.drop(func(s string) bool { return s == server })
	}
	for _, o := range m.GetOutcomes() {
		if route.Status(o.GetStatus()) == route.Unreachable {
			w.tell(WatchEvent{Server: ca.ID(o.GetServer()), Lost: true})
		}
	}
}

func (w *wideWatch) enter(server string, m *sdspb.Found) {
	f, err := w.Verify(m, 0)
	if err != nil {
		if w.cfg.Log != nil {
			w.cfg.Log.Warn("left out of the watch", "server", server, "owner", m.GetOwner(), "name", m.GetName(), "error", err)
		}
		return
	}
	k := w.known[f.ID]
	kind := sds.Change
	if k == nil {
		k = &sighting{at: make(map[string]bool)}
		w.known[f.ID] = k
		kind = sds.Enter
	}
	k.at[server] = true
	moved := w.numbers && k.version == f.Version && !maps.Equal(k.numbers, f.Numbers)
	if kind == sds.Enter || k.version < f.Version || moved {
		k.numbers = f.Numbers
		k.version, k.found = f.Version, sds.Found{ID: f.ID, Owner: f.Owner, Name: f.Name, Version: f.Version}
		w.tell(WatchEvent{WatchEvent: sds.WatchEvent{Kind: kind, Found: f}, Server: ca.ID(server)})
	}
}

// drop lets go of what servers told before they began anew and not since.
func (w *wideWatch) drop(of func(server string) bool) {
	for id, k := range w.known {
		for server, again := range k.at {
			if !again && of(server) {
				delete(k.at, server)
				w.leave(id, k, server)
			}
		}
	}
}

// leave tells that a service is gone when no server has it any more.
func (w *wideWatch) leave(id string, k *sighting, server string) {
	if len(k.at) == 0 {
		delete(w.known, id)
		w.tell(WatchEvent{WatchEvent: sds.WatchEvent{Kind: sds.Leave, Found: k.found}, Server: ca.ID(server)})
	}
}

package sds

import (
	"context"
	"fmt"

	"ninja/internal/world"
	"ninja/sds/sdspb"
)

// Watch tells f what matches now, then what enters, changes and leaves, until ctx ends, whose error it returns, or
// the server refuses the query. It connects again by itself; f then hears only of differences, and Synced again.
// Calls of f come from one goroutine, one after the other; a slow f makes the server start over, not queue. Limit and
// order mean nothing here.
func (c *Client) Watch(ctx context.Context, q Query, f func(WatchEvent)) error {
	w := &clientWatch{Client: c, query: q, tell: f, known: make(map[string]Found)}
	wait := backoffLeast
	for {
		progress, err := w.once(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case c.life.Err() != nil || permanent(err):
			return c.failed("watch", err)
		}
		c.cfg.Log.Debug("sds watch broke", "server", c.cfg.Address, "error", err)
		if progress {
			wait = backoffLeast
		}
		if err := world.Sleep(ctx, c.cfg.World.Jitter(wait)); err != nil {
			return err
		}
		wait = min(2*wait, backoffMost)
	}
}

// clientWatch remembers over connections what f was told.
type clientWatch struct {
	*Client
	query Query
	tell  func(WatchEvent)
	known map[string]Found
	fresh map[string]bool // heard since a resync began; nil when in step
}

// once watches on one stream; progress says whether it got in step.
func (w *clientWatch) once(ctx context.Context) (progress bool, err error) {
	token, err := w.capability(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.life, cancel)()
	stream, err := w.rpc.Watch(ctx, &sdspb.QueryRequest{Version: 1, Capability: token, Question: w.query.message(false)})
	if err != nil {
		return false, err
	}
	w.fresh = make(map[string]bool)
	for {
		m, err := stream.Recv()
		if err != nil {
			return progress, err
		}
		if err := w.take(m); err != nil {
			return progress, err
		}
		progress = progress || w.fresh == nil
	}
}

// take applies one event of the server.
func (w *clientWatch) take(m *sdspb.WatchEvent) error {
	switch m.GetKind() {
	case sdspb.WatchEvent_KIND_RESYNC:
		w.fresh = make(map[string]bool)
	case sdspb.WatchEvent_KIND_SYNCED:
		w.synced()
	case sdspb.WatchEvent_KIND_LEAVE:
		w.leave(m.GetFound().GetOwner() + "#" + m.GetFound().GetName())
	case sdspb.WatchEvent_KIND_ENTER, sdspb.WatchEvent_KIND_CHANGE:
		moved := m.GetKind() == sdspb.WatchEvent_KIND_CHANGE
		f, err := w.verify(m.GetFound())
		if err != nil {
			w.cfg.Log.Warn("left out of the watch", "server", w.cfg.Address, "owner", m.GetFound().GetOwner(), "name", m.GetFound().GetName(), "error", err)
			w.leave(m.GetFound().GetOwner() + "#" + m.GetFound().GetName())
			return nil
		}
		w.enter(f, moved)
	default:
		return fmt.Errorf("an event of the unknown kind %d", m.GetKind())
	}
	return nil
}

// enter tells of a service that is new, has a new version, or, as far as steps are followed, other numbers.
func (w *clientWatch) enter(f Found, moved bool) {
	if w.fresh != nil {
		w.fresh[f.ID] = true
	}
	old, known := w.known[f.ID]
	now := Found{ID: f.ID, Owner: f.Owner, Name: f.Name, Version: f.Version}
	if len(w.query.Steps) > 0 {
		now.Numbers = f.Numbers
	}
	w.known[f.ID] = now
	switch {
	case !known:
		w.tell(WatchEvent{Enter, f})
	case old.Version != f.Version, moved, outstep(w.query.Steps, old.Numbers, f.Numbers):
		w.tell(WatchEvent{Change, f})
	}
}

func (w *clientWatch) leave(id string) {
	if f, known := w.known[id]; known {
		delete(w.known, id)
		w.tell(WatchEvent{Leave, Found{ID: id, Owner: f.Owner, Name: f.Name, Version: f.Version}})
	}
}

// synced lets go of what a resync did not mention.
func (w *clientWatch) synced() {
	if w.fresh != nil {
		for id := range w.known {
			if !w.fresh[id] {
				w.leave(id)
			}
		}
		w.fresh = nil
	}
	w.tell(WatchEvent{Kind: Synced})
}

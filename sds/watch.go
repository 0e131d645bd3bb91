package sds

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/sds/index"
	"ninja/sds/sdspb"
)

// watchMost is how many services one watch may follow.
const watchMost = 100_000

// watcher is one watch on the server's side.
type watcher struct {
	*Server
	holder  holder
	rights  rights
	expires time.Time // zero when there is no capability
	query   *index.Query
	by      string
	owner   string             // by, or the asker while the ACLs are too old
	some    bool               // anything can match
	known   map[string]*record // what the client has been told
	stream  grpc.ServerStreamingServer[sdspb.WatchEvent]
}

// Watch tells what matches and what becomes of it. Limits and orders mean nothing here.
func (s *Server) Watch(req *sdspb.QueryRequest, stream grpc.ServerStreamingServer[sdspb.WatchEvent]) error {
	peer, err := caller(stream.Context())
	if err != nil {
		return err
	}
	q, err := compile(req.GetQuestion())
	if err != nil {
		return err
	}
	w := &watcher{Server: s, query: q.query, by: q.by, stream: stream, holder: holder{peer: peer, token: req.GetCapability()}}
	// Without a capability that holds, the watch is of what everyone may find.
	w.rights, w.expires, _ = s.rights(&w.holder)
	if w.rights.extra != nil {
		w.query = index.And(w.query, w.rights.extra)
	}
	s.store.stats.watches.Add(1)
	defer s.store.stats.watches.Add(-1)
	return w.run(stream.Context())
}

// recheckPeriod is how often a watch looks whether its capability still holds.
const recheckPeriod = time.Second

func (w *watcher) run(ctx context.Context) error {
	recheck := time.NewTicker(recheckPeriod)
	defer recheck.Stop()
	at, err := w.resync(sdspb.WatchEvent_KIND_UNSPECIFIED)
	for err == nil {
		batches, next, more, ok := w.store.history.from(at)
		if !ok {
			at, err = w.resync(sdspb.WatchEvent_KIND_RESYNC)
			continue
		}
		for _, b := range batches {
			for _, c := range b {
				if err := w.tell(c); err != nil {
					return err
				}
			}
		}
		at = next
		select {
		case <-more:
		case <-recheck.C:
			if err = w.recheck(); err == nil && w.turned() {
				at, err = w.resync(sdspb.WatchEvent_KIND_RESYNC)
			}
		case <-ctx.Done():
			err = ctx.Err()
		case <-w.store.stopped:
			err = status.Error(codes.Unavailable, "the server is stopping")
		}
	}
	return err
}

// turned reports whether the ACLs have become too old, or trustworthy again, since everything was told.
func (w *watcher) turned() bool {
	owner, ok := w.publisher(w.rights, w.by)
	return owner != w.owner || ok != w.some
}

// recheck ends the watch when its capability has expired or was revoked.
func (w *watcher) recheck() error {
	if w.expires.IsZero() {
		return nil
	}
	if _, _, err := w.Server.rights(&w.holder); err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	return nil
}

// resync tells everything that matches now, and returns which batch follows it.
func (w *watcher) resync(first sdspb.WatchEvent_Kind) (next uint64, err error) {
	if first != sdspb.WatchEvent_KIND_UNSPECIFIED {
		if err := w.stream.Send(&sdspb.WatchEvent{Kind: first}); err != nil {
			return 0, err
		}
	}
	next = w.store.history.end()
	w.known = make(map[string]*record)
	grants := w.rights.grants
	if w.owner, w.some = w.publisher(w.rights, w.by); !w.some {
		grants = nil
	}
	fuel := index.Fuel
	w.store.snapshot.Load().open(grants, func(c *index.Class) bool {
		_, err = c.Search(w.query, w.owner, &fuel, func(d *index.Doc) bool {
			r := d.Item.(*record)
			w.known[r.id()] = r
			return len(w.known) <= watchMost
		})
		return err == nil && len(w.known) <= watchMost
	})
	switch {
	case err != nil:
		return 0, status.Error(codes.ResourceExhausted, err.Error())
	case len(w.known) > watchMost:
		return 0, status.Errorf(codes.ResourceExhausted, "more than %d services match: watch for less", watchMost)
	}
	for _, r := range w.known {
		if err := w.send(sdspb.WatchEvent_KIND_ENTER, r); err != nil {
			return 0, err
		}
	}
	return next, w.stream.Send(&sdspb.WatchEvent{Kind: sdspb.WatchEvent_KIND_SYNCED})
}

// tell sends what a change means to this watch, if anything.
func (w *watcher) tell(c change) error {
	before := w.known[c.id]
	matches := c.after != nil && c.visible.visible(w.rights.grants) && w.some && (w.owner == "" || w.owner == string(c.after.owner))
	if matches {
		var err error
		if matches, err = w.query.Match(c.after.tree); err != nil {
			return status.Error(codes.ResourceExhausted, err.Error())
		}
	}
	switch {
	case !matches && before == nil, matches && before == c.after:
		return nil
	case !matches:
		delete(w.known, c.id)
		return w.stream.Send(&sdspb.WatchEvent{Kind: sdspb.WatchEvent_KIND_LEAVE, Found: &sdspb.Found{Owner: string(before.owner), Name: before.name, Version: before.version}})
	case before == nil && len(w.known) >= watchMost:
		return status.Errorf(codes.ResourceExhausted, "more than %d services match: watch for less", watchMost)
	case before == nil:
		w.known[c.id] = c.after
		return w.send(sdspb.WatchEvent_KIND_ENTER, c.after)
	}
	w.known[c.id] = c.after
	return w.send(sdspb.WatchEvent_KIND_CHANGE, c.after)
}

func (w *watcher) send(kind sdspb.WatchEvent_Kind, r *record) error {
	return w.stream.Send(&sdspb.WatchEvent{Kind: kind, Found: r.message(time.Now())})
}

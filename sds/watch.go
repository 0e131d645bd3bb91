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

// watcher is one watch on the server's side. What the client knows needs no list: it is what matched before a change.
type watcher struct {
	*Server
	holder  holder
	rights  rights
	expires time.Time // zero when there is no capability
	query   *index.Query
	by      string
	owner   string // by, or the asker while the ACLs are too old
	some    bool   // anything can match
	steps   map[string]float64
	sub     *subscriber
	count   int             // services that match
	told    map[string]told // what was told last, when numbers are followed
	stream  grpc.ServerStreamingServer[sdspb.WatchEvent]
}

// told is a service as a watch was told of it.
type told struct {
	*record
	numbers map[string]float64
}

// Watch tells what matches and what becomes of it. Limits and orders mean nothing here.
func (s *Server) Watch(req *sdspb.QueryRequest, stream grpc.ServerStreamingServer[sdspb.WatchEvent]) error {
	peer, err := caller(stream.Context())
	if err != nil {
		return err
	}
	q, err := s.compile(peer.ID, req.GetQuestion())
	if err != nil {
		return err
	}
	w := &watcher{Server: s, query: q.query, by: q.by, steps: q.steps, stream: stream, holder: holder{peer: peer, token: req.GetCapability()}}
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
	defer func() {
		if w.sub != nil {
			w.store.leave(w.sub)
		}
	}()
	err := w.resync(ctx, sdspb.WatchEvent_KIND_UNSPECIFIED)
	for err == nil {
		select {
		case <-w.sub.wake:
			queue, moved, lost := w.sub.take()
			if lost {
				err = w.resync(ctx, sdspb.WatchEvent_KIND_RESYNC)
			} else {
				err = w.tell(ctx, queue, moved)
			}
		case <-recheck.C:
			if err = w.recheck(); err == nil && w.turned() {
				err = w.resync(ctx, sdspb.WatchEvent_KIND_RESYNC)
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

// resync tells everything that matches now, and hears of what follows.
func (w *watcher) resync(ctx context.Context, first sdspb.WatchEvent_Kind) error {
	if first != sdspb.WatchEvent_KIND_UNSPECIFIED {
		if err := w.stream.Send(&sdspb.WatchEvent{Kind: first}); err != nil {
			return err
		}
	}
	if err := w.subscribe(); err != nil {
		return err
	}
	var matching []*record
	var err error
	failed := w.meter.pay(ctx, w.holder.peer.ID, func() int {
		fuel := index.Fuel
		w.sub.start.open(w.sub.grants, func(c *index.Class) bool {
			_, err = c.Search(w.query, w.owner, &fuel, func(d *index.Doc) bool {
				matching = append(matching, d.Item.(*record))
				return len(matching) <= watchMost
			})
			return err == nil && len(matching) <= watchMost
		})
		return index.Fuel - fuel
	})
	w.sub.start = nil // it would keep everything that has gone since
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return status.Error(codes.ResourceExhausted, err.Error())
	case len(matching) > watchMost:
		return errTooMany()
	}
	w.count, w.told = len(matching), make(map[string]told)
	for _, r := range matching {
		if err := w.send(sdspb.WatchEvent_KIND_ENTER, r); err != nil {
			return err
		}
	}
	return w.stream.Send(&sdspb.WatchEvent{Kind: sdspb.WatchEvent_KIND_SYNCED})
}

func errTooMany() error {
	return status.Errorf(codes.ResourceExhausted, "more than %d services match: watch for less", watchMost)
}

// subscribe joins the standing queries, in the place of an earlier subscription.
func (w *watcher) subscribe() error {
	if w.sub != nil {
		w.store.leave(w.sub)
		w.sub = nil
	}
	grants := w.rights.grants
	if w.owner, w.some = w.publisher(w.rights, w.by); !w.some {
		grants = nil
	}
	sub := newSubscriber(w.holder.peer.ID, grants, w.steps)
	var classes []*index.Class
	w.store.snapshot.Load().open(grants, func(c *index.Class) bool {
		classes = append(classes, c)
		return len(classes) < watchEstimate
	})
	sub.Watch = index.NewWatch(w.query, w.owner, classes, sub)
	if err := w.store.join(sub); err != nil {
		return err
	}
	w.sub = sub
	return nil
}

// tell sends what changes mean to this watch, if anything.
func (w *watcher) tell(ctx context.Context, queue []change, moved map[string]*record) error {
	for _, c := range queue {
		before, err := w.sees(ctx, c.before, c.closed)
		if err != nil {
			return err
		}
		after, err := w.sees(ctx, c.after, c.visible)
		if err != nil {
			return err
		}
		if err := w.event(c, before, after); err != nil {
			return err
		}
	}
	for id, r := range moved {
		if last := w.told[id]; last.record != r || !outstep(w.steps, last.numbers, numbersOf(r, w.steps)) {
			continue // gone, another version, or not moved enough
		}
		if err := w.send(sdspb.WatchEvent_KIND_CHANGE, r); err != nil {
			return err
		}
	}
	return nil
}

// sees reports whether a version of a service is one that the watch is about.
func (w *watcher) sees(ctx context.Context, r *record, c *class) (matches bool, err error) {
	if r == nil || !c.visible(w.sub.grants) || w.owner != "" && w.owner != r.Owner {
		return false, nil
	}
	failed := w.meter.pay(ctx, w.holder.peer.ID, func() int {
		fuel := index.Fuel
		matches, err = w.query.Meets(r.Tree, &fuel)
		return index.Fuel - fuel
	})
	switch {
	case failed != nil:
		return false, failed
	case err != nil:
		return false, status.Error(codes.ResourceExhausted, err.Error())
	}
	return matches, nil
}

// event sends what one change means.
func (w *watcher) event(c change, before, after bool) error {
	switch {
	case before && !after:
		w.count--
		delete(w.told, c.id)
		return w.stream.Send(&sdspb.WatchEvent{Kind: sdspb.WatchEvent_KIND_LEAVE, Found: &sdspb.Found{Owner: c.before.Owner, Name: c.before.name(), Version: c.before.version}})
	case after && !before:
		if w.count++; w.count > watchMost {
			return errTooMany()
		}
		return w.send(sdspb.WatchEvent_KIND_ENTER, c.after)
	case after && c.before != c.after:
		return w.send(sdspb.WatchEvent_KIND_CHANGE, c.after)
	}
	return nil
}

func (w *watcher) send(kind sdspb.WatchEvent_Kind, r *record) error {
	if len(w.steps) > 0 {
		w.told[r.ID] = told{r, numbersOf(r, w.steps)}
	}
	return w.stream.Send(&sdspb.WatchEvent{Kind: kind, Found: r.message(time.Now())})
}

package sds

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"ninja/capability"
	"ninja/sds/index"
)

// views are merged indexes for holders who may see so many classes that opening each would cost more than the answer.
// A view holds what its holder may see and nothing else, so that it hides as the classes do. It is made in the
// background, kept up with every batch, and forgotten when nobody asks. All but its use belongs to the goroutine that
// runs the store.
type views struct {
	wanted   chan []capability.Who
	by       map[string]*view
	building *view
	stamps   *stamps
}

// view is one merged index.
type view struct {
	grants  []capability.Who
	index   *index.Class
	pending []change     // while it is made: what has changed since
	used    atomic.Int64 // when it was last asked, in Unix seconds
}

// Bounds of views.
const (
	viewLeast   = 64 // classes; fewer are opened one by one
	viewsMost   = 16
	viewDocs    = 250_000 // documents of all of them
	viewPending = 100_000 // changes while one is made
	viewIdle    = time.Minute
	viewBatch   = 1000 // documents that are added together
)

func newViews(s *stamps) *views {
	return &views{stamps: s, wanted: make(chan []capability.Who, 1), by: make(map[string]*view)}
}

// viewKey names the view of those with these grants.
func viewKey(grants []capability.Who) string {
	parts := make([]string, len(grants))
	for i, g := range grants {
		parts[i] = string(g)
	}
	slices.Sort(parts)
	return strings.Join(slices.Compact(parts), "\n")
}

// many reports whether the grants open more classes than are opened one by one.
func (s *snapshot) many(grants []capability.Who) bool {
	var few [viewLeast]*index.Class
	return s.few(grants, &few) > viewLeast
}

// few are the classes that the grants open, and how many; of more than fit it counts one more.
func (s *snapshot) few(grants []capability.Who, into *[viewLeast]*index.Class) (n int) {
	s.open(grants, func(c *index.Class) bool {
		if n < len(into) {
			into[n] = c
		}
		n++
		return n <= viewLeast
	})
	return n
}

// look calls f with what the grants open, until f says false: the view when there is one, else the classes, and a view
// is wished for when they are many.
func (st *store) look(grants []capability.Who, f func(*index.Class) bool) {
	s := st.snapshot.Load()
	var few [viewLeast]*index.Class
	if n := s.few(grants, &few); n <= viewLeast {
		for _, c := range few[:n] {
			if !f(c) {
				return
			}
		}
		return
	}
	if v := s.views[viewKey(grants)]; v != nil {
		v.used.Store(time.Now().Unix())
		f(v.index)
		return
	}
	select {
	case st.views.wanted <- grants:
	default: // one is being wished for: the next question wishes again
	}
	s.open(grants, f)
}

// make begins a view, unless one is being made or there is no room.
func (st *store) makeView(ctx context.Context, grants []capability.Who) {
	key, room := viewKey(grants), viewDocs
	for _, v := range st.views.by {
		room -= v.index.Len()
	}
	if st.views.building != nil || st.views.by[key] != nil || len(st.views.by) >= viewsMost || room <= 0 {
		return
	}
	v, from := &view{grants: slices.Clone(grants)}, st.snapshot.Load()
	st.views.building = v
	st.builders.Go(func() {
		made := merge(ctx, from, v.grants, room)
		// Without effect when the store is stopping.
		_ = st.do(func() { st.finish(key, v, made) })
	})
}

// merge makes one index of the classes; nil when that is too much.
func merge(ctx context.Context, from *snapshot, grants []capability.Who, room int) *index.Class {
	made := new(index.Class)
	e := made.Edit()
	from.open(grants, func(c *index.Class) bool {
		if room -= c.Len(); room < 0 || ctx.Err() != nil {
			return false
		}
		c.Each(func(d *index.Doc) {
			if e.Add(d); e.Len()%viewBatch == 0 {
				made = e.Done()
				e = made.Edit()
			}
		})
		return true
	})
	if room < 0 || ctx.Err() != nil {
		return nil
	}
	return e.Done()
}

// finish puts a view that was made into use.
func (st *store) finish(key string, v *view, made *index.Class) {
	st.views.building = nil
	if made == nil || len(v.pending) > viewPending {
		return
	}
	e := made.Edit()
	for _, c := range v.pending {
		v.apply(e, c)
	}
	v.index, v.pending = st.views.stamps.on(e.Done()), nil
	v.used.Store(time.Now().Unix())
	st.views.by[key] = v
	st.viewed = true
}

// apply makes a change in the view as far as its holder sees it.
func (v *view) apply(e *index.Editor, c change) {
	before, after := c.before != nil && c.closed.visible(v.grants), c.after != nil && c.visible.visible(v.grants)
	if before && after && c.before == c.after {
		return
	}
	if before {
		e.RemoveID(c.id)
	}
	if after {
		e.Add(&c.after.Doc)
	}
}

func (v *view) concerns(c change) bool {
	return c.before != nil && c.closed.visible(v.grants) || c.after != nil && c.visible.visible(v.grants)
}

// follow keeps the views up with a batch, and returns those that the next snapshot has.
func (vs *views) follow(changes []change, have map[string]*view, viewed bool) map[string]*view {
	next := make(map[string]*view, len(vs.by))
	for key, v := range vs.by {
		var e *index.Editor
		for _, c := range changes {
			if v.concerns(c) {
				if e == nil {
					e = v.index.Edit()
				}
				v.apply(e, c)
			}
		}
		if e != nil { // readers of the last snapshot keep the view as it was
			old := v
			v = &view{grants: v.grants, index: vs.stamps.on(e.Done())}
			v.used.Store(old.used.Load())
			vs.by[key] = v
			viewed = true
		}
		next[key] = v
	}
	if b := vs.building; b != nil && len(b.pending) <= viewPending {
		for _, c := range changes {
			if b.concerns(c) {
				b.pending = append(b.pending, c)
			}
		}
	}
	if !viewed {
		return have
	}
	return next
}

// forget lets go of views that nobody has asked lately.
func (vs *views) forget(now time.Time) (some bool) {
	for key, v := range vs.by {
		if now.Unix()-v.used.Load() > int64(viewIdle.Seconds()) {
			delete(vs.by, key)
			some = true
		}
	}
	return some
}

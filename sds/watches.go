package sds

import (
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/capability"
	"ninja/sds/index"
)

// watches are the standing queries, indexed by what they may see and by their rarest term, so that a change costs those
// whom it concerns. They belong to the goroutine that runs the store.
type watches struct {
	by      map[capability.Who]*index.Standing
	stepped map[capability.Who]*index.Standing // those that also follow numbers
	names   map[string]int                     // of the numbers that are followed, by how many
	owned   map[ca.ID]int
	serial  uint64 // of the last change told
	joining []*subscriber
}

func newWatches() *watches {
	return &watches{
		by: make(map[capability.Who]*index.Standing), stepped: make(map[capability.Who]*index.Standing),
		names: make(map[string]int), owned: make(map[ca.ID]int),
	}
}

// subscriber is a standing query and what it has not been told yet.
type subscriber struct {
	*index.Watch
	principal ca.ID
	grants    []capability.Who
	steps     map[string]float64
	start     *snapshot     // what it begins with; changes after it are in the queue. The watcher's once it has joined
	added     bool          // and not removed; the store's
	wake      chan struct{} // holds something when there is something to take
	heard     uint64        // serial of the last change

	mu    sync.Mutex
	queue []change
	moved map[string]*record // whose numbers moved
	lost  bool               // the queue overflowed
}

// Bounds of standing queries.
const (
	watchQueue    = 256    // changes that one watch may be behind; then it begins again
	watchesEach   = 10_000 // of one principal
	watchesAll    = 200_000
	watchEstimate = 16 // classes that are asked what is rare
)

func newSubscriber(who ca.ID, grants []capability.Who, steps map[string]float64) *subscriber {
	return &subscriber{principal: who, grants: grants, steps: steps, wake: make(chan struct{}, 1)}
}

// admit makes room for a watch of a principal.
func (w *watches) admit(who ca.ID) error {
	if w.owned[who] >= watchesEach || w.owned[""] >= watchesAll {
		return status.Errorf(codes.ResourceExhausted, "the server keeps %d watches, and %d of one principal: end some", watchesAll, watchesEach)
	}
	w.owned[who]++
	w.owned[""]++ // all of them: no principal has this name
	return nil
}

func (w *watches) dismiss(who ca.ID) {
	for _, id := range []ca.ID{who, ""} {
		if w.owned[id]--; w.owned[id] == 0 {
			delete(w.owned, id)
		}
	}
}

// add has the subscriber hear of what comes behind the snapshot.
func (w *watches) add(s *subscriber, now *snapshot) {
	s.start, s.added = now, true
	for _, g := range s.grants {
		enlist(w.by, g, s.Watch)
		if len(s.steps) > 0 {
			enlist(w.stepped, g, s.Watch)
		}
	}
	for name := range s.steps {
		w.names[name]++
	}
}

func enlist(by map[capability.Who]*index.Standing, who capability.Who, x *index.Watch) {
	if by[who] == nil {
		by[who] = new(index.Standing)
	}
	by[who].Add(x)
}

// remove has the subscriber hear of nothing more.
func (w *watches) remove(s *subscriber) {
	if !s.added {
		return
	}
	for _, by := range []map[capability.Who]*index.Standing{w.by, w.stepped} {
		for _, g := range s.grants {
			if x := by[g]; x != nil {
				if x.Remove(s.Watch); x.Empty() {
					delete(by, g)
				}
			}
		}
	}
	for name := range s.steps {
		if w.names[name]--; w.names[name] == 0 {
			delete(w.names, name)
		}
	}
	s.added = false
}

// tell puts a change into the queues of those who may see the service, before or after, and look for something like it.
func (w *watches) tell(c change) {
	w.serial++
	hear := func(x *index.Watch) {
		if s := x.Item.(*subscriber); s.heard != w.serial {
			s.heard = w.serial
			s.push(c)
		}
	}
	candidates(w.by, c.before, c.closed, hear)
	candidates(w.by, c.after, c.visible, hear)
}

// tellNumbers tells those who follow numbers that a service has other ones.
func (w *watches) tellNumbers(id string, r *record, c *class, old, now map[string]float64) {
	if len(w.names) == 0 || !w.follows(old, now) {
		return
	}
	w.serial++
	candidates(w.stepped, r, c, func(x *index.Watch) {
		if s := x.Item.(*subscriber); s.heard != w.serial {
			s.heard = w.serial
			s.pushNumbers(id, r)
		}
	})
}

// follows reports whether a number that somebody follows is another.
func (w *watches) follows(old, now map[string]float64) bool {
	for name := range w.names {
		a, had := old[name]
		b, has := now[name]
		if had != has || a != b {
			return true
		}
	}
	return false
}

func candidates(by map[capability.Who]*index.Standing, r *record, c *class, f func(*index.Watch)) {
	if r == nil || c == nil {
		return
	}
	for _, g := range c.who {
		if x := by[g]; x != nil {
			x.Candidates(&r.Doc, f)
		}
	}
}

func (s *subscriber) push(c change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lost:
		return
	case len(s.queue) == watchQueue:
		s.lost, s.queue, s.moved = true, nil, nil
	default:
		s.queue = append(s.queue, c)
	}
	s.signal()
}

func (s *subscriber) pushNumbers(id string, r *record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lost:
		return
	case len(s.moved) == watchQueue && s.moved[id] == nil:
		s.lost, s.queue, s.moved = true, nil, nil
	case s.moved == nil:
		s.moved = map[string]*record{id: r}
	default:
		s.moved[id] = r
	}
	s.signal()
}

func (s *subscriber) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take is what has come since it was last called; lost says that some of it is not there and the watch must begin
// again.
func (s *subscriber) take() (queue []change, moved map[string]*record, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue, moved, lost = s.queue, s.moved, s.lost
	s.queue, s.moved, s.lost = nil, nil, false
	return queue, moved, lost
}

// join has the subscriber hear of everything behind s.start, which is set when join returns.
func (st *store) join(s *subscriber) error {
	var refused error
	err := st.do(func() {
		if refused = st.watches.admit(s.principal); refused == nil {
			st.watches.joining = append(st.watches.joining, s)
		}
	})
	if err != nil {
		return status.Error(codes.Unavailable, "the server is too busy, or stopping: watch again later")
	}
	return refused
}

// leave ends what a join that returned no error began.
func (st *store) leave(s *subscriber) {
	select {
	case st.commands <- command{func() { st.watches.remove(s); st.watches.dismiss(s.principal) }, make(chan struct{})}:
	case <-st.stopped:
	}
}

// told ends a batch: its changes reach those whom they concern, and those who joined begin with what it left.
func (w *watches) told(changes []change, now *snapshot) {
	for _, c := range changes {
		w.tell(c)
	}
	for _, s := range w.joining {
		w.add(s, now)
	}
	w.joining = nil
}

// numbersOf are copied out of what a service says now, for those that are followed.
func numbersOf(r *record, steps map[string]float64) map[string]float64 {
	now := r.live.Load().numbers
	out := make(map[string]float64, len(steps))
	for name := range steps {
		if n, ok := now[name]; ok {
			out[name] = n
		}
	}
	return out
}

// outstep reports whether a number has moved at least its step, has come or is gone.
func outstep(steps, told, now map[string]float64) bool {
	for name, step := range steps {
		a, had := told[name]
		b, has := now[name]
		if had != has || had && a != b && (b-a >= step || a-b >= step) {
			return true
		}
	}
	return false
}

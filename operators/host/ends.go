package host

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"ninja/connectors"
	"ninja/connectors/splice"
)

// seam is what the two ends that an operator is given have in common: their hops change with the epochs of the path, and
// one that broke is waited for, since its creator may repair the path around the operator.
type seam struct {
	end
	meter *meter
	limit time.Duration // how long another hop is waited for
	tell  func(error)   // has the creator know that the hop broke
	hops  atomic.Int64  // that it has had

	mu      sync.Mutex
	inside  bool          // the hop does not leave the process: nobody mends it
	coming  int           // epochs that are prepared and may bring another hop
	told    int64         // the last hop whose break was told
	lost    int64         // the last hop whose end or break the operator was told, since nothing followed
	changed chan struct{} // closed, and made anew, when something of this changes
}

func (s *seam) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// expect says that an epoch is prepared whose hop may follow. It is false when the operator was told already that nothing
// does: then it is about to end.
func (s *seam) expect() (waits bool) {
	s.change(func() {
		if waits = s.lost == 0 || s.hops.Load() > s.lost; waits {
			s.coming++
		}
	})
	return waits
}

// unexpect says that such an epoch has brought its hop, or brings none.
func (s *seam) unexpect() { s.change(func() { s.coming-- }) }

// another waits for another hop than the n-th, which ended with err; it is false when none comes. An end of the stream is
// final unless another epoch is prepared already.
func (s *seam) another(ctx context.Context, n int64, err error) bool {
	ended := errors.Is(err, io.EOF)
	late := time.NewTimer(s.limit)
	defer late.Stop()
	for {
		s.mu.Lock()
		followed, changed := s.hops.Load() > n, s.changed
		waits := n > s.lost && (s.coming > 0 || !ended && !s.inside)
		tells := waits && !ended && n > s.told
		if tells {
			s.told = n
		}
		if !followed && !waits {
			s.lost = max(s.lost, n) // from now on it is final
		}
		s.mu.Unlock()
		switch {
		case followed:
			return true
		case !waits:
			return false
		case tells:
			s.tell(err)
		}
		select {
		case <-changed:
		case <-late.C:
			s.change(func() { s.lost = max(s.lost, n) })
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// wasTold reports whether the creator knows that the present hop broke.
func (s *seam) wasTold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told == s.hops.Load()
}

// reader is the receiving end that an operator is given: the hops of one epoch after the other are one stream.
type reader struct {
	seam
	line atomic.Pointer[splice.Reader] // nil until the first sender has come
}

// join sets the first hop.
func (r *reader) join(hop connectors.Reader, inside bool) {
	line := splice.New(hop)
	r.measures(line)
	r.line.Store(line)
	r.change(func() { r.inside = inside; r.hops.Add(1) })
}

// follow has the hop of a newer epoch follow. After an error it is still the caller's.
func (r *reader) follow(hop connectors.Reader, inside bool, patience time.Duration) error {
	if err := r.line.Load().Follow(hop, patience); err != nil {
		return err
	}
	r.change(func() { r.inside = inside; r.hops.Add(1) })
	return nil
}

func (r *reader) Read(ctx context.Context) (connectors.ADU, error) {
	for {
		n := r.hops.Load()
		a, err := r.line.Load().Read(ctx)
		if err == nil {
			r.passed(len(a.Payload))
			r.meter.read()
			r.meter.took(a.Stamp)
			a.Stamp = nil // it is the host's to hand on
			return a, nil
		}
		if ctx.Err() != nil || !r.another(ctx, n, err) {
			return a, r.failed(ctx, err)
		}
	}
}

func (r *reader) Signal(e connectors.Event) error {
	if line := r.line.Load(); line != nil {
		return line.Signal(e)
	}
	return connectors.ErrClosed
}

// Close does nothing: an operator closes neither end.
func (r *reader) Close() error { return nil }

// release lets go of all hops.
func (r *reader) release() {
	if line := r.line.Load(); line != nil {
		line.Close()
	}
}

// writer is the sending end that an operator is given. Between two ADUs it goes over to the hop of a newer epoch; the one
// before is closed, which sends what it holds and then its end. See forward for its events.
type writer struct {
	seam
	// events carries what comes up from below to an operator that takes events.
	events *connectors.EventQueue
	taken  atomic.Bool
	up     connectors.Reader // nil for a source
	// forwards are those of the hops' events, farewells those to hops that are gone.
	forwards, farewells sync.WaitGroup

	// Guarded by the seam's mu.
	now, next connectors.Writer // next takes over when the Write that goes on has ended
	busy      bool              // a Write goes on
	closed    bool
	cause     error // why the stage failed that closed it; nil: it came to its end
}

// join sets the first hop.
func (w *writer) join(hop connectors.Writer, inside bool, up connectors.Reader) {
	w.up = up
	w.change(func() { w.inside = inside; w.take(hop) })
}

// take makes a hop the present one. The mu is held.
func (w *writer) take(hop connectors.Writer) {
	w.now = hop
	w.measures(hop)
	w.hops.Add(1)
	w.forwards.Go(func() { w.forward(hop) })
}

// follow goes over to the hop of a newer epoch. It is false when the stage has come to its end already: then the hop is
// the caller's to end, by bye.
func (w *writer) follow(hop connectors.Writer, inside bool) (follows bool) {
	w.change(func() {
		if follows = !w.closed; !follows {
			return
		}
		if unused := w.next; unused != nil {
			w.farewells.Go(func() { w.bye(unused) })
		}
		if w.next, w.inside = hop, inside; !w.busy {
			w.goOver()
		}
	})
	return follows
}

// goOver takes the next hop in place of the present one. The mu is held.
func (w *writer) goOver() {
	old := w.now
	w.farewells.Go(func() { w.bye(old) }) // it may take a second; the data does not wait for it
	w.take(w.next)
	w.next = nil
}

func (w *writer) Write(ctx context.Context, a connectors.ADU) error {
	w.meter.write()
	size := len(a.Payload) // the payload is the hop's after Write
	a.Stamp = w.meter.stampFor()
	for {
		n, err := w.once(ctx, a)
		if err == nil {
			w.passed(size)
			return nil
		}
		if ctx.Err() != nil || !w.another(ctx, n, err) {
			return w.failed(ctx, err)
		}
	}
}

// once writes to the present hop, the n-th.
func (w *writer) once(ctx context.Context, a connectors.ADU) (n int64, err error) {
	w.mu.Lock()
	hop := w.now
	n, w.busy = w.hops.Load(), true
	w.mu.Unlock()
	err = hop.Write(ctx, a)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy = false; w.next != nil {
		w.goOver()
	}
	return n, err
}

// Events tells the host that the operator takes the events from now on.
func (w *writer) Events() <-chan connectors.Event {
	w.taken.Store(true)
	return w.events.C()
}

// Close does nothing: an operator closes neither end.
func (w *writer) Close() error { return nil }

// forward brings the events of a hop below to where they belong until the hop ends: to the operator once it has
// called Events, and before that, or when it never does, past it to the hop above. The operator is asked for nothing: to
// call Events is to take them. A source's events nobody else can use.
func (w *writer) forward(hop connectors.Writer) {
	for e := range hop.Events() {
		if w.taken.Load() {
			w.events.Put(e)
		} else if w.up != nil {
			_ = w.up.Signal(e) // the hop above reports its own failure by its reads
		}
	}
}

// release ends all hops. A stage that failed breaks them: the stage below must not take half a stream for a whole one.
func (w *writer) release(failed error) {
	var hops []connectors.Writer
	w.change(func() {
		hops = append(hops, w.now, w.next)
		w.closed, w.cause = true, failed
	})
	for _, hop := range hops {
		if hop != nil {
			w.bye(hop)
		}
	}
	w.farewells.Wait()
	w.forwards.Wait()
	w.events.Close()
}

// bye ends a hop as the stage has ended, or normally while it goes on.
func (w *writer) bye(hop connectors.Writer) {
	w.mu.Lock()
	failed := w.cause
	w.mu.Unlock()
	if a, ok := hop.(connectors.Aborter); ok && failed != nil {
		a.Abort(failed)
		return
	}
	hop.Close() // whether the end was delivered the stage below says, by going on or not
}

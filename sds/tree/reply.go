package tree

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/sds/tree/treepb"
)

// reply is where the answers to one question of the other side go.
type reply struct {
	s     *stream
	id    uint64
	slots chan struct{}
	until time.Time // who waits to tell waits no longer

	// Guarded by the stream's mu:
	cancel  func()
	opened  bool
	ended   bool
	bounded bool          // left counts
	left    int           // bytes that the asker still takes
	more    chan struct{} // closed when it takes more; nil when nobody waits
	ready   func()        // called then; nil is nobody
}

// open takes a question of the other side in, unless there are too many: then it is refused and nil is returned. An error
// ends the stream.
func (s *stream) open(a *treepb.Ask) (*reply, error) {
	r := &reply{s: s, id: a.GetId(), slots: s.slots, bounded: a.GetWindow() > 0, left: int(a.GetWindow()), until: time.Now().Add(timeoutOf(a))}
	if a.GetWatch() {
		r.until = time.Now().AddDate(100, 0, 0) // it stands as long as the stream
		r.slots = s.stand
	}
	select {
	case r.slots <- struct{}{}:
	default:
		r.refuse(status.Errorf(codes.ResourceExhausted, "%d questions at a time: ask again later", cap(r.slots)))
		return nil, nil
	}
	s.mu.Lock()
	_, twice := s.running[r.id]
	over := s.over
	if !twice && !over && r.id != 0 {
		s.running[r.id], r.opened = r, true
	}
	s.mu.Unlock()
	switch {
	case over:
		<-r.slots
		return nil, errClosed
	case twice || r.id == 0:
		<-r.slots
		return nil, status.Errorf(codes.InvalidArgument, "question %d is in use or 0: choose another id", r.id)
	}
	return r, nil
}

// uponCancel has f be called when the other side has no more use for the answers, or is gone.
func (r *reply) uponCancel(f func()) {
	r.s.mu.Lock()
	r.cancel = f
	over := r.s.over
	r.s.mu.Unlock()
	if over {
		f()
	}
}

// uponMore has f be called when the asker takes more.
func (r *reply) uponMore(f func()) {
	r.s.mu.Lock()
	r.ready = f
	now := r.left > 0
	r.s.mu.Unlock()
	if now { // it has come meanwhile
		go f()
	}
}

// cancel ends a question of the other side.
func (s *stream) cancel(id uint64) {
	s.mu.Lock()
	var f func()
	if r := s.running[id]; r != nil {
		f = r.cancel
	}
	s.mu.Unlock()
	if f != nil {
		f()
	}
}

// tell sends an answer; wait says whether the caller may wait for the other side. When it must not, and the asker takes
// no more for now, errBusy is returned: ready is called when it does. The last answer is told in any case.
func (r *reply) tell(a *answer, wait bool) error {
	a.id = r.id
	packed := appendAnswer(make([]byte, head, head+a.room()), a)
	if err := r.pay(len(packed)-head, a.last, wait); err != nil {
		return err
	}
	if a.last {
		r.close() // before the asker can know, and ask again
	}
	frame := frameAround(frameAnswer, packed)
	if wait {
		return r.s.put(frame)
	}
	return r.s.postAnyway(frame)
}

// pay takes the bytes of an answer from what the asker takes, once it takes anything.
func (r *reply) pay(bytes int, last, wait bool) error {
	for {
		r.s.mu.Lock()
		if !r.bounded || r.left > 0 || last {
			r.left -= bytes
			r.s.mu.Unlock()
			return nil
		}
		if r.ended || r.s.over {
			r.s.mu.Unlock()
			return errClosed
		}
		if r.more == nil && wait {
			r.more = make(chan struct{})
		}
		more := r.more
		r.s.mu.Unlock()
		if !wait {
			return errBusy
		}
		late := time.NewTimer(time.Until(r.until))
		select {
		case <-more:
		case <-r.s.ctx.Done():
		case <-late.C:
			return context.DeadlineExceeded
		}
		late.Stop()
	}
}

// credited notes that the asker of a question takes more.
func (s *stream) credited(id uint64, bytes int) {
	s.mu.Lock()
	r := s.running[id]
	if r == nil {
		s.mu.Unlock()
		return
	}
	r.left = min(r.left+bytes, creditMost)
	ready := r.wake()
	s.mu.Unlock()
	if ready != nil {
		ready()
	}
}

// wake wakes those who wait to tell. The caller holds mu, and calls what is returned without it.
func (r *reply) wake() (ready func()) {
	if r.more != nil {
		close(r.more)
		r.more = nil
	}
	return r.ready
}

// heavy: telling the last answer is no work.
func (r *reply) heavy() bool { return false }

// emit sends an answer of a watch. It may be called by several goroutines.
func (r *reply) emit(m *treepb.Answer) error {
	m.Id = r.id
	packed, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, head, 256), m)
	if err == nil {
		err = r.pay(len(packed)-head, m.GetLast(), true)
	}
	if err != nil {
		return err
	}
	return r.s.put(frameAround(frameAnswer, packed))
}

// refuse ends the question with an error.
func (r *reply) refuse(err error) {
	st := status.Convert(err)
	if c := status.FromContextError(err); st.Code() == codes.Unknown && c.Code() != codes.Unknown {
		st = c
	}
	_ = r.tell(&answer{last: true, code: uint32(st.Code()), problem: st.Message()}, false)
}

// close gives the question's place free, once.
func (r *reply) close() {
	r.s.mu.Lock()
	if r.ended || !r.opened {
		r.s.mu.Unlock()
		return
	}
	r.ended = true
	delete(r.s.running, r.id)
	r.wake() // who waits to tell need not any more
	r.ready = nil
	r.s.mu.Unlock()
	<-r.slots
}

// stand has a goroutine answer the question. f's context ends with the stream, or when the other side has no more use for
// the answers.
func (r *reply) stand(parts *crew, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(r.s.ctx)
	r.uponCancel(cancel)
	parts.Go(func() {
		err := f(ctx)
		cancel()
		r.close()
		if err != nil {
			r.refuse(err)
		}
	})
}

// timeoutOf is how long a question may take.
func timeoutOf(a *treepb.Ask) time.Duration {
	t := time.Duration(a.GetTimeoutMs()) * time.Millisecond
	if t <= 0 || t > timeMost {
		return timeMost
	}
	return t
}

// timeMost is the longest that a question may take.
const timeMost = 30 * time.Second

package tree

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/sds/tree/treepb"
)

// reply is where the answers to one question of the other side go.
type reply struct {
	s      *stream
	id     uint64
	slots  chan struct{}
	cancel func() // guarded by the stream's mu
}

// open takes a question of the other side in, unless there are too many: then it is refused and nil is returned. An error
// ends the stream.
func (s *stream) open(a *treepb.Ask) (*reply, error) {
	r := &reply{s: s, id: a.GetId(), slots: s.slots}
	if a.GetWatch() {
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
		s.running[r.id] = r
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

// tell sends an answer; wait says whether the caller may wait for the other side.
func (r *reply) tell(a *answer, wait bool) error {
	a.id = r.id
	frame := frameAround(frameAnswer, appendAnswer(make([]byte, head, a.room()), a))
	if wait {
		return r.s.put(frame)
	}
	return r.s.post(frame)
}

// heavy: telling the last answer is no work.
func (r *reply) heavy() bool { return false }

// emit sends an answer of a watch. It may be called by several goroutines.
func (r *reply) emit(m *treepb.Answer) error {
	m.Id = r.id
	packed, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, head, 256), m)
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

// close gives the question's place free. It may be called once.
func (r *reply) close() {
	r.s.mu.Lock()
	delete(r.s.running, r.id)
	r.s.mu.Unlock()
	<-r.slots
}

// stand has a goroutine answer the question. f's context ends with the stream, or when the other side has no more use for
// the answers.
func (r *reply) stand(parts *sync.WaitGroup, f func(context.Context) error) {
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

package tree

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/sds/tree/treepb"
)

// stream is one side of a link or of a client's session. Who has something to say writes it, one at a time; a goroutine
// writes what is bulky; whoever runs the stream reads. Questions of both sides travel on it, each side numbering its own.
type stream struct {
	peer  ca.Peer
	raw   rawStream
	ctx   context.Context
	end   context.CancelCauseFunc
	bulk  chan *treepb.Frame // summaries
	slots chan struct{}      // questions of the other side that are being answered
	stand chan struct{}      // and those that stand

	writing sync.Mutex // held over a write

	mu      sync.Mutex
	last    uint64
	pending map[uint64]chan *treepb.Answer
	running map[uint64]context.CancelFunc
}

// rawStream is what gRPC's streams of either side can.
type rawStream interface {
	Send(*treepb.Frame) error
	Recv() (*treepb.Frame, error)
}

// Bounds of a stream.
const (
	bulkQueue   = 512
	asksAtOnce  = 512 // of one neighbour
	asksClient  = 64  // of one client
	standTimes  = 8   // times as many may stand
	answerQueue = 16  // answers to one question that nobody has taken yet
	slowAnswer  = time.Second
)

// errClosed ends a stream on purpose.
var errClosed = errors.New("the link is closed")

func newStream(ctx context.Context, peer ca.Peer, raw rawStream, asks int) *stream {
	s := &stream{
		peer: peer, raw: raw, bulk: make(chan *treepb.Frame, bulkQueue),
		slots: make(chan struct{}, asks), stand: make(chan struct{}, standTimes*asks), pending: make(map[uint64]chan *treepb.Answer), running: make(map[uint64]context.CancelFunc),
	}
	s.ctx, s.end = context.WithCancelCause(ctx)
	return s
}

// sending writes what is bulky until the stream ends, piece by piece, so that what is urgent goes between.
func (s *stream) sending() {
	for {
		select {
		case f := <-s.bulk:
			if s.put(f) != nil {
				return
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// put writes a frame. It waits while the other side does not read; a link whose other side reads nothing dies of its
// silence.
func (s *stream) put(f *treepb.Frame) error {
	f.Version = 1
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if err := s.raw.Send(f); err != nil {
		s.end(err)
		return err
	}
	return nil
}

// mention queues a frame behind what is bulky, unless there is too much of that: for beats, which come again.
func (s *stream) mention(f *treepb.Frame) {
	select {
	case s.bulk <- f:
	default:
	}
}

// ask sends a question; its answers come on the channel. The caller calls done.
func (s *stream) ask(ctx context.Context, a *treepb.Ask) (answers <-chan *treepb.Answer, done func(), err error) {
	ch := make(chan *treepb.Answer, answerQueue)
	s.mu.Lock()
	s.last++
	a.Id = s.last
	s.pending[a.Id] = ch
	s.mu.Unlock()
	done = func() {
		s.mu.Lock()
		_, waiting := s.pending[a.Id]
		delete(s.pending, a.Id)
		s.mu.Unlock()
		if waiting { // no last answer came: it is not wanted any more
			_ = s.put(&treepb.Frame{Kind: &treepb.Frame_Cancel{Cancel: a.Id}})
		}
	}
	if err := s.put(&treepb.Frame{Kind: &treepb.Frame_Ask{Ask: a}}); err != nil {
		done()
		return nil, nil, err
	}
	return ch, done, nil
}

// take hands an answer to who asked. Who does not take what it asked for within a second is cut off, so that others are
// not held up.
func (s *stream) take(a *treepb.Answer) {
	s.mu.Lock()
	ch := s.pending[a.GetId()]
	if a.GetLast() {
		delete(s.pending, a.GetId())
	}
	s.mu.Unlock()
	if ch == nil {
		return
	}
	select {
	case ch <- a:
		return
	default:
	}
	slow := time.NewTimer(slowAnswer)
	defer slow.Stop()
	select {
	case ch <- a:
	case <-s.ctx.Done():
	case <-slow.C:
		s.mu.Lock()
		delete(s.pending, a.GetId())
		s.mu.Unlock()
		close(ch)
	}
}

// serve answers a question of the other side in the background. f's context ends with the stream, the question's own
// time, or when the other side has no more use for it.
func (s *stream) serve(a *treepb.Ask, parts *sync.WaitGroup, f func(context.Context) error) error {
	slots := s.slots
	if a.GetWatch() {
		slots = s.stand
	}
	select {
	case slots <- struct{}{}:
	default:
		return s.refuse(a, status.Errorf(codes.ResourceExhausted, "%d questions at a time: ask again later", cap(slots)))
	}
	ctx, cancel := s.lifeOf(a)
	s.mu.Lock()
	_, twice := s.running[a.GetId()]
	if !twice {
		s.running[a.GetId()] = cancel
	}
	s.mu.Unlock()
	if twice || a.GetId() == 0 {
		cancel()
		<-slots
		return status.Errorf(codes.InvalidArgument, "question %d is in use or 0: choose another id", a.GetId())
	}
	parts.Go(func() {
		err := f(ctx)
		cancel()
		s.mu.Lock()
		delete(s.running, a.GetId())
		s.mu.Unlock()
		<-slots
		if err != nil {
			_ = s.refuse(a, err)
		}
	})
	return nil
}

// lifeOf is the context of a question of the other side: a watch stands until it is cancelled.
func (s *stream) lifeOf(a *treepb.Ask) (context.Context, context.CancelFunc) {
	if a.GetWatch() {
		return context.WithCancel(s.ctx)
	}
	return context.WithTimeout(s.ctx, timeoutOf(a))
}

// refuse ends a question with an error.
func (s *stream) refuse(a *treepb.Ask, err error) error {
	st := status.Convert(err)
	if c := status.FromContextError(err); st.Code() == codes.Unknown && c.Code() != codes.Unknown {
		st = c
	}
	return s.put(&treepb.Frame{Kind: &treepb.Frame_Answer{Answer: &treepb.Answer{Id: a.GetId(), Last: true, Code: uint32(st.Code()), Error: st.Message()}}})
}

// cancel ends a question of the other side.
func (s *stream) cancel(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.running[id]; cancel != nil {
		cancel()
	}
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

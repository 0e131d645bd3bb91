package tree

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/sds/packed"
	"ninja/sds/tree/treepb"
)

// stream is one side of a link or of a client's session. Whoever runs it reads (recv); frames to be sent are queued, and
// all that wait go as one message: written by whoever may wait for the other side, or by the stream's sender, so that who
// reads one stream never waits for another. Questions of both sides travel on it, each side numbering its own.
type stream struct {
	peer  ca.Peer
	raw   rawStream
	ctx   context.Context
	end   context.CancelCauseFunc
	bulk  chan *treepb.Frame      // summaries
	slots chan struct{}           // questions of the other side that are being answered
	stand chan struct{}           // and those that stand
	asked func(*treepb.Ask) error // takes a question, on the goroutine that reads; set before it reads

	in      treepb.Packed // the reader's
	known   words         // likewise
	gathers atomic.Bool   // the other side understands Packed.several

	wake chan struct{} // the sender has something to write
	out  treepb.Packed // belongs to who writes

	mu      sync.Mutex
	queue   [][]byte      // frames without version
	spare   [][]byte      // an empty queue, for when this one is taken
	queued  int           // bytes
	writing bool          // somebody does, or has woken the sender to
	room    chan struct{} // closed when the queue has been taken; nil when nobody waits
	over    bool
	last    uint64
	pending map[uint64]awaiting
	running map[uint64]*reply
}

// rawStream is what gRPC's streams of either side can.
type rawStream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// awaiting is who waits for the answers to a question. Its methods are called by the goroutine that reads the stream, and
// by the one that ends it.
type awaiting interface {
	// answered takes an answer; the bytes are its to keep. It must not wait.
	answered(*answer)
	// lost says that no more answers come, because the stream has ended.
	lost()
}

// Bounds of a stream.
const (
	bulkQueue   = 512
	asksAtOnce  = 512       // of one neighbour
	asksClient  = 64        // of one client
	standTimes  = 8         // times as many may stand
	windowMost  = 512 << 10 // bytes of answers to one question that nobody has taken yet
	windowLeast = 64 << 10
	windowAll   = 4 << 20  // of all the branches of a question together, but windowLeast each
	queueMost   = 4 << 20  // bytes that wait to be sent; then who can wait does, and what cannot is refused
	gatherMost  = 64 << 10 // bytes of frames that go as one message
	spareMost   = 1024     // frames of a queue that is kept for another time
	wireVersion = 2
)

// errClosed ends a stream on purpose.
var errClosed = errors.New("the link is closed")

// errBusy is a frame that finds no room in the queue.
var errBusy = errors.New("the other side does not take what it was sent before")

func newStream(ctx context.Context, peer ca.Peer, raw rawStream, asks int) *stream {
	s := &stream{
		peer: peer, raw: raw, bulk: make(chan *treepb.Frame, bulkQueue), wake: make(chan struct{}, 1), known: make(words),
		slots: make(chan struct{}, asks), stand: make(chan struct{}, standTimes*asks), pending: make(map[uint64]awaiting), running: make(map[uint64]*reply),
	}
	s.ctx, s.end = context.WithCancelCause(ctx)
	return s
}

// sending writes what others have queued and what is bulky until the stream ends, piece by piece, so that what is urgent
// goes between. At the end it tells those who wait.
func (s *stream) sending() {
	for {
		select {
		case <-s.wake:
			runtime.Gosched() // whoever can say something now does so first
			s.flush()
		case f := <-s.bulk:
			_ = s.put(frameOf(f)) // if it fails the stream has ended
		case <-s.ctx.Done():
			s.drop()
			return
		}
	}
}

// drop tells those who wait for the other side, or work for it, that the stream has ended.
func (s *stream) drop() {
	s.mu.Lock()
	s.over = true
	pending, running := s.pending, s.running
	s.pending, s.running, s.queue = nil, nil, nil
	cancels := make([]func(), 0, len(running))
	for _, r := range running {
		if r.cancel != nil {
			cancels = append(cancels, r.cancel)
		}
	}
	s.mu.Unlock()
	for _, w := range pending {
		w.lost()
	}
	for _, cancel := range cancels {
		cancel()
	}
}

// frameOf packs a frame of any kind.
func frameOf(f *treepb.Frame) []byte {
	f.Version = wireVersion
	b, _ := proto.Marshal(f) // it fails for a text that is not UTF-8, which nothing here makes
	return b
}

// head is what a frame takes ahead of a packed ask or answer.
const head = 6

// frameAround makes the frame of a packed ask or answer, which begins after head bytes.
func frameAround(kind protowire.Number, b []byte) []byte {
	size := uint64(len(b) - head)
	from := head - 1 - protowire.SizeVarint(size)
	binary.PutUvarint(b[from+1:head], size)
	b[from] = byte(protowire.EncodeTag(kind, protowire.BytesType))
	return b[from:]
}

// alone reports whether a frame is of a kind that goes as a message of its own: it begins with its version.
func alone(frame []byte) bool { return frame[0] == byte(1<<3|protowire.VarintType) }

// queueing adds a frame to the queue. first is that nobody writes: the caller is to see to it. It holds mu.
func (s *stream) queueing(frame []byte) (first bool) {
	s.queue = append(s.queue, frame)
	s.queued += len(frame)
	first, s.writing = !s.writing, true
	return first
}

// put sends a frame, and waits while the other side does not read; a link whose other side reads nothing dies of its
// silence.
func (s *stream) put(frame []byte) error {
	s.mu.Lock()
	for s.queued > queueMost && !s.over {
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
		s.mu.Lock()
	}
	if s.over || s.ctx.Err() != nil {
		s.mu.Unlock()
		return context.Cause(s.ctx)
	}
	first := s.queueing(frame)
	s.mu.Unlock()
	if first {
		runtime.Gosched() // whoever can say something now does so first
		s.flush()
	}
	return nil
}

// post has a frame be sent, and never waits.
func (s *stream) post(frame []byte) error {
	s.mu.Lock()
	busy := s.queued > queueMost
	s.mu.Unlock()
	if busy {
		return errBusy
	}
	return s.postAnyway(frame)
}

// postAnyway is post for what is bounded otherwise: answers by the credit that their question has, and what ends a
// question by there being one.
func (s *stream) postAnyway(frame []byte) error {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return errClosed
	}
	first := s.queueing(frame)
	s.mu.Unlock()
	if first {
		s.wake <- struct{}{} // there is room: only who is first wakes
	}
	return nil
}

// flush writes until the queue is empty. Only who found that nobody writes calls it.
func (s *stream) flush() {
	for {
		s.mu.Lock()
		frames := s.queue
		s.queue, s.queued, s.spare = s.spare, 0, nil
		if s.room != nil {
			close(s.room)
			s.room = nil
		}
		if len(frames) == 0 || s.over {
			s.writing = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if err := s.write(frames); err != nil {
			s.end(err)
		}
		if cap(frames) <= spareMost {
			clear(frames)
			s.mu.Lock()
			s.spare = frames[:0]
			s.mu.Unlock()
		}
	}
}

// write sends frames, as few messages as the other side understands.
func (s *stream) write(frames [][]byte) error {
	for len(frames) > 0 && s.ctx.Err() == nil {
		n, size := 1, len(frames[0])
		for s.gathers.Load() && !alone(frames[0]) && n < len(frames) && size+len(frames[n]) <= gatherMost && !alone(frames[n]) {
			size += len(frames[n])
			n++
		}
		s.out.Version, s.out.Several = wireVersion, nil
		if n > 1 {
			s.out.Several = slices.Concat(frames[:n]...)
			s.out.ProtoReflect().SetUnknown(nil)
		} else {
			s.out.ProtoReflect().SetUnknown(frames[0])
		}
		if err := s.raw.SendMsg(&s.out); err != nil {
			return err
		}
		frames = frames[n:]
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

// recv reads until a frame comes that is no question and no answer. heard is called with every message.
func (s *stream) recv(heard func()) (*treepb.Frame, error) {
	for {
		if err := s.raw.RecvMsg(&s.in); err != nil {
			if s.ctx.Err() != nil {
				err = context.Cause(s.ctx)
			}
			return nil, err
		}
		if heard != nil {
			heard()
		}
		if s.in.GetVersion() >= wireVersion && !s.gathers.Load() {
			s.gathers.Store(true)
		}
		if err := packed.Fields(s.in.GetSeveral(), s.takePart); err != nil {
			return nil, err
		}
		b := []byte(s.in.ProtoReflect().GetUnknown())
		if len(b) == 0 {
			continue
		}
		switch kind, _, _ := protowire.ConsumeTag(b); kind {
		case frameAsk, frameAnswer, frameCancel, frameCredit:
			if err := packed.Fields(b, s.takePart); err != nil {
				return nil, err
			}
		default:
			f := new(treepb.Frame)
			return f, proto.Unmarshal(b, f)
		}
	}
}

// takePart takes one of the frames that go both ways.
func (s *stream) takePart(kind protowire.Number, v packed.Field) error {
	switch kind {
	case frameAsk:
		a, err := parseAsk(v.Bytes, s.known)
		if err != nil {
			return err
		}
		if s.asked == nil {
			return errors.New("a question of a side that is only asked")
		}
		return s.asked(a)
	case frameAnswer:
		a, err := parseAnswer(v.Bytes)
		if err != nil {
			return err
		}
		s.take(a)
	case frameCancel:
		s.cancel(v.Number)
	case frameCredit:
		id, bytes, err := parseCredit(v.Bytes)
		if err != nil {
			return err
		}
		s.credited(id, bytes)
	default:
		return errFrame
	}
	return nil
}

// question sends one whose answers w is to get. send is put or post.
func (s *stream) question(a *treepb.Ask, w awaiting, send func([]byte) error) (id uint64, err error) {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return 0, errLinkLost
	}
	s.last++
	id = s.last
	s.pending[id] = w
	s.mu.Unlock()
	a.Id = id
	packed, err := appendAsk(make([]byte, head, 192+len(a.GetQuestion())+len(a.GetCapability())+8*len(a.GetTokens())), a)
	if err == nil {
		err = send(frameAround(frameAsk, packed))
	}
	if err != nil {
		s.mu.Lock()
		delete(s.pending, id)
		s.mu.Unlock()
	}
	return id, err
}

// forget ends a question whose answers are not wanted any more.
func (s *stream) forget(id uint64) {
	s.mu.Lock()
	_, waiting := s.pending[id]
	delete(s.pending, id)
	s.mu.Unlock()
	if waiting { // no last answer came
		_ = s.postAnyway(protowire.AppendVarint(protowire.AppendTag(nil, frameCancel, protowire.VarintType), id))
	}
}

// take hands an answer to who asked.
func (s *stream) take(a *answer) {
	s.mu.Lock()
	w := s.pending[a.id]
	if a.last {
		delete(s.pending, a.id)
	}
	s.mu.Unlock()
	if w != nil {
		w.answered(a)
	}
}

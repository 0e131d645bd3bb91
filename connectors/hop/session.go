package hop

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/internal/world"
)

// How a session watches its peer. Every frame is a sign of life, and each end probes the other, so an end that hears
// nothing for silence has lost its peer.
const (
	pingEvery   = 5 * time.Second
	pingAtFirst = 250 * time.Millisecond // between the first probes, so that an estimate is there early
	firstPings  = 4
	silence     = 16 * time.Second
	// leaveTimeout bounds a farewell.
	leaveTimeout = time.Second
)

// Handler takes what the other end says. Its functions are called by one goroutine, one after the other; while one
// blocks nothing is read. A function that is nil makes its frame an error: a sending end sets Event (and
// Credit, where its transport has it), a receiving end those of its transport; Ended may always be nil.
type Handler struct {
	// ADU takes an ADU; it blocks for back pressure.
	ADU func(connectors.ADU)
	// Mark says what ends at a position, for transports whose packets may be lost.
	Mark func(m connectors.Mark, position uint64)
	// End says that nothing comes at or after the position.
	End func(position uint64)
	// Flushed says that the sending end has taken a Flush: what it sent before position is to be dropped.
	Flushed func(position uint64)
	// Sent says that the sending end waits for credit and has sent what is before the position.
	Sent func(position uint64)
	// Credit says that the sending end may send what is before the position.
	Credit func(position uint64)
	// Report takes what the receiving end's transport says of reception, which the handler may keep.
	Report func([]byte)
	// Flush drops what the sending end holds and returns the position of what comes next; nil holds nothing and is
	// always at 0. The answer is queued before Event hands the flush to whoever writes.
	Flush func() (position uint64)
	// Event takes an event.
	Event func(connectors.Event)
	// Ended is called once, last; Err then says why.
	Ended func()
}

// Session is one end of a hop's TLS session.
type Session struct {
	conn   *tls.Conn
	in     *bufio.Reader
	peer   ca.Peer
	stream connectors.StreamID
	epoch  uint32
	extra  string
	trunk  bool              // the hop's datagrams ride on a trunk
	stamp  *connectors.Stamp // of the ADU in the next frame; read alone uses it
	world  world.World
	start  time.Time
	expiry *time.Timer
	// unwatch stops waiting for the peer's ban.
	unwatch func()
	loops   sync.WaitGroup

	done     chan struct{} // closed when the session has ended, after cause is set
	failOnce sync.Once
	cause    error
	finished chan struct{} // closed when the receiving end has confirmed the end
	leaving  atomic.Bool   // this end has said farewell
	trip     atomic.Int64  // smoothed round trip in ns

	// writing holds a token while a frame is written. It is no mutex because a write may block for long, and a goroutine
	// that waits for a mutex stops the clock of a testing/synctest bubble.
	writing chan struct{}
	out     []byte
	watch   watch

	control controls
}

func newBuffer(conn io.Reader) *bufio.Reader { return bufio.NewReaderSize(conn, 32<<10) }

// newSession makes the session of a connection to a peer; it ends with the peer's certificate, and when id's authority bans
// the peer.
func newSession(id *ca.Identity, conn *tls.Conn, in *bufio.Reader, peer ca.Peer, w world.World, stream connectors.StreamID, epoch uint32, extra string) *Session {
	s := &Session{
		conn: conn, in: in, peer: peer, world: w, stream: stream, epoch: epoch, extra: extra, start: time.Now(),
		done: make(chan struct{}), finished: make(chan struct{}), writing: make(chan struct{}, 1),
	}
	s.watch.conn = conn
	s.control.ready = make(chan struct{}, 1)
	s.expiry = time.AfterFunc(peer.Leaf.NotAfter.Sub(w.Now()), func() {
		s.fail(fmt.Errorf("the certificate of %s has expired; the path must be made anew", peer.ID))
	})
	watched := make(chan struct{})
	s.unwatch = id.OnBan(peer.ID, func() {
		<-watched
		s.fail(fmt.Errorf("%w: %s", ca.ErrBanned, peer.ID))
	})
	close(watched)
	return s
}

// Begin starts the session: h gets what the other end says from now on.
func (s *Session) Begin(h Handler) {
	s.loops.Go(func() {
		s.fail(s.read(h))
		if h.Ended != nil {
			h.Ended()
		}
	})
	s.loops.Go(s.speak)
}

// Trunked reports whether the hop's datagrams ride on a trunk, which seals them, instead of a socket of the hop's own.
func (s *Session) Trunked() bool { return s.trunk }

// Peer is who is at the other end.
func (s *Session) Peer() ca.ID { return s.peer.ID }

// Extra are the parameters that the other end gave.
func (s *Session) Extra() string { return s.extra }

// Export derives n secret bytes that both ends of this session, and nobody else, can derive for the label, bound to the
// stream and the epoch (RFC 8446, 7.5).
func (s *Session) Export(label string, n int) ([]byte, error) {
	state := s.conn.ConnectionState()
	return state.ExportKeyingMaterial(label, binary.BigEndian.AppendUint32(s.stream[:], s.epoch), n)
}

// Link estimates the one-way delay: half the smoothed round trip; zero when it is not known yet. Under back pressure it
// contains the time that probes wait behind data.
func (s *Session) Link() time.Duration { return time.Duration(s.trip.Load() / 2) }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session ended: connectors.ErrClosed when an end closed it. Call it after Done.
func (s *Session) Err() error { return s.cause }

// fail ends the session; the first cause stands.
func (s *Session) fail(cause error) {
	s.failOnce.Do(func() {
		s.cause = cause
		close(s.done)
		s.expiry.Stop()
		s.unwatch()
		s.conn.NetConn().Close() // not the TLS connection, whose farewell may block
	})
}

// Abandon ends a session that was not begun.
func (s *Session) Abandon(cause error) { s.fail(cause) }

// wait waits for the session's goroutines after fail.
func (s *Session) wait() {
	s.loops.Wait()
	s.watch.release()
}

// Send writes an ADU; it blocks while the link is full, until ctx ends. After an error the session has ended.
func (s *Session) Send(ctx context.Context, a connectors.ADU) error {
	if len(a.Payload) > connectors.MaxPayload {
		return fmt.Errorf("ADU of %d bytes: at most %d are allowed; split it", len(a.Payload), connectors.MaxPayload)
	}
	return s.writeUntil(ctx, func(b []byte) []byte {
		if a.Stamp != nil && s.extra == TakesStamps {
			b = appendNumber(b, kindStamp, uint64(a.Stamp.Now(time.Now())))
		}
		return appendADU(b, a)
	})
}

// TakesStamps are the parameters of a receiving end that takes the stamps of ADUs.
const TakesStamps = "stamps"

// writeUntil is write that ends with ctx.
func (s *Session) writeUntil(ctx context.Context, fill func([]byte) []byte) error {
	if err := s.watch.begin(ctx); err != nil {
		return err
	}
	err := s.write(fill)
	s.watch.end()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		s.fail(fmt.Errorf("write abandoned: %w", ctx.Err())) // part of a frame may be out
		return ctx.Err()
	}
	return err
}

// SendMark says what ends at a position.
func (s *Session) SendMark(ctx context.Context, m connectors.Mark, position uint64) error {
	return s.writeUntil(ctx, func(b []byte) []byte {
		return appendFrame(b, kindMark, func(b []byte) []byte {
			return binary.BigEndian.AppendUint64(append(b, byte(m)), position)
		})
	})
}

// write writes what waits to be said and then the frames that fill appends. So the answer to a Flush precedes all that
// is written after the flush was taken.
func (s *Session) write(fill func([]byte) []byte) error {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-s.done:
		return s.cause
	}
	select {
	case <-s.done:
		return s.cause
	default:
	}
	b := fill(s.control.take(s.out[:0]))
	if len(b) == 0 {
		return nil
	}
	if cap(b) <= 64<<10 {
		s.out = b
	}
	if _, err := s.conn.Write(b); err != nil {
		if s.leaving.Load() { // the other end has heard the farewell and is gone
			s.fail(connectors.ErrClosed)
		}
		s.fail(fmt.Errorf("write to %s: %w", s.peer.ID, err))
		return s.cause
	}
	return nil
}

// Signal sends an event to the sending end. It does not block.
func (s *Session) Signal(e connectors.Event) error {
	select {
	case <-s.done:
		return s.cause
	default:
	}
	s.control.event(e.Clip())
	return nil
}

// Credit tells the sending end that it may send what is before the position. It does not block; the latest counts.
func (s *Session) Credit(position uint64) { s.control.credit(position) }

// Report tells the sending end, which must have asked for it, of reception; at most 512 bytes, which the session keeps.
// It does not block; the latest counts.
func (s *Session) Report(b []byte) { s.control.tell(b[:min(len(b), maxReport)]) }

// Sent tells the receiving end that this end waits for credit and has sent what is before the position. It does not
// block; the latest counts.
func (s *Session) Sent(position uint64) { s.control.sentUpTo(position) }

// Finish ends the stream at the position and waits until the receiving end has everything, at most linger; then it ends
// the session. The error says when that could not be confirmed.
func (s *Session) Finish(position uint64, linger time.Duration) error {
	defer s.wait()
	defer s.fail(connectors.ErrClosed)
	s.conn.SetWriteDeadline(time.Now().Add(linger))
	err := s.write(func(b []byte) []byte {
		return appendFrame(b, kindEnd, func(b []byte) []byte { return binary.BigEndian.AppendUint64(b, position) })
	})
	if err == nil {
		t := time.NewTimer(linger)
		defer t.Stop()
		select {
		case <-s.finished:
			return nil
		case <-s.done:
			err = s.cause
		case <-t.C:
			err = fmt.Errorf("not confirmed within %v", linger)
		}
	}
	if errors.Is(err, connectors.ErrClosed) {
		return nil
	}
	return fmt.Errorf("end of stream to %s: %w", s.peer.ID, err)
}

// Leave closes the receiving end: the sending end's next Send fails with connectors.ErrClosed. The caller's handler must
// no longer block.
func (s *Session) Leave() { s.farewell("") }

// Abort breaks the hop from the sending end: the receiving end's session ends with an error that wraps
// connectors.ErrAborted and says the text.
func (s *Session) Abort(text string) { s.farewell(text[:min(len(text), maxText)]) }

// farewell says why this end goes and waits a moment for the other to have heard it.
func (s *Session) farewell(text string) {
	defer s.wait()
	defer s.fail(connectors.ErrClosed)
	s.leaving.Store(true)
	s.conn.SetWriteDeadline(time.Now().Add(leaveTimeout))
	if s.write(func(b []byte) []byte {
		return appendFrame(b, kindClosed, func(b []byte) []byte { return append(b, text...) })
	}) != nil {
		return
	}
	// Closing with data unread would reset the connection and might overtake the farewell: the other end closes first.
	t := time.NewTimer(leaveTimeout)
	defer t.Stop()
	select {
	case <-s.done:
	case <-t.C:
	}
}

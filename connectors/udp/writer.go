package udp

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"ninja/connectors"
	"ninja/connectors/hop"
)

// writer is the sending end. It keeps no queue: Write itself waits for credit.
type writer struct {
	session *hop.Session
	conn    io.WriteCloser
	linger  time.Duration
	events  *connectors.EventQueue
	sealer  sealer // Write alone uses it, and those to timer
	seq     uint64
	sent    uint64 // datagrams
	timer   *time.Timer
	woken   chan struct{} // credit or a flush has come

	adus, bytes atomic.Uint64
	once        sync.Once
	result      error

	mu      sync.Mutex // what the session's goroutine shares with Write
	number  uint64     // of the next ADU
	granted uint64     // datagrams that may be sent
	flushes uint64
}

func newWriter(s *hop.Session, conn io.WriteCloser, linger time.Duration) (*writer, error) {
	sealer, err := newSealer(s)
	if err != nil {
		return nil, err
	}
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &writer{
		session: s, conn: conn, linger: linger, events: connectors.NewEventQueue(), sealer: sealer,
		timer: t, woken: make(chan struct{}, 1), granted: window,
	}, nil
}

// flush drops the rest of the ADU that is being written, on the session's goroutine.
func (w *writer) flush() (number uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushes++
	w.wake()
	return w.number
}

// grant takes credit on the session's goroutine.
func (w *writer) grant(position uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.granted = max(w.granted, position)
	w.wake()
}

func (w *writer) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// Write implements connectors.Writer. It blocks while the receiving end gives no credit.
func (w *writer) Write(ctx context.Context, a connectors.ADU) error {
	if len(a.Payload) > connectors.MaxPayload {
		return fmt.Errorf("ADU of %d bytes: at most %d are allowed; split it", len(a.Payload), connectors.MaxPayload)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w.seq++
	if a.Seq == 0 {
		a.Seq = w.seq
	} else {
		w.seq = a.Seq
	}
	w.mu.Lock()
	f := fragment{number: w.number, seq: a.Seq, time: a.MediaTime, fragments: fragments(len(a.Payload), w.sealer.chunk), mark: a.Mark, stamp: a.Stamp}
	w.number++
	flushes := w.flushes
	w.mu.Unlock()
	for rest := a.Payload; f.index < f.fragments; f.index++ {
		f.payload = rest[:min(len(rest), w.sealer.chunk)]
		rest = rest[len(f.payload):]
		dropped, err := w.wait(ctx, flushes)
		if dropped || err != nil {
			return err
		}
		if err := w.send(f); err != nil {
			return err
		}
	}
	w.adus.Add(1)
	w.bytes.Add(uint64(len(a.Payload)))
	if a.Mark == 0 {
		return nil
	}
	return w.session.SendMark(ctx, a.Mark, f.number)
}

// patience is how long the sender waits for credit before it says how much it has sent: if all of that was lost, nothing
// else would ever move the receiving end to give credit.
const patience = 20 * time.Millisecond

// wait waits for credit; a flush since the ADU was begun drops it.
func (w *writer) wait(ctx context.Context, flushes uint64) (dropped bool, err error) {
	select {
	case <-w.session.Done():
		return false, w.session.Err()
	default:
	}
	for waited := false; ; waited = true {
		w.mu.Lock()
		dropped = w.flushes != flushes
		may := w.sent < w.granted
		w.mu.Unlock()
		if dropped || may {
			return dropped, nil
		}
		if !waited {
			w.timer.Reset(patience)
		}
		select {
		case <-w.woken:
		case <-w.timer.C:
			w.session.Sent(w.sent)
		case <-ctx.Done():
			return false, ctx.Err()
		case <-w.session.Done():
			return false, w.session.Err()
		}
	}
}

// send seals and sends a fragment.
func (w *writer) send(f fragment) error {
	d, err := w.sealer.datagram(f)
	if err != nil {
		return fmt.Errorf("seal datagram %d: %w", w.sent, err)
	}
	// A datagram that the network refuses is a datagram lost; when the peer is gone the session says so.
	w.conn.Write(d)
	w.sent++
	return nil
}

// Events implements connectors.Writer.
func (w *writer) Events() <-chan connectors.Event { return w.events.C() }

// Close implements connectors.Writer.
func (w *writer) Close() error {
	w.once.Do(func() {
		w.mu.Lock()
		number := w.number
		w.mu.Unlock()
		w.result = w.session.Finish(number, w.linger)
		w.conn.Close()
	})
	return w.result
}

// Abort implements connectors.Aborter.
func (w *writer) Abort(cause error) {
	w.once.Do(func() {
		w.session.Abort(cause.Error())
		w.conn.Close()
	})
}

// Stats implements connectors.Measured.
func (w *writer) Stats() connectors.Stats {
	return connectors.Stats{ADUs: w.adus.Load(), Bytes: w.bytes.Load(), Link: w.session.Link()}
}

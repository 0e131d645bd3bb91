package rtp

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

// writer is the sending end. It keeps no queue: Write itself waits until the last packet of its ADU may leave, so that
// nothing is left to drop or to send at Close, and a flush has only the ADU being written to drop.
type writer struct {
	session *hop.Session
	conn    io.WriteCloser
	linger  time.Duration
	events  *connectors.EventQueue
	timer   *time.Timer
	flushed chan struct{} // wakes a Write that waits

	adus, bytes  atomic.Uint64
	lost, jitter atomic.Int64 // as the receiving end reports
	once         sync.Once
	result       error

	mu       sync.Mutex // what the session's goroutine shares with Write
	sealer   sealer
	pacer    pacer
	position uint64 // of the next packet
	flushes  uint64
	text     redundancy  // of text
	repeat   *time.Timer // sends the text that waits to be repeated; nil for audio
}

func newWriter(s *hop.Session, conn io.WriteCloser, f format, linger time.Duration) (*writer, error) {
	k, err := deriveKeys(s)
	if err != nil {
		return nil, err
	}
	t := time.NewTimer(time.Hour)
	t.Stop()
	w := &writer{
		session: s, conn: conn, linger: linger, events: connectors.NewEventQueue(), timer: t,
		flushed: make(chan struct{}, 1), sealer: sealer{keys: k, format: f}, pacer: pacer{format: f},
	}
	if f.text {
		w.text = redundancy{payloadType: ptT140}
		w.repeat = time.AfterFunc(time.Hour, w.repeatText)
		w.repeat.Stop()
	}
	return w, nil
}

// flush drops what is being paced, on the session's goroutine.
func (w *writer) flush() (position uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushes++
	w.pacer.flush()
	w.text.recent = nil
	select {
	case w.flushed <- struct{}{}:
	default:
	}
	return w.position
}

// report takes the receiving end's report on the session's goroutine.
func (w *writer) report(b []byte) {
	if lost, jitter, ok := parseReport(b, w.sealer.ssrc); ok {
		w.lost.Store(int64(lost))
		w.jitter.Store(int64(w.sealer.format.span(int64(jitter))))
	}
}

// Write implements connectors.Writer. It blocks until the last of the ADU is due within 60 ms by the media's own time.
func (w *writer) Write(ctx context.Context, a connectors.ADU) error {
	size := w.sealer.format.sample
	if len(a.Payload) > connectors.MaxPayload || len(a.Payload)%size != 0 {
		return fmt.Errorf("ADU of %d bytes: want whole samples of %d bytes, at most %d bytes", len(a.Payload), size, connectors.MaxPayload)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.sealer.format.opus && len(a.Payload) > maxPayload {
		return fmt.Errorf("packet of Opus of %d bytes: at most %d are allowed; encode at a lower rate", len(a.Payload), maxPayload)
	}
	now := time.Now()
	w.mu.Lock()
	at, pause := w.pacer.place(now, a.MediaTime)
	flushes := w.flushes
	w.mu.Unlock()
	for rest := a.Payload; ; {
		p := packet{time: at, talkspurt: pause, payload: rest[:w.sealer.format.cut(rest)], stamp: a.Stamp}
		a.Stamp = nil
		rest, pause = rest[len(p.payload):], false
		if len(rest) == 0 {
			p.mark = a.Mark
		}
		dropped, err := w.send(ctx, p, flushes, now)
		if err != nil {
			return err
		}
		if dropped {
			return nil
		}
		if len(rest) == 0 {
			break
		}
		at += w.sealer.format.length(p.payload)
	}
	w.adus.Add(1)
	w.bytes.Add(uint64(len(a.Payload)))
	return nil
}

// send sends a packet when it may leave, unless a flush comes before. now may be a little old.
func (w *writer) send(ctx context.Context, p packet, flushes uint64, now time.Time) (dropped bool, err error) {
	for ; ; now = time.Now() {
		wait, err := w.trySend(&p, flushes, now)
		if wait < 0 || err != nil {
			return wait < 0, err
		}
		if wait == 0 {
			break
		}
		w.timer.Reset(wait)
		select {
		case <-w.timer.C:
		case <-w.flushed:
		case <-ctx.Done():
			return false, ctx.Err()
		case <-w.session.Done():
			return false, w.session.Err()
		}
	}
	if p.mark == 0 {
		return false, nil
	}
	return false, w.session.SendMark(ctx, p.mark, p.position)
}

// trySend sends p and returns 0, or how long it must wait, or a negative wait when a flush has dropped it.
func (w *writer) trySend(p *packet, flushes uint64, now time.Time) (time.Duration, error) {
	select {
	case <-w.session.Done():
		return 0, w.session.Err()
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flushes != flushes {
		return -1, nil
	}
	if wait := w.pacer.wait(now, p.time); wait > 0 {
		return wait, nil
	}
	return 0, w.sendNow(p)
}

// sendNow sends p. The caller holds the lock.
func (w *writer) sendNow(p *packet) error {
	p.position = w.position
	length := w.sealer.format.length(p.payload)
	if w.repeat != nil {
		p.payload = w.text.pack(nil, p.time, p.payload)
		w.repeat.Reset(textEvery)
	}
	datagram, err := w.sealer.seal(*p)
	if err != nil {
		return err
	}
	// A datagram that the network refuses is a datagram lost; when the peer is gone the session says so.
	w.conn.Write(datagram)
	w.position++
	w.pacer.sent(p.time, length)
	return nil
}

// repeatText repeats the last text when nothing has followed it that did.
func (w *writer) repeatText() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.repeat == nil || !w.text.owes() {
		return
	}
	at := w.text.recent[len(w.text.recent)-1].time + int64(textEvery/time.Millisecond)
	if w.sendNow(&packet{time: at}) == nil && !w.text.owes() {
		w.repeat.Stop()
	}
}

// endText repeats for the last time.
func (w *writer) endText() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.repeat == nil {
		return
	}
	for range generations {
		if w.text.owes() {
			w.sendNow(&packet{time: w.text.recent[len(w.text.recent)-1].time})
		}
	}
	w.repeat.Stop()
	w.repeat = nil
}

// Events implements connectors.Writer.
func (w *writer) Events() <-chan connectors.Event { return w.events.C() }

// Close implements connectors.Writer.
func (w *writer) Close() error {
	w.once.Do(func() {
		w.endText()
		w.mu.Lock()
		position := w.position
		w.mu.Unlock()
		w.result = w.session.Finish(position, w.linger)
		w.conn.Close()
	})
	return w.result
}

// Abort implements connectors.Aborter.
func (w *writer) Abort(cause error) {
	w.once.Do(func() {
		w.endText()
		w.session.Abort(cause.Error())
		w.conn.Close()
	})
}

// Stats implements connectors.Measured. Loss (in packets) and jitter are what the receiving end reported last.
func (w *writer) Stats() connectors.Stats {
	return connectors.Stats{
		ADUs: w.adus.Load(), Bytes: w.bytes.Load(), Lost: uint64(w.lost.Load()),
		Link: w.session.Link(), Jitter: time.Duration(w.jitter.Load()),
	}
}

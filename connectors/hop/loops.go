package hop

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"ninja/connectors"
)

// read hands frames to h until the session ends, and says why it did.
func (s *Session) read(h Handler) error {
	var extended time.Time
	for {
		if now := time.Now(); now.Sub(extended) > time.Second {
			extended = now
			s.conn.SetReadDeadline(now.Add(silence))
		}
		k, body, err := readFrame(s.in)
		switch {
		case err != nil && s.leaving.Load():
			return connectors.ErrClosed
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%s went away: %w", s.peer.ID, io.ErrUnexpectedEOF)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("%s has been silent for %v", s.peer.ID, silence)
		case errors.Is(err, net.ErrClosed):
			return connectors.ErrClosed
		case err != nil:
			return fmt.Errorf("read from %s: %w", s.peer.ID, err)
		}
		if err := s.handle(h, k, body); err != nil {
			return err
		}
	}
}

// handle does one frame.
func (s *Session) handle(h Handler, k kind, body []byte) error {
	c := cursor{b: body}
	switch {
	case k == kindADU && h.ADU != nil:
		a, err := parseADU(body)
		if err != nil {
			return err
		}
		a.Stamp, s.stamp = s.stamp, nil
		h.ADU(a)
		return nil
	case k == kindStamp && h.ADU != nil:
		s.stamp = connectors.Received(time.Duration(c.uint64()), s.Link(), time.Now())
	case k == kindPing:
		s.control.reply(c.uint64())
	case k == kindPong:
		s.sample(c.uint64())
	case k == kindMark && h.Mark != nil:
		m := connectors.Mark(c.uint8())
		h.Mark(m, c.uint64())
	case k == kindSent && h.Sent != nil:
		h.Sent(c.uint64())
	case k == kindReport && h.Report != nil:
		h.Report(body)
	case k == kindCredit && h.Credit != nil:
		h.Credit(c.uint64())
	case k == kindEnd && h.End != nil:
		h.End(c.uint64())
		s.control.finish()
	case k == kindFlushed && h.Flushed != nil:
		if c.uint32() == s.control.lastFlush() {
			h.Flushed(c.uint64())
		} else {
			c.uint64() // a later flush is on its way up
		}
	case k == kindEvent && h.Event != nil:
		e := connectors.Event{Kind: connectors.EventKind(c.uint8())}
		number := c.uint32()
		e.Text = string(c.bytes(len(c.b)))
		if e.Kind == connectors.Flush {
			var position uint64
			if h.Flush != nil {
				position = h.Flush()
			}
			// Before the event is seen: what is written after that must find the answer ahead of it.
			s.control.flushed(number, position)
		}
		h.Event(e)
	case k == kindDone && h.Event != nil:
		select {
		case <-s.finished:
		default:
			close(s.finished)
		}
	case k == kindClosed && h.Event != nil:
		return connectors.ErrClosed
	case k == kindClosed:
		return fmt.Errorf("%w: %s says: %s", connectors.ErrAborted, s.peer.ID, strings.ToValidUTF8(string(body), "?"))
	default:
		return fmt.Errorf("%w: kind %d does not belong to this end", errFrame, k)
	}
	if c.bad {
		return fmt.Errorf("%w: kind %d of %d bytes", errFrame, k, len(body))
	}
	return nil
}

// sample takes a round trip: the pong gives back when its ping was sent.
func (s *Session) sample(sent uint64) {
	trip := time.Since(s.start) - time.Duration(sent)
	if trip < 0 || trip > silence {
		return // not a time of ours
	}
	if old := s.trip.Load(); old != 0 {
		trip = time.Duration(old + (int64(trip)-old)/8)
	}
	s.trip.Store(max(int64(trip), 1))
}

// speak writes what the control queue holds, and probes.
func (s *Session) speak() {
	// The first ping goes at once and needs no timer. One of no length would crash the race detector of Go 1.26 when it is
	// the first that runs in a bubble of testing/synctest.
	probe := time.NewTimer(s.world.Jitter(pingPeriod(1)))
	defer probe.Stop()
	for pings, ping := 1, true; ; {
		err := s.write(func(b []byte) []byte {
			if ping {
				b = appendNumber(b, kindPing, uint64(time.Since(s.start)))
			}
			return b
		})
		if err != nil {
			return
		}
		ping = false
		select {
		case <-s.done:
			return
		case <-s.control.ready:
		case <-probe.C:
			ping = true
			pings++
			probe.Reset(s.world.Jitter(pingPeriod(pings)))
		}
	}
}

func pingPeriod(pings int) time.Duration {
	if pings < firstPings {
		return pingAtFirst
	}
	return pingEvery
}

func appendNumber(b []byte, k kind, n uint64) []byte {
	return appendFrame(b, k, func(b []byte) []byte { return binary.BigEndian.AppendUint64(b, n) })
}

// controls is what waits to be said beside the data. It is bounded: at most one answer of each kind and MaxEvents
// events stand in it.
type controls struct {
	ready chan struct{}

	mu       sync.Mutex
	events   []connectors.Event
	flush    uint32 // number of the last flush signalled
	pong     uint64
	hasPong  bool
	done     bool
	answered uint32 // number and position of the last flush taken
	position uint64
	hasFlush bool
	granted  uint64 // the latest credit
	hasGrant bool
	sent     uint64
	hasSent  bool
	report   []byte
}

func (c *controls) set(change func()) {
	c.mu.Lock()
	change()
	c.mu.Unlock()
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// event queues an event. Flushes that wait melt into one; beyond the bound the oldest of the others gives way.
func (c *controls) event(e connectors.Event) {
	c.set(func() {
		if e.Kind == connectors.Flush {
			c.flush++
			c.remove(func(o connectors.Event) bool { return o.Kind == connectors.Flush })
		}
		if len(c.events) >= connectors.MaxEvents {
			c.remove(func(o connectors.Event) bool { return o.Kind != connectors.Flush })
		}
		c.events = append(c.events, e)
	})
}

// remove takes out the first event that meets the condition.
func (c *controls) remove(which func(connectors.Event) bool) {
	for i, e := range c.events {
		if which(e) {
			c.events = append(c.events[:i], c.events[i+1:]...)
			return
		}
	}
}

func (c *controls) reply(opaque uint64) { c.set(func() { c.pong, c.hasPong = opaque, true }) }

func (c *controls) finish() { c.set(func() { c.done = true }) }

func (c *controls) flushed(number uint32, position uint64) {
	c.set(func() { c.answered, c.position, c.hasFlush = number, position, true })
}

func (c *controls) credit(position uint64) { c.set(func() { c.granted, c.hasGrant = position, true }) }

func (c *controls) tell(report []byte) { c.set(func() { c.report = report }) }

func (c *controls) sentUpTo(position uint64) { c.set(func() { c.sent, c.hasSent = position, true }) }

func (c *controls) lastFlush() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flush
}

// take appends the frames of all that waits.
func (c *controls) take(b []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hasPong {
		b = appendNumber(b, kindPong, c.pong)
	}
	if c.hasGrant {
		b = appendNumber(b, kindCredit, c.granted)
	}
	if c.report != nil {
		b = appendFrame(b, kindReport, func(b []byte) []byte { return append(b, c.report...) })
		c.report = nil
	}
	if c.hasSent {
		b = appendNumber(b, kindSent, c.sent)
	}
	if c.hasFlush {
		b = appendFrame(b, kindFlushed, func(b []byte) []byte {
			return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, c.answered), c.position)
		})
	}
	for _, e := range c.events {
		b = appendFrame(b, kindEvent, func(b []byte) []byte {
			b = binary.BigEndian.AppendUint32(append(b, byte(e.Kind)), c.flush)
			return append(b, e.Text...)
		})
	}
	if c.done {
		b = appendFrame(b, kindDone, nil)
	}
	c.hasPong, c.hasGrant, c.hasSent = false, false, false
	c.hasFlush, c.done, c.events = false, false, c.events[:0]
	return b
}

// watch lets a context end a blocked write. The context of the last write stays registered, because writers pass the
// same one each time; it has effect only while a write is under way.
type watch struct {
	conn interface{ SetWriteDeadline(time.Time) error }

	mu      sync.Mutex
	done    <-chan struct{}
	stop    func() bool
	number  uint64
	writing bool
	fired   bool
}

var longAgo = time.Unix(1, 0)

func (w *watch) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing = true
	if done := ctx.Done(); done != w.done {
		if w.stop != nil {
			w.stop()
		}
		w.number++
		w.done, w.stop = done, nil
		if done != nil {
			number := w.number
			w.stop = context.AfterFunc(ctx, func() { w.fire(number) })
		}
	}
	return nil
}

func (w *watch) fire(number uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writing && number == w.number {
		w.fired = true
		w.conn.SetWriteDeadline(longAgo)
	}
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing = false
	if w.fired {
		w.fired = false
		w.conn.SetWriteDeadline(time.Time{})
	}
}

// release forgets the context.
func (w *watch) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil {
		w.stop()
	}
	w.done, w.stop = nil, nil
}

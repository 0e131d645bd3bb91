package external

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	pionrtp "github.com/pion/rtp"

	"ninja/connectors"
	"ninja/connectors/rtp"
)

const (
	// packetTime is how long a packet lasts at most, packetSize how many bytes of payload it has.
	packetTime = 20 * time.Millisecond
	packetSize = 1200
)

// writer is the sending end. It keeps no queue: Write itself waits until the last packet of its ADU may leave.
type writer struct {
	s           *Session
	events      *connectors.EventQueue
	pacer       *rtp.Pacer
	typist      *typist // nil for sound
	sent        uint16  // packets; the session's lock guards it
	adus, bytes atomic.Uint64
	closed      atomic.Bool
}

func newWriter(s *Session) *writer {
	w := &writer{s: s, events: connectors.NewEventQueue(), pacer: rtp.NewPacer(s.format)}
	if s.format.Text() {
		w.typist = newTypist(w)
	}
	return w
}

// Write implements connectors.Writer. It waits for the address's consent before each packet, and fails with ErrNoConsent
// when there will be none. Marks do not travel.
func (w *writer) Write(ctx context.Context, a connectors.ADU) error {
	f := w.s.format
	size := f.Sample()
	if len(a.Payload) > connectors.MaxPayload || len(a.Payload)%size != 0 || f.Whole() && len(a.Payload) > packetSize {
		return fmt.Errorf("ADU of %d bytes: want whole samples of %d bytes, at most %d bytes, and a packet of Opus within %d",
			len(a.Payload), size, connectors.MaxPayload, packetSize)
	}
	if !w.s.remote.IsValid() {
		return fmt.Errorf("%w: this session only receives", ErrNotAllowed)
	}
	if err := w.permitted(ctx); err != nil {
		return err
	}
	if w.typist != nil {
		if err := w.typist.write(ctx, a.Payload); err != nil {
			return err
		}
		w.adus.Add(1)
		w.bytes.Add(uint64(len(a.Payload)))
		return nil
	}
	most := min(int(f.Samples(packetTime))*size, packetSize/size*size)
	if f.Whole() {
		most = packetSize
	}
	at, pause := w.pacer.Place(time.Now(), a.MediaTime)
	for rest := a.Payload; len(rest) > 0; {
		part := rest[:min(len(rest), most)]
		rest = rest[len(part):]
		if err := w.send(ctx, at, pause, part); err != nil {
			return err
		}
		at, pause = at+f.Length(part), false
	}
	w.adus.Add(1)
	w.bytes.Add(uint64(len(a.Payload)))
	return nil
}

// permitted waits until media may be sent.
func (w *writer) permitted(ctx context.Context) error {
	for {
		now := time.Now()
		w.s.mu.Lock()
		given, over, changed := w.s.consent.given(now), w.s.consent.over(now), w.s.changed
		w.s.mu.Unlock()
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case w.closed.Load() || w.s.ctx.Err() != nil:
			return connectors.ErrClosed
		case given:
			return nil
		case over:
			return fmt.Errorf("%w: %s, by any of the ways of its rule %s", ErrNoConsent, w.s.remote, w.s.consent.rule)
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-w.s.ctx.Done():
		}
	}
}

// send sends a packet when it is due and permitted.
func (w *writer) send(ctx context.Context, at int64, pause bool, payload []byte) error {
	if err := w.pause(ctx, w.pacer.Wait(time.Now(), at)); err != nil {
		return err
	}
	for sent := false; !sent; {
		if err := w.permitted(ctx); err != nil {
			return err
		}
		w.s.mu.Lock()
		sent = w.sendNow(at, pause, payload)
		w.s.mu.Unlock()
	}
	w.pacer.Sent(at, w.s.format.Length(payload))
	return nil
}

// sendNow sends a packet, or reports that consent has gone: the check that nothing gets past. The caller holds the
// session's lock.
func (w *writer) sendNow(at int64, pause bool, payload []byte) bool {
	if !w.s.consent.given(time.Now()) {
		return false
	}
	w.s.sendRTP(&pionrtp.Header{
		Version: 2, Marker: pause, PayloadType: w.s.pt, SequenceNumber: w.s.first + w.s.knocks + w.sent,
		Timestamp: w.s.base + uint32(at), SSRC: w.s.ssrc,
	}, payload)
	w.sent++
	return true
}

// pause waits.
func (w *writer) pause(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-w.s.ctx.Done():
		return connectors.ErrClosed
	}
}

// Events implements connectors.Writer. A program signals nothing; it is closed with the session.
func (w *writer) Events() <-chan connectors.Event { return w.events.C() }

// Close implements connectors.Writer. It says goodbye (RFC 3550, 6.6); the session stays for its reader.
func (w *writer) Close() error {
	if w.closed.Swap(true) {
		return nil
	}
	w.s.mu.Lock()
	if w.typist != nil {
		w.typist.end()
	}
	if w.s.consent.given(time.Now()) && w.s.ctx.Err() == nil {
		w.s.sendRTCP(&rtcp.ReceiverReport{SSRC: w.s.ssrc}, rtcp.NewCNAMESourceDescription(w.s.ssrc, "ninja"), &rtcp.Goodbye{Sources: []uint32{w.s.ssrc}})
	}
	w.s.mu.Unlock()
	w.end()
	return nil
}

// Abort implements connectors.Aborter. The program cannot be told why.
func (w *writer) Abort(error) { w.Close() }

func (w *writer) end() {
	w.closed.Store(true)
	w.events.Close()
}

// Stats implements connectors.Measured.
func (w *writer) Stats() connectors.Stats {
	return connectors.Stats{ADUs: w.adus.Load(), Bytes: w.bytes.Load()}
}

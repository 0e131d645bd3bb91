package webrtc

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/datachannel"
	pion "github.com/pion/webrtc/v4"

	"ninja/connectors"
	"ninja/connectors/hop"
)

// dataWriter is the sending end of a hop of anything but sound.
type dataWriter struct {
	session *hop.Session
	link    *link
	linger  time.Duration
	events  *connectors.EventQueue

	// Set before the link is up:
	channel *pion.DataChannel
	raw     datachannel.ReadWriteCloserDeadliner

	got  chan struct{} // closed when the receiving end has everything
	told sync.Once

	position    atomic.Uint64 // ADUs whose writing has begun
	seq         uint64
	buffer      [maxMessage]byte
	adus, bytes atomic.Uint64
	once        sync.Once
	result      error
}

func newDataWriter(s *hop.Session, l *link, remote params, linger time.Duration) *dataWriter {
	w := &dataWriter{session: s, link: l, linger: linger, events: connectors.NewEventQueue(), got: make(chan struct{})}
	l.start(remote, true, w.open)
	s.Begin(hop.Handler{
		Flush: w.position.Load, Event: w.events.Put, Ended: w.events.Close,
		Report: func([]byte) { w.told.Do(func() { close(w.got) }) },
	})
	return w
}

func (w *dataWriter) open() (err error) {
	sctp := w.link.api.NewSCTPTransport(w.link.dtls)
	if err = sctp.Start(pion.SCTPCapabilities{MaxMessageSize: maxMessage}); err != nil {
		return err
	}
	w.channel, err = w.link.api.NewDataChannel(sctp, &pion.DataChannelParameters{Label: channelLabel, Ordered: true})
	if err != nil {
		return err
	}
	w.raw, err = w.channel.DetachWithDeadline()
	return err
}

// Write implements connectors.Writer. The first one also waits until ICE and DTLS have found the way.
func (w *dataWriter) Write(ctx context.Context, a connectors.ADU) error {
	if len(a.Payload) > connectors.MaxPayload {
		return fmt.Errorf("ADU of %d bytes: at most %d are allowed; split it", len(a.Payload), connectors.MaxPayload)
	}
	if err := awaitLink(ctx, w.link, w.session); err != nil {
		return err
	}
	w.seq++
	if a.Seq == 0 {
		a.Seq = w.seq
	}
	w.seq = a.Seq
	w.position.Add(1)
	if err := w.send(ctx, a); err != nil {
		return err
	}
	w.adus.Add(1)
	w.bytes.Add(uint64(len(a.Payload)))
	return nil
}

// send writes the messages of an ADU; the end of ctx or of the session ends it.
func (w *dataWriter) send(ctx context.Context, a connectors.ADU) error {
	abandon := func() { _ = w.raw.SetWriteDeadline(time.Unix(1, 0)) }
	defer context.AfterFunc(ctx, abandon)()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-w.session.Done():
			abandon()
		case <-stop:
		}
	}()
	err := fragments(w.buffer[:0], a, func(b []byte) error {
		_, err := w.raw.Write(b)
		return err
	})
	close(stop)
	<-stopped
	select {
	case <-w.session.Done():
		return w.session.Err()
	default:
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("write to the data channel: %w", err)
	}
	return nil
}

// Events implements connectors.Writer.
func (w *dataWriter) Events() <-chan connectors.Event { return w.events.C() }

// Close implements connectors.Writer.
func (w *dataWriter) Close() error {
	w.once.Do(func() {
		begin := time.Now()
		w.drain()
		w.result = w.session.Finish(w.position.Load(), max(w.linger-time.Since(begin), w.linger/4))
		w.link.close() // below SCTP, which ends too: its own farewell would wait for an answer
	})
	return w.result
}

// drainPoll is how often Close looks whether the other end's SCTP has everything.
const drainPoll = 20 * time.Millisecond

// drain waits until the receiving end has everything, or its SCTP has because its reader does not read; at most the
// linger time.
func (w *dataWriter) drain() {
	if w.position.Load() == 0 || w.raw == nil {
		return
	}
	_ = w.raw.SetWriteDeadline(time.Now().Add(w.linger))
	if _, err := w.raw.Write([]byte{flagEnd}); err != nil {
		return
	}
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	end := time.NewTimer(w.linger)
	defer end.Stop()
	for w.channel.BufferedAmount() > 0 {
		select {
		case <-tick.C:
		case <-w.got:
			return
		case <-w.session.Done():
			return
		case <-end.C:
			return
		}
	}
}

// Abort implements connectors.Aborter.
func (w *dataWriter) Abort(cause error) {
	w.once.Do(func() {
		w.session.Abort(cause.Error())
		w.link.close()
	})
}

// Stats implements connectors.Measured.
func (w *dataWriter) Stats() connectors.Stats {
	return connectors.Stats{ADUs: w.adus.Load(), Bytes: w.bytes.Load(), Link: w.session.Link()}
}

package webrtc

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pionrtp "github.com/pion/rtp"
	pion "github.com/pion/webrtc/v4"

	"ninja/connectors"
	"ninja/connectors/hop"
	"ninja/connectors/rtp"
	"ninja/internal/world"
)

const (
	// markID is the header extension of one byte (RFC 8285) that says what ends with a packet, as on rtp.
	markID = 1
	// stampID is the one that says how old a packet is, in ns.
	stampID = 2
	// maxPacket is the greatest payload of a packet in bytes.
	maxPacket = 1100
)

// track is what a sending end sends on.
type track struct {
	sender *pion.RTPSender
	local  *pion.TrackLocalStaticRTP
	flow   flow
}

// newTrack draws the first sequence number and timestamp, and tells them with the SSRC in the link's parameters.
func newTrack(l *link, f flow, w world.World) (*track, error) {
	local, err := pion.NewTrackLocalStaticRTP(pion.RTPCodecCapability{MimeType: f.mime, ClockRate: uint32(f.format.ClockRate())}, "sound", "ninja")
	if err != nil {
		return nil, err
	}
	sender, err := l.api.NewRTPSender(local, l.dtls)
	if err != nil {
		return nil, err
	}
	random := w.Uint64()
	l.local.ssrc = uint32(sender.GetParameters().Encodings[0].SSRC)
	l.local.sequence, l.local.timestamp = uint16(random)&0x7fff, uint32(random>>16)
	return &track{sender, local, f}, nil
}

// soundWriter is the sending end of a hop of sound. It keeps no queue: as on rtp, Write waits until the last packet of
// its ADU may leave, so that a flush has only that ADU to drop.
type soundWriter struct {
	session *hop.Session
	link    *link
	track   *track
	linger  time.Duration
	events  *connectors.EventQueue
	flushed chan struct{} // wakes a Write that waits
	ready   chan struct{} // closed when the receiving end takes packets
	told    sync.Once

	adus, bytes atomic.Uint64
	once        sync.Once
	result      error

	mu       sync.Mutex // what the session's goroutine shares with Write
	pacer    *rtp.Pacer
	position uint64 // of the next packet
	flushes  uint64
}

func newSoundWriter(s *hop.Session, l *link, remote params, t *track, linger time.Duration) *soundWriter {
	w := &soundWriter{
		session: s, link: l, track: t, linger: linger, events: connectors.NewEventQueue(),
		flushed: make(chan struct{}, 1), ready: make(chan struct{}), pacer: rtp.NewPacer(t.flow.format),
	}
	l.start(remote, true, func() error { return t.sender.Send(t.sender.GetParameters()) })
	s.Begin(hop.Handler{Flush: w.flush, Event: w.events.Put, Report: w.report, Ended: w.events.Close})
	return w
}

// report takes what the receiving end says, on the session's goroutine: that it takes packets from now on. What is sent
// before, while its end of DTLS is not up, would be lost.
func (w *soundWriter) report([]byte) { w.told.Do(func() { close(w.ready) }) }

// flush drops what is being paced, on the session's goroutine.
func (w *soundWriter) flush() (position uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushes++
	w.pacer.Flush()
	select {
	case w.flushed <- struct{}{}:
	default:
	}
	return w.position
}

// Write implements connectors.Writer. The first one also waits until ICE and DTLS have found the way.
func (w *soundWriter) Write(ctx context.Context, a connectors.ADU) error {
	f := w.track.flow.format
	size := f.Sample()
	if len(a.Payload) > connectors.MaxPayload || len(a.Payload)%size != 0 || f.Whole() && len(a.Payload) > maxPacket {
		return fmt.Errorf("ADU of %d bytes: want whole samples of %d bytes, at most %d bytes, and a packet of Opus within %d",
			len(a.Payload), size, connectors.MaxPayload, maxPacket)
	}
	if err := w.await(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	at, pause := w.pacer.Place(time.Now(), a.MediaTime)
	flushes := w.flushes
	w.mu.Unlock()
	for rest := a.Payload; ; {
		p := rtp.Packet{Time: at, Talkspurt: pause, Payload: rest[:min(len(rest), maxPacket/size*size)], Stamp: a.Stamp}
		a.Stamp = nil
		rest, pause = rest[len(p.Payload):], false
		if len(rest) == 0 {
			p.Mark = a.Mark
		}
		if dropped, err := w.send(ctx, p, flushes); dropped || err != nil {
			return err
		}
		if len(rest) == 0 {
			break
		}
		at += f.Length(p.Payload)
	}
	w.adus.Add(1)
	w.bytes.Add(uint64(len(a.Payload)))
	return nil
}

// await waits until both ends are up.
func (w *soundWriter) await(ctx context.Context) error {
	if err := awaitLink(ctx, w.link, w.session); err != nil {
		return err
	}
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-w.session.Done():
		return w.session.Err()
	}
}

// awaitLink waits for the link; a session that ends first says why.
func awaitLink(ctx context.Context, l *link, s *hop.Session) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := l.await(ctx, s.Done())
	if err == errDone {
		return s.Err()
	}
	return err
}

// send sends a packet when it may leave, unless a flush comes before.
func (w *soundWriter) send(ctx context.Context, p rtp.Packet, flushes uint64) (dropped bool, err error) {
	for {
		wait, err := w.trySend(&p, flushes)
		if wait < 0 || err != nil {
			return wait < 0, err
		}
		if wait == 0 {
			break
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-w.flushed:
		case <-ctx.Done():
			err = ctx.Err()
		case <-w.session.Done():
			err = w.session.Err()
		}
		timer.Stop()
		if err != nil {
			return false, err
		}
	}
	if p.Mark == 0 {
		return false, nil
	}
	return false, w.session.SendMark(ctx, p.Mark, p.Position)
}

// trySend sends p and returns 0, or how long it must wait, or a negative wait when a flush has dropped it.
func (w *soundWriter) trySend(p *rtp.Packet, flushes uint64) (time.Duration, error) {
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
	if wait := w.pacer.Wait(time.Now(), p.Time); wait > 0 {
		return wait, nil
	}
	p.Position = w.position
	packet := &pionrtp.Packet{Header: pionrtp.Header{
		Version: 2, Marker: p.Talkspurt,
		SequenceNumber: w.link.local.sequence + uint16(p.Position), Timestamp: w.link.local.timestamp + uint32(p.Time),
	}, Payload: p.Payload}
	if p.Mark != 0 {
		if err := packet.SetExtension(markID, []byte{byte(p.Mark)}); err != nil {
			return 0, fmt.Errorf("mark packet %d: %w", p.Position, err)
		}
	}
	if p.Stamp != nil {
		age := binary.BigEndian.AppendUint64(nil, uint64(p.Stamp.Now(time.Now())))
		if err := packet.SetExtension(stampID, age); err != nil {
			return 0, fmt.Errorf("stamp packet %d: %w", p.Position, err)
		}
	}
	// A packet that the network refuses is a packet lost; when the peer is gone the session says so.
	_ = w.track.local.WriteRTP(packet)
	w.position++
	w.pacer.Sent(p.Time, w.track.flow.format.Length(p.Payload))
	return 0, nil
}

// Events implements connectors.Writer.
func (w *soundWriter) Events() <-chan connectors.Event { return w.events.C() }

// Close implements connectors.Writer.
func (w *soundWriter) Close() error {
	w.once.Do(func() {
		w.mu.Lock()
		position := w.position
		w.mu.Unlock()
		left := w.left()
		w.result = w.session.Finish(position, w.linger)
		if position > 0 && !left && w.result == nil {
			// DTLS's farewell must not overtake the last packets on their way.
			time.Sleep(grace + 2*w.session.Link())
		}
		w.release()
	})
	return w.result
}

// Abort implements connectors.Aborter.
func (w *soundWriter) Abort(cause error) {
	w.once.Do(func() {
		w.session.Abort(cause.Error())
		w.release()
	})
}

// grace is how long packets may be later than others.
const grace = 20 * time.Millisecond

// left reports whether the receiving end has gone already.
func (w *soundWriter) left() bool {
	select {
	case <-w.session.Done():
		return true
	default:
		return false
	}
}

func (w *soundWriter) release() {
	w.track.sender.Stop()
	w.link.close()
}

// Stats implements connectors.Measured.
func (w *soundWriter) Stats() connectors.Stats {
	return connectors.Stats{ADUs: w.adus.Load(), Bytes: w.bytes.Load(), Link: w.session.Link()}
}

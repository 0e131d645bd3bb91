package external

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pionrtp "github.com/pion/rtp"

	"ninja/connectors"
	"ninja/connectors/rtp"
)

const (
	// reorder is how long a missing packet is waited for once a later one has come.
	reorder = 40 * time.Millisecond
	// probation is how many packets in sequence a source must send before it counts (RFC 3550, A.1).
	probation = 2
	// silence is after how long another source may take the place of one that says nothing, and a reader gives up.
	silence = 10 * time.Second
	// maxStep is the greatest step of sequence numbers within one stream.
	maxStep = 3000
)

// reader is the receiving end: one source, which is the first that keeps its probation. When it has been silent, another
// may take its place.
type reader struct {
	s    *Session
	wake chan struct{}
	once sync.Once
	done chan struct{}

	adus, bytes atomic.Uint64
	strange     atomic.Uint64

	mu     sync.Mutex
	buffer *rtp.Buffer
	source source
	jitter rtp.Jitter
	delay  time.Duration
	left   time.Time // when the source said goodbye; zero before
	held   []byte    // what the first packet of a probation says
}

// source is who is being heard. The zero source is nobody.
type source struct {
	from  netip.AddrPort
	ssrc  uint32
	kept  int // packets in sequence so far, up to the probation
	heard time.Time
	// first and base are those of the first packet; position and media are the latest.
	first    uint16
	base     uint32
	position uint64
	media    int64
}

func newReader(s *Session) *reader {
	return &reader{s: s, wake: make(chan struct{}, 1), done: make(chan struct{}), buffer: rtp.NewBuffer(s.format, reorder)}
}

// take takes a datagram.
func (r *reader) take(b []byte, from netip.AddrPort) {
	var h pionrtp.Header
	b, err := r.s.openRTP(b)
	if err != nil {
		r.strange.Add(1)
		return
	}
	payload, ok := parseRTP(b, &h)
	if !ok || !r.s.takes(h.PayloadType) || h.SSRC == r.s.ssrc || len(payload)%r.s.format.Sample() != 0 {
		r.strange.Add(1)
		return
	}
	now := time.Now()
	r.mu.Lock()
	position, media, counts := r.source.place(&h, from, now, cmp.Or(r.s.call.Silence, silence))
	if !counts {
		if r.source.kept == 1 && r.source.is(&h, from) {
			r.held = r.s.opening(h.PayloadType, payload, r.held[:0])
		}
		r.mu.Unlock()
		r.strange.Add(1)
		return
	}
	if r.source.kept == probation && position == 1 && r.held != nil { // it counts after all
		r.buffer.Put(rtp.Packet{Talkspurt: true, Payload: r.held}, now)
		r.held = nil
	}
	if len(payload) > 0 && !r.s.format.Text() {
		r.delay = r.jitter.Sample(now, r.s.format.Span(media))
	}
	p := rtp.Packet{Position: position, Time: media, Talkspurt: h.Marker, Payload: append([]byte(nil), payload...)}
	if !r.s.format.Text() || h.PayloadType == r.s.call.textType() {
		r.buffer.Put(p, now)
	} else if !r.buffer.PutText(p, r.s.call.textType(), now) {
		r.strange.Add(1)
	}
	r.mu.Unlock()
	r.rouse()
}

// parseRTP reads a packet; the payload is part of it.
func parseRTP(b []byte, h *pionrtp.Header) (payload []byte, ok bool) {
	n, err := h.Unmarshal(b)
	if err != nil || h.Version != 2 || n > len(b) {
		return nil, false
	}
	payload = b[n:]
	if h.Padding {
		if len(payload) == 0 || int(payload[len(payload)-1]) > len(payload) || payload[len(payload)-1] == 0 {
			return nil, false
		}
		payload = payload[:len(payload)-int(payload[len(payload)-1])]
	}
	return payload, true
}

// is reports whether the packet is of the source.
func (s *source) is(h *pionrtp.Header, from netip.AddrPort) bool {
	return s.ssrc == h.SSRC && s.from == from
}

// place says where a packet stands in the stream of the source, and whether it counts. It is pure.
func (s *source) place(h *pionrtp.Header, from netip.AddrPort, now time.Time, silence time.Duration) (position uint64, media int64, counts bool) {
	same := s.kept > 0 && s.is(h, from)
	if !same && s.kept >= probation && now.Sub(s.heard) < silence {
		return 0, 0, false // another sender, while the first is heard
	}
	if !same {
		*s = source{from: from, ssrc: h.SSRC}
	}
	if s.kept < probation {
		if s.kept == 0 || h.SequenceNumber != s.first+uint16(s.kept) {
			s.first, s.base, s.kept = h.SequenceNumber, h.Timestamp, 0
		}
		s.kept++
		s.heard, s.position, s.media = now, uint64(s.kept-1), int64(int32(h.Timestamp-s.base))
		return s.position, s.media, s.kept == probation
	}
	step := int64(int16(h.SequenceNumber - s.first - uint16(s.position)))
	if step > maxStep || int64(s.position)+step < 0 {
		return 0, 0, false
	}
	position = s.position + uint64(step)
	media = s.media + int64(int32(h.Timestamp-s.base-uint32(s.media)))
	s.heard = now
	if step >= 0 {
		s.position, s.media = position, media
	}
	return position, media, true
}

// bye ends the stream when its source says goodbye.
func (r *reader) bye(sources []uint32, from netip.AddrPort) {
	r.mu.Lock()
	if r.source.kept >= probation && r.source.from.Addr() == from.Addr() && slices.Contains(sources, r.source.ssrc) {
		r.left = time.Now() // the last packets may come after it, by the other socket
	}
	r.mu.Unlock()
	r.rouse()
}

func (r *reader) rouse() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Read implements connectors.Reader. The stream ends when its source says goodbye by RTCP; silence is an error.
func (r *reader) Read(ctx context.Context) (connectors.ADU, error) {
	r.mu.Lock()
	r.buffer.Listening(time.Now())
	r.mu.Unlock()
	for {
		a, until, err, ready := r.decide()
		if ready {
			return a, err
		}
		timer := time.NewTimer(cmp.Or(r.s.call.Silence, silence))
		if !until.IsZero() {
			timer.Reset(time.Until(until))
		}
		select {
		case <-r.wake:
		case <-timer.C:
		case <-r.done:
		case <-r.s.ctx.Done():
		case <-ctx.Done():
			err = ctx.Err()
		}
		timer.Stop()
		if err != nil {
			return a, err
		}
	}
}

// decide returns what Read returns, or until when to wait.
func (r *reader) decide() (a connectors.ADU, until time.Time, err error, ready bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.done:
		return a, until, connectors.ErrClosed, true
	case <-r.s.ctx.Done():
		return a, until, connectors.ErrClosed, true
	default:
	}
	now := time.Now()
	if !r.left.IsZero() && !now.Before(r.left.Add(reorder)) {
		r.buffer.Finish(r.source.position+1, now)
		r.left = time.Time{}
	}
	for {
		var v rtp.Verdict
		a, v, until = r.buffer.Take(now)
		switch {
		case v == rtp.Ended:
			return a, until, io.EOF, true
		case v != rtp.Deliver:
			until, err = r.patience(now, until)
			return a, until, err, err != nil
		case r.says(&a): // else a knock, or a keep-alive
			r.adus.Add(1)
			r.bytes.Add(uint64(len(a.Payload)))
			return a, until, nil, true
		}
	}
}

// patience says until when to wait for a packet, given when the buffer wants to be asked again; a source that has been
// silent for too long is an error.
func (r *reader) patience(now, until time.Time) (time.Time, error) {
	if r.source.kept < probation {
		return until, nil
	}
	limit := cmp.Or(r.s.call.Silence, silence)
	end := r.source.heard.Add(limit)
	switch {
	case now.Before(end):
	case r.s.format.Text() && r.s.call.Silence == 0:
		end = now.Add(limit)
	default:
		return until, fmt.Errorf("nothing was heard from %s for %v", r.source.from, limit)
	}
	if !r.left.IsZero() {
		end = r.left.Add(reorder)
	}
	if until.IsZero() || end.Before(until) {
		until = end
	}
	return until, nil
}

// Signal implements connectors.Reader. A flush drops what is held; the program cannot be told of it.
func (r *reader) Signal(e connectors.Event) error {
	select {
	case <-r.done:
		return connectors.ErrClosed
	default:
	}
	if e.Kind == connectors.Flush {
		r.mu.Lock()
		r.buffer.Flush()
		r.buffer.Flushed(r.source.position + 1)
		r.mu.Unlock()
	}
	return nil
}

// Close implements connectors.Reader. The session stays for its writer.
func (r *reader) Close() error {
	r.once.Do(func() { close(r.done) })
	return nil
}

// Stats implements connectors.Measured.
func (r *reader) Stats() connectors.Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	lost, late := r.buffer.Lost()
	return connectors.Stats{ADUs: r.adus.Load(), Bytes: r.bytes.Load(), Lost: lost, Late: late, Jitter: r.delay}
}

package webrtc

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"time"

	pion "github.com/pion/webrtc/v4"

	"ninja/connectors"
	"ninja/connectors/hop"
	"ninja/connectors/rtp"
)

// soundReader is the receiving end of a hop of sound. One goroutine takes packets from the track into the buffer; Read
// decides when each is delivered.
type soundReader struct {
	session  *hop.Session
	link     *link
	receiver *pion.RTPReceiver
	flow     flow
	work     sync.WaitGroup
	once     sync.Once
	closed   chan struct{}

	adus, bytes atomic.Uint64
	jitter      atomic.Int64

	decision // of what follows
	buffer   *rtp.Buffer
}

func newSoundReader(s *hop.Session, l *link, remote params, f flow, reorder time.Duration) *soundReader {
	r := &soundReader{session: s, link: l, flow: f, decision: newDecision(), closed: make(chan struct{}), buffer: rtp.NewBuffer(f.format, reorder)}
	l.start(remote, false, func() error { return r.open(remote) })
	s.Begin(hop.Handler{
		Mark:    func(m connectors.Mark, at uint64) { r.change(func() { r.buffer.Mark(m, at, time.Now()) }) },
		End:     func(at uint64) { r.change(func() { r.buffer.Finish(at, time.Now()) }) },
		Flushed: func(at uint64) { r.change(func() { r.buffer.Flushed(at) }) },
		Ended:   func() { r.change(func() {}) },
	})
	return r
}

// open begins to receive, when the link is up.
func (r *soundReader) open(remote params) error {
	receiver, err := r.link.api.NewRTPReceiver(pion.RTPCodecTypeAudio, r.link.dtls)
	if err != nil {
		return err
	}
	err = receiver.Receive(pion.RTPReceiveParameters{Encodings: []pion.RTPDecodingParameters{
		{RTPCodingParameters: pion.RTPCodingParameters{SSRC: pion.SSRC(remote.ssrc), PayloadType: pion.PayloadType(payloadType(r.flow))}},
	}})
	if err != nil {
		return err
	}
	r.receiver = receiver
	r.work.Go(func() { r.receive(receiver.Track(), remote) })
	r.session.Report([]byte{1}) // packets may come
	return nil
}

func payloadType(f flow) uint8 {
	for _, c := range codecs() {
		if c.MimeType == f.mime {
			return uint8(c.PayloadType)
		}
	}
	return 0
}

// receive takes packets until the link ends.
func (r *soundReader) receive(t *pion.TrackRemote, remote params) {
	var jitter rtp.Jitter
	place := placer{sequence: remote.sequence, timestamp: remote.timestamp}
	for {
		p, _, err := t.ReadRTP()
		if err != nil {
			return
		}
		if len(p.Payload)%r.flow.format.Sample() != 0 || p.PayloadType != payloadType(r.flow) {
			continue
		}
		position, media, ok := place.place(p.SequenceNumber, p.Timestamp)
		if !ok {
			continue
		}
		q := rtp.Packet{Position: position, Time: media, Talkspurt: p.Marker, Payload: p.Payload}
		if m := p.GetExtension(markID); len(m) == 1 {
			q.Mark = connectors.Mark(m[0])
		}
		now := time.Now()
		if age := p.GetExtension(stampID); len(age) == 8 {
			q.Stamp = connectors.Received(time.Duration(binary.BigEndian.Uint64(age)), r.session.Link(), now)
		}
		r.jitter.Store(int64(jitter.Sample(now, r.flow.format.Span(media))))
		r.change(func() { r.buffer.Put(q, now) })
	}
}

// placer extends the counters of packets to the values nearest to the latest ones (RFC 3550, A.1).
type placer struct {
	sequence  uint16 // of position 0
	timestamp uint32 // of sample 0
	position  uint64 // of the latest packet
	time      int64
}

func (p *placer) place(sequence uint16, timestamp uint32) (position uint64, time int64, ok bool) {
	position = p.position + uint64(int64(int16(sequence-p.sequence-uint16(p.position))))
	time = p.time + int64(int32(timestamp-p.timestamp-uint32(p.time)))
	if int64(position) < 0 {
		return 0, 0, false
	}
	if position >= p.position {
		p.position, p.time = position, time
	}
	return position, time, true
}

// Read implements connectors.Reader.
func (r *soundReader) Read(ctx context.Context) (connectors.ADU, error) {
	r.mu.Lock()
	r.buffer.Listening(time.Now())
	r.mu.Unlock()
	up := r.link.up
	for {
		a, until, err, ready := r.decide()
		if ready {
			return a, err
		}
		timer := time.NewTimer(time.Hour)
		if !until.IsZero() {
			timer.Reset(time.Until(until))
		}
		select {
		case <-r.wake:
		case <-timer.C:
		case <-up:
			up = nil
			if r.link.failed != nil {
				err = r.link.failed
			}
		case <-ctx.Done():
			err = ctx.Err()
		case <-r.closed:
		}
		timer.Stop()
		if err != nil {
			return connectors.ADU{}, err
		}
	}
}

// decide returns what Read returns, or until when to wait.
func (r *soundReader) decide() (a connectors.ADU, until time.Time, err error, ready bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closed:
		return a, until, connectors.ErrClosed, true
	default:
	}
	a, v, until := r.buffer.Take(time.Now())
	switch v {
	case rtp.Deliver:
		r.adus.Add(1)
		r.bytes.Add(uint64(len(a.Payload)))
		return a, until, nil, true
	case rtp.Ended:
		return a, until, io.EOF, true
	}
	if !r.buffer.Finished() { // after the end of the stream that of the session is nothing new
		select {
		case <-r.session.Done():
			return a, until, r.session.Err(), true
		default:
		}
	}
	return a, until, nil, false
}

// Signal implements connectors.Reader.
func (r *soundReader) Signal(e connectors.Event) error {
	if e.Kind == connectors.Flush {
		r.change(r.buffer.Flush)
	}
	return r.session.Signal(e)
}

// Close implements connectors.Reader.
func (r *soundReader) Close() error {
	r.once.Do(func() {
		close(r.closed)
		r.session.Leave()
		r.link.close() // which waits for open
		if r.receiver != nil {
			r.receiver.Stop()
		}
		r.work.Wait()
	})
	return nil
}

// Stats implements connectors.Measured.
func (r *soundReader) Stats() connectors.Stats {
	r.mu.Lock()
	lost, late := r.buffer.Lost()
	r.mu.Unlock()
	return connectors.Stats{
		ADUs: r.adus.Load(), Bytes: r.bytes.Load(), Lost: lost, Late: late,
		Link: r.session.Link(), Jitter: time.Duration(r.jitter.Load()),
	}
}

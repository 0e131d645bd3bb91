package rtp

import (
	"errors"
	"fmt"
	"time"

	"github.com/pion/rtp"

	"ninja/connectors"
)

// This file stands for another program's ends in tests: what packs and unpacks RTP with numbers that it chose itself.

// PackerConfig says with which numbers a Packer begins.
type PackerConfig struct {
	Format Format
	// PayloadType is what was agreed on; use Format.PayloadType where nothing was. TextPayloadType is that inside the
	// redundancy of text/t140.
	PayloadType, TextPayloadType uint8
	SSRC, Timestamp              uint32
	Sequence                     uint16
}

// Packer makes the RTP packets of ADUs, and says when each may leave by the media's own time. It is pure: the time is
// handed in. It is for one goroutine at a time.
type Packer struct {
	cfg      PackerConfig
	pacer    pacer
	text     redundancy
	position uint64
}

// NewPacker makes a Packer.
func NewPacker(cfg PackerConfig) *Packer {
	if cfg.TextPayloadType == 0 {
		cfg.TextPayloadType = ptT140
	}
	return &Packer{cfg: cfg, pacer: pacer{format: cfg.Format.f}, text: redundancy{payloadType: cfg.TextPayloadType}}
}

// Pack calls send with the packets of the ADU, in order, and with how long each must wait from now on: a sender that is
// fed faster than real time keeps at most 60 ms ahead. The packet and its payload are the callee's. An error of send ends
// the packing.
func (p *Packer) Pack(now time.Time, a connectors.ADU, send func(packet *rtp.Packet, wait time.Duration) error) error {
	f := p.cfg.Format.f
	if len(a.Payload)%f.sample != 0 || f.opus && len(a.Payload) > maxPayload {
		return fmt.Errorf("ADU of %d bytes is no whole payload", len(a.Payload))
	}
	at, pause := p.pacer.place(now, a.MediaTime)
	for rest := a.Payload; len(rest) > 0; pause = false {
		payload := rest[:f.cut(rest)]
		rest = rest[len(payload):]
		length := f.length(payload)
		wait := p.pacer.wait(now, at)
		if f.text {
			payload = p.text.pack(nil, at, payload)
		}
		h := rtp.Header{
			Version: 2, Marker: pause, PayloadType: p.cfg.PayloadType, SequenceNumber: p.cfg.Sequence + uint16(p.position),
			Timestamp: p.cfg.Timestamp + uint32(at), SSRC: p.cfg.SSRC,
		}
		p.position++
		p.pacer.sent(at, length)
		if err := send(&rtp.Packet{Header: h, Payload: payload}, wait); err != nil {
			return err
		}
		at += length
	}
	return nil
}

// Repeat makes the packet of text/t140 that repeats what nothing has followed; nil when there is nothing to repeat. Send
// it 300 ms after the last packet (RFC 4103, 5.1).
func (p *Packer) Repeat() *rtp.Packet {
	if !p.cfg.Format.f.text || !p.text.owes() {
		return nil
	}
	at := p.text.recent[len(p.text.recent)-1].time + textEvery.Milliseconds()
	h := rtp.Header{
		Version: 2, PayloadType: p.cfg.PayloadType, SequenceNumber: p.cfg.Sequence + uint16(p.position),
		Timestamp: p.cfg.Timestamp + uint32(at), SSRC: p.cfg.SSRC,
	}
	p.position++
	return &rtp.Packet{Header: h, Payload: p.text.pack(nil, at, nil)}
}

// Flush forgets the pace: what comes next may leave at once.
func (p *Packer) Flush() { p.pacer.flush() }

// UnpackerConfig says how an Unpacker orders and plays out; zero values are those of Config.
type UnpackerConfig struct {
	Format Format
	Type   connectors.Type // what Conceal is told
	// PayloadType is what was agreed on, TextPayloadType that inside the redundancy of text/t140 (0: the usual one).
	PayloadType, TextPayloadType uint8
	Reorder                      time.Duration
	Playout, PlayoutMost         time.Duration
	Conceal                      Conceal
}

// Unpacker puts the packets of one sender (one SSRC, authenticated by the caller) in order and plays them out: it is the
// buffer of the rtp hop. It is pure: the time is handed in. It is for one goroutine at a time.
type Unpacker struct {
	cfg       UnpackerConfig
	buffer    buffer
	clock     jitter
	begun     bool
	ssrc      uint32
	sequence  uint16
	timestamp uint32
	position  uint64
	time      int64
}

// origin is the position given to the first packet that comes: those before it, which may come later, have room below.
const origin = 1 << 15

// NewUnpacker makes an Unpacker.
func NewUnpacker(cfg UnpackerConfig) *Unpacker {
	if cfg.Reorder == 0 {
		cfg.Reorder = defaultReorder
	}
	if cfg.TextPayloadType == 0 {
		cfg.TextPayloadType = ptT140
	}
	u := &Unpacker{cfg: cfg}
	u.buffer = buffer{
		format: cfg.Format.f, textType: cfg.TextPayloadType, reorder: cfg.Reorder,
		playout: playout{initial: cfg.Playout, most: cfg.PlayoutMost},
	}
	if cfg.Conceal != nil {
		u.buffer.conceal = func(last []byte, n, run int) []byte { return cfg.Conceal(cfg.Type, last, n, run) }
	}
	return u
}

// ErrForeign is a packet that is not of the stream: of another SSRC or payload type, or not of whole samples.
var ErrForeign = errors.New("not a packet of this stream")

// Put takes a packet, whose payload the Unpacker keeps.
func (u *Unpacker) Put(h *rtp.Header, payload []byte, now time.Time) error {
	f := u.cfg.Format.f
	if h.PayloadType != u.cfg.PayloadType || u.begun && h.SSRC != u.ssrc || len(payload)%f.sample != 0 {
		return ErrForeign
	}
	if !u.begun {
		u.begun, u.ssrc, u.sequence, u.timestamp = true, h.SSRC, h.SequenceNumber, h.Timestamp
		u.position = origin
		u.buffer.next, u.buffer.known = origin, origin
	}
	p := packet{
		position:  u.position + uint64(int64(int16(h.SequenceNumber-u.sequence-uint16(u.position-origin)))),
		time:      u.time + int64(int32(h.Timestamp-u.timestamp-uint32(u.time))),
		talkspurt: h.Marker, payload: payload,
	}
	if p.position >= u.position {
		u.position, u.time = p.position, p.time
	}
	u.clock.sample(now, f.span(p.time))
	if f.text {
		if !u.buffer.putText(p, now) {
			return ErrForeign
		}
		return nil
	}
	u.buffer.put(p, now)
	return nil
}

// Take returns the next ADU when it is due; else when to ask again, which is zero when only another packet can help. It
// is nothing but the time that makes a packet due, so ask after every Put too.
func (u *Unpacker) Take(now time.Time) (a connectors.ADU, ok bool, until time.Time) {
	u.buffer.listening = now.Add(-drain) // the caller has emptied its socket
	a, v, until := u.buffer.take(now)
	if v == deliver {
		a.Seq -= origin
	}
	return a, v == deliver, until
}

// Flush drops what is held; the next packet is played at once.
func (u *Unpacker) Flush() {
	u.buffer.flush()
	u.buffer.flushed(u.buffer.known)
}

// Stats is what was lost, late, and how unevenly packets come.
func (u *Unpacker) Stats() connectors.Stats {
	return connectors.Stats{Lost: u.buffer.lost, Late: u.buffer.late, Jitter: u.clock.estimate}
}

// HighestSequence is the extended highest sequence number received, for reports (RFC 3550, 6.4.1).
func (u *Unpacker) HighestSequence() uint32 { return uint32(u.sequence) + uint32(u.position-origin) }

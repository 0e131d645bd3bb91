package rtp

import (
	"time"

	"ninja/connectors"
)

// This file is what other transports of RTP (WebRTC, external programs) share with this one: how a type stands in
// packets, the sender's pace, and the receiver's order. All of it is pure: the time is handed in, and each value belongs
// to one goroutine.

// Format is how a type stands in RTP packets.
type Format struct{ f format }

// FormatOf is the format of a type, or says why rtp does not carry it.
func FormatOf(t connectors.Type) (Format, error) {
	f, err := formatOf(t)
	return Format{f}, err
}

// PayloadType is the static payload type of RFC 3551 where there is one, else a dynamic one that another program may
// have agreed on differently. For text/t140 it is that of the redundancy (RFC 2198).
func (f Format) PayloadType() uint8 { return f.f.payloadType }

// ClockRate is the RTP clock in samples a second.
func (f Format) ClockRate() int { return f.f.rate }

// Sample is the bytes of one sample of all channels; 1 where a packet is a whole.
func (f Format) Sample() int { return f.f.sample }

// Whole reports whether an ADU is one packet that must not be cut (Opus).
func (f Format) Whole() bool { return f.f.opus }

// Length is how many samples of the clock a payload lasts.
func (f Format) Length(payload []byte) int64 { return f.f.length(payload) }

// Samples is how many samples fill d, rounded.
func (f Format) Samples(d time.Duration) int64 { return f.f.samples(d) }

// Span is how long n samples last.
func (f Format) Span(n int64) time.Duration { return f.f.span(n) }

// Pacer decides where an ADU stands in its stream and when its packets may leave.
type Pacer struct{ p pacer }

// NewPacer makes the pacer of a stream.
func NewPacer(f Format) *Pacer { return &Pacer{pacer{format: f.f}} }

// Place returns the position of an ADU's first sample in the stream, and whether a pause precedes it.
func (p *Pacer) Place(now time.Time, media time.Duration) (position int64, pause bool) {
	return p.p.place(now, media)
}

// Wait is how long the packet that begins at the position must wait.
func (p *Pacer) Wait(now time.Time, position int64) time.Duration { return p.p.wait(now, position) }

// Sent says that n samples from the position are on their way.
func (p *Pacer) Sent(position, n int64) { p.p.sent(position, n) }

// Flush forgets the pace: what comes next leaves at once.
func (p *Pacer) Flush() { p.p.flush() }

// Packet is what an RTP packet says.
type Packet struct {
	// Position counts packets from 0, Time is that of the first sample in samples from the start of the stream.
	Position  uint64
	Time      int64
	Talkspurt bool
	Mark      connectors.Mark
	Stamp     *connectors.Stamp
	Payload   []byte
}

// Buffer puts packets in order and removes duplicates; what is missing it gives up after the time that it was made with.
type Buffer struct{ b buffer }

// NewBuffer makes the buffer of a stream; reorder is how long a missing packet is waited for once a later one has come.
func NewBuffer(f Format, reorder time.Duration) *Buffer {
	return &Buffer{buffer{format: f.f, reorder: reorder}}
}

// Put takes a packet, whose payload the buffer keeps.
func (b *Buffer) Put(p Packet, now time.Time) {
	b.b.put(packet{position: p.Position, time: p.Time, talkspurt: p.Talkspurt, mark: p.Mark, stamp: p.Stamp, payload: p.Payload}, now)
}

// Mark takes a mark that was said beside the packets.
func (b *Buffer) Mark(m connectors.Mark, position uint64, now time.Time) { b.b.mark(m, position, now) }

// Finish takes the end of the stream: nothing comes at or after the position.
func (b *Buffer) Finish(position uint64, now time.Time) { b.b.finish(position, now) }

// Flush drops what is held, and what still comes until Flushed.
func (b *Buffer) Flush() { b.b.flush() }

// Flushed says from which position on packets count again.
func (b *Buffer) Flushed(position uint64) { b.b.flushed(position) }

// Listening says that the reader waits from now on: what was missing before may have stood in the socket.
func (b *Buffer) Listening(now time.Time) { b.b.listening = now }

// Finished reports whether the end of the stream is known.
func (b *Buffer) Finished() bool { return b.b.ended }

// Lost and late packets so far.
func (b *Buffer) Lost() (lost, late uint64) { return b.b.lost, b.b.late }

// Verdict is what Take decided.
type Verdict int

// Verdicts.
const (
	Wait    = Verdict(wait)    // until the time given, or for more to come when that is zero
	Deliver = Verdict(deliver) // the ADU
	Ended   = Verdict(eof)     // the stream has ended
)

// Take returns the next ADU when it is due.
func (b *Buffer) Take(now time.Time) (connectors.ADU, Verdict, time.Time) {
	a, v, until := b.b.take(now)
	return a, Verdict(v), until
}

// Jitter estimates the interarrival jitter (RFC 3550, 6.4.1).
type Jitter struct{ j jitter }

// Sample takes the arrival of a packet with the media time and returns the estimate.
func (j *Jitter) Sample(arrived time.Time, media time.Duration) time.Duration {
	return j.j.sample(arrived, media)
}

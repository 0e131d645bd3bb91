package rtp

import (
	"bytes"
	"time"
	"unicode/utf8"
)

// This file is what speaking text with programs that are not ours wants beyond flow.go (RFC 4103). Like that it is pure.

// TextPayloadType is the payload type of text/t140 itself, inside its redundancy and without it, where another program
// has not agreed on another; Format.PayloadType is that of the redundancy.
const TextPayloadType = ptT140

// TextEvery is how long text waits for what follows it before it is repeated in a packet of its own.
const TextEvery = textEvery

// Bounds of what may be sent to a program that has not said that it takes more (RFC 4103, 6: "cps" is 30 when absent): the
// mean over any ten seconds.
const (
	typedOver = 10 * time.Second
	typedMost = 300 // characters
)

// Text reports whether the format is that of text.
func (f Format) Text() bool { return f.f.text }

// Text makes the payloads of text for a program. It is for one goroutine at a time.
type Text struct {
	red    redundancy
	begun  time.Time
	at     int64
	bursts []burst // in the last ten seconds, the oldest first
	count  int     // characters in bursts
}

// burst is what was sent at a time, in characters.
type burst struct {
	at time.Time
	n  int
}

// NewText makes a Text; payloadType is that of the text inside the redundancy.
func NewText(payloadType uint8) *Text { return &Text{red: redundancy{payloadType: payloadType}} }

// Next is how many bytes of the text go into the next packet, whole characters; when there are none yet, how long to
// wait.
func (t *Text) Next(now time.Time, text []byte) (n int, wait time.Duration) {
	for len(t.bursts) > 0 && now.Sub(t.bursts[0].at) >= typedOver {
		t.count -= t.bursts[0].n
		t.bursts = t.bursts[1:]
	}
	room := typedMost - t.count
	if room <= 0 {
		return 0, t.bursts[0].at.Add(typedOver).Sub(now)
	}
	n = cutText(text, maxBlock)
	for utf8.RuneCount(text[:n]) > room {
		_, last := utf8.DecodeLastRune(text[:n])
		n -= last
	}
	return n, 0
}

// Pack is the payload of the packet that says the text now, and repeats what the two before it said; empty text only
// repeats. at is its time in the stream; pause says that nothing was owed before.
func (t *Text) Pack(now time.Time, text []byte) (payload []byte, at int64, pause bool) {
	if t.begun.IsZero() {
		t.begun = now
	}
	pause = !t.red.owes()
	t.at = max(t.at, now.Sub(t.begun).Milliseconds())
	if n := utf8.RuneCount(text); n > 0 {
		t.bursts, t.count = append(t.bursts, burst{now, n}), t.count+n
	}
	return t.red.pack(nil, t.at, text), t.at, pause
}

// Owes reports whether something was not repeated as often as it must be.
func (t *Text) Owes() bool { return t.red.owes() }

// PutText takes a packet of text with redundancy and, from what it repeats, those that it stands in for. It reports
// whether it could be read. The payload type is that of the text.
func (b *Buffer) PutText(p Packet, payloadType uint8, now time.Time) bool {
	b.b.textType = payloadType
	return b.b.putText(packet{position: p.Position, time: p.Time, talkspurt: p.Talkspurt, payload: p.Payload}, now)
}

// UnpackText is all that a packet of text with redundancy says, what it repeats too: for the first packet of a source,
// before which some may have been lost.
func UnpackText(payload []byte, payloadType uint8) (text []byte, ok bool) {
	blocks, err := unpack(payload, payloadType)
	if err != nil {
		return nil, false
	}
	for _, b := range blocks {
		text = append(text, b.text...)
	}
	return text, true
}

// byteOrder is U+FEFF, which programs send first and to keep a way open (T.140, 8.5); it is no text.
const byteOrder = "\uFEFF"

// WithoutByteOrder is the text without it.
func WithoutByteOrder(text []byte) []byte {
	return bytes.ReplaceAll(text, []byte(byteOrder), nil)
}

package external

import (
	"context"
	"fmt"
	"time"

	"ninja/connectors"
	"ninja/connectors/rtp"
)

// Text as it is typed (RFC 4103). What is sent repeats itself; what comes may do so (RFC 2198) or not.

// textMaps are the lines of SDP for text: its redundancy is offered before it alone (RFC 4103, 9).
func textMaps(redundant, text uint8) string {
	return fmt.Sprintf("a=rtpmap:%[1]d red/1000\r\na=fmtp:%[1]d %[2]d/%[2]d/%[2]d\r\na=rtpmap:%[2]d t140/1000\r\n", redundant, text)
}

// takes reports whether a payload type is of what flows.
func (s *Session) takes(pt uint8) bool {
	return pt == s.pt || s.format.Text() && pt == s.call.textType()
}

// opening appends what the first packet of a source says: with text that is what it repeats, too, because those that it
// stands in for may have been lost.
func (s *Session) opening(pt uint8, payload, b []byte) []byte {
	if s.format.Text() && pt == s.pt {
		payload, _ = rtp.UnpackText(payload, s.call.textType())
	}
	return append(b, payload...)
}

// says reports whether an ADU says anything. Of text it takes away what only keeps the way open.
func (r *reader) says(a *connectors.ADU) bool {
	if r.s.format.Text() {
		a.Payload = rtp.WithoutByteOrder(a.Payload)
	}
	return len(a.Payload) > 0
}

// typist is the part of a writer that text has beyond sound. The session's lock guards it.
type typist struct {
	w      *writer
	text   *rtp.Text
	repeat *time.Timer // sends the text that waits to be repeated
	ended  bool
}

func newTypist(w *writer) *typist {
	t := &typist{w: w, text: rtp.NewText(w.s.call.textType())}
	t.repeat = time.AfterFunc(time.Hour, t.again)
	t.repeat.Stop()
	return t
}

// write sends text as fast as the program must take it.
func (t *typist) write(ctx context.Context, text []byte) error {
	for len(text) > 0 {
		if err := t.w.permitted(ctx); err != nil {
			return err
		}
		n, wait := t.send(text)
		text = text[n:]
		if err := t.w.pause(ctx, wait); err != nil {
			return err
		}
	}
	return nil
}

// send sends the next packet of the text and returns how much that was, and how long to wait for the one after it.
func (t *typist) send(text []byte) (n int, wait time.Duration) {
	t.w.s.mu.Lock()
	defer t.w.s.mu.Unlock()
	now := time.Now()
	if !t.w.s.consent.given(now) {
		return 0, 0
	}
	if n, wait = t.text.Next(now, text); n > 0 {
		t.packet(now, text[:n])
	}
	return n, wait
}

// packet sends text, or only what is owed. The caller holds the lock.
func (t *typist) packet(now time.Time, text []byte) {
	payload, at, pause := t.text.Pack(now, text)
	t.w.sendNow(at, pause, payload)
	if t.text.Owes() && !t.ended {
		t.repeat.Reset(rtp.TextEvery)
	}
}

// again repeats the last text when nothing has followed it that did. Without consent nothing is sent: it asks again later.
func (t *typist) again() {
	t.w.s.mu.Lock()
	defer t.w.s.mu.Unlock()
	switch now := time.Now(); {
	case t.ended || !t.text.Owes() || t.w.s.ctx.Err() != nil:
	case t.w.s.consent.given(now):
		t.packet(now, nil)
	default:
		t.repeat.Reset(rtp.TextEvery)
	}
}

// end repeats for the last time. The caller holds the lock.
func (t *typist) end() {
	t.ended = true
	t.repeat.Stop()
	for t.text.Owes() && t.w.s.consent.given(time.Now()) && t.w.s.ctx.Err() == nil {
		t.packet(time.Now(), nil)
	}
}

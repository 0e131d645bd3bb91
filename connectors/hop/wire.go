package hop

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"ninja/connectors"
)

// Inside the TLS session everything is a frame:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+-----------------------------------------------+
//	|     kind      |            length of the body in bytes        |
//	+---------------+-----------------------------------------------+
//	|                             body                              |
//
// kind     sent by    body
// hello    sender     version(8) purpose(8), then
//
//	purpose hop:   stream(128) epoch(32) scheme path name type extra
//	purpose data:  sha256(256) greatest size wanted(32)
//	purpose trunk: stream(128) epoch(32)                   only where the handshake agreed on ninja-hop/2
//
// welcome  receiver   status(8) text extra size(32)        status 0 is a welcome, anything else a refusal
// adu      sender     mark(8) sequence(64) media time in ns(64) payload
// event    receiver   kind(8) flush number(32) text to the end
// flushed  sender     flush number(32) position(64)        what was sent before position is to be dropped
// mark     sender     mark(8) position(64)                 for transports whose packets may be lost
// end      sender     position(64)                         nothing comes at or after position
// done     receiver   empty                                the end has come, and everything before it
// closed   either     text to the end                      the receiving end has closed, or the sending end has failed
// ping     either     opaque(64)
// pong     either     opaque(64)
// credit   receiver   position(64)                         the sender may send what is before position
// sent     sender     position(64)                         what is before position was sent; the sender waits for credit
// report   receiver   what the transport says of reception, to the end
// stamp    sender     age in ns(64)                        of the ADU in the next frame
//
// Numbers are big-endian; scheme, path, name, type, extra and the welcome's text are a length(16) and that many bytes.
// Positions count what the transport counts (ADUs, packets). A kind that is not known breaks the session; new kinds
// come with a new version in the hello, or with a new transport that alone uses them (credit and sent with udp), or are only
// sent to who asked for them in the hello (report, by rtp) or in the welcome (stamp, by tcp).
type kind uint8

const (
	kindHello kind = 1 + iota
	kindWelcome
	kindADU
	kindEvent
	kindFlushed
	kindMark
	kindEnd
	kindDone
	kindClosed
	kindPing
	kindPong
	kindCredit
	kindSent
	kindReport
	kindStamp
)

const (
	version    = 1
	headerSize = 4
	aduHeader  = 17
	maxText    = 512
	maxExtra   = 256
	maxReport  = 512
)

// maxBody is the greatest body of each kind.
func (k kind) maxBody() int {
	switch k {
	case kindHello:
		return 4096
	case kindWelcome:
		return 1024
	case kindADU:
		return aduHeader + connectors.MaxPayload
	case kindEvent:
		return 5 + connectors.MaxEventText
	case kindFlushed:
		return 12
	case kindMark:
		return 9
	case kindEnd, kindPing, kindPong, kindCredit, kindSent, kindStamp:
		return 8
	case kindClosed:
		return maxText
	case kindReport:
		return maxReport
	default:
		return 0
	}
}

var errFrame = errors.New("malformed frame")

// parseHeader reads the head of a frame and checks the length against its kind.
func parseHeader(b [headerSize]byte) (kind, int, error) {
	k, n := kind(b[0]), int(b[1])<<16|int(b[2])<<8|int(b[3])
	if k < kindHello || k > kindStamp || n > k.maxBody() {
		return 0, 0, fmt.Errorf("%w: kind %d of %d bytes", errFrame, k, n)
	}
	return k, n, nil
}

// readFrame reads one frame; the body, which is all that is allocated, is the caller's. io.EOF is an end between frames.
func readFrame(r *bufio.Reader) (kind, []byte, error) {
	head, err := r.Peek(headerSize)
	if err != nil {
		if len(head) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	k, n, err := parseHeader([headerSize]byte(head))
	if err != nil {
		return 0, nil, err
	}
	r.Discard(headerSize) // cannot fail after the Peek
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, fmt.Errorf("frame cut off: %w", err)
	}
	return k, body, nil
}

// appendFrame appends a frame with the body that fill appends.
func appendFrame(b []byte, k kind, fill func([]byte) []byte) []byte {
	start := len(b)
	b = append(b, byte(k), 0, 0, 0)
	if fill != nil {
		b = fill(b)
	}
	n := len(b) - start - headerSize
	b[start+1], b[start+2], b[start+3] = byte(n>>16), byte(n>>8), byte(n)
	return b
}

// appendADU appends an ADU's frame.
func appendADU(b []byte, a connectors.ADU) []byte {
	n := aduHeader + len(a.Payload)
	b = append(b, byte(kindADU), byte(n>>16), byte(n>>8), byte(n), byte(a.Mark))
	b = binary.BigEndian.AppendUint64(b, a.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(a.MediaTime))
	return append(b, a.Payload...)
}

// parseADU reads an ADU's body; the payload is part of it.
func parseADU(b []byte) (connectors.ADU, error) {
	if len(b) < aduHeader {
		return connectors.ADU{}, fmt.Errorf("%w: ADU of %d bytes", errFrame, len(b))
	}
	return connectors.ADU{
		Mark:      connectors.Mark(b[0]),
		Seq:       binary.BigEndian.Uint64(b[1:]),
		MediaTime: time.Duration(binary.BigEndian.Uint64(b[9:])),
		Payload:   b[aduHeader:],
	}, nil
}

// purpose says what a session is opened for.
type purpose uint8

const (
	purposeHop  purpose = 1
	purposeData purpose = 2
	// purposeTrunk is for a Carrier, which one stream and epoch of its own bind the keys to.
	purposeTrunk purpose = 3
)

// hello is what the dialing end says first.
type hello struct {
	purpose purpose
	// For a hop; the first two for a trunk too.
	stream                         connectors.StreamID
	epoch                          uint32
	scheme, path, name, typ, extra string
	// For data.
	hash [32]byte
	max  uint32
}

func (h hello) append(b []byte) []byte {
	b = append(b, version, byte(h.purpose))
	if h.purpose == purposeData {
		b = append(b, h.hash[:]...)
		return binary.BigEndian.AppendUint32(b, h.max)
	}
	b = append(b, h.stream[:]...)
	b = binary.BigEndian.AppendUint32(b, h.epoch)
	if h.purpose == purposeTrunk {
		return b
	}
	for _, s := range []string{h.scheme, h.path, h.name, h.typ, h.extra} {
		b = appendString(b, s)
	}
	return b
}

func parseHello(b []byte) (hello, error) {
	c := cursor{b: b}
	if v := c.uint8(); !c.bad && v != version {
		return hello{}, fmt.Errorf("%w: hello of version %d, this end speaks version %d", errFrame, v, version)
	}
	h := hello{purpose: purpose(c.uint8())}
	switch h.purpose {
	case purposeHop:
		copy(h.stream[:], c.bytes(len(h.stream)))
		h.epoch = c.uint32()
		h.scheme, h.path, h.name = c.text(16), c.text(maxText), c.text(maxText)
		h.typ, h.extra = c.text(connectors.MaxTypeLength), c.text(maxExtra)
	case purposeTrunk:
		copy(h.stream[:], c.bytes(len(h.stream)))
		h.epoch = c.uint32()
	case purposeData:
		copy(h.hash[:], c.bytes(len(h.hash)))
		h.max = c.uint32()
	default:
		c.bad = true
	}
	if !c.done() {
		return hello{}, fmt.Errorf("%w: hello of %d bytes", errFrame, len(b))
	}
	return h, nil
}

// welcome is the answer to a hello.
type welcome struct {
	status      Reason
	text, extra string
	size        uint32
}

func (w welcome) append(b []byte) []byte {
	b = append(b, byte(w.status))
	b = appendString(b, w.text[:min(len(w.text), maxText)])
	b = appendString(b, w.extra)
	return binary.BigEndian.AppendUint32(b, w.size)
}

func parseWelcome(b []byte) (welcome, error) {
	c := cursor{b: b}
	w := welcome{status: Reason(c.uint8()), text: c.text(maxText), extra: c.text(maxExtra), size: c.uint32()}
	if !c.done() {
		return welcome{}, fmt.Errorf("%w: welcome of %d bytes", errFrame, len(b))
	}
	return w, nil
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// cursor reads a body; what is not there reads as zero and makes it bad.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) bytes(n int) []byte {
	if n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) uint8() uint8 {
	if b := c.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	if b := c.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// text reads a string of at most limit bytes.
func (c *cursor) text(limit int) string {
	b := c.bytes(2)
	if b == nil {
		return ""
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > limit {
		c.bad = true
		return ""
	}
	return string(c.bytes(n))
}

// done reports whether the body was read whole and nothing was missing.
func (c *cursor) done() bool { return !c.bad && len(c.b) == 0 }

package rtp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"ninja/connectors"
	"ninja/connectors/hop"
)

// A packet is SRTP with AEAD_AES_128_GCM (RFC 3550, 3711, 7714); only the header is in clear:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|V=2|0|X|   0   |M|     PT      |        sequence number        |
//	|                           timestamp                           |
//	|                             SSRC                              |
//	|            0xBEDE             |          1 to 4               |  these words
//	| ID=1  | len=0 |     mark      | ID=2  | len=7 |  age in ns    |  only when X is set,
//	|                                 (64)          |       0       |  each element only when there is one
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                  payload, then the 16 byte tag                |
//
// M has its usual meaning, the first packet of a talkspurt. What ends with a packet (connectors.Mark) stands in a
// header extension of one byte (RFC 8285) and is said again on the TLS session, so that loss cannot swallow it; so does the
// age of a packet that has a stamp, once.
//
// Master key, master salt, SSRC, first timestamp and first sequence number all come from the TLS exporter, bound to the
// stream and the epoch: nothing is negotiated, no two senders share a key, and no key is ever used with a second stream.
const (
	headerSize  = 12
	extensions  = 4 + 12
	tagSize     = 16
	maxPayload  = 1200
	maxPacket   = headerSize + extensions + maxPayload + tagSize
	markID      = 1
	stampID     = 2
	exportLabel = "EXPORTER-ninja-hop-srtp"
	replaySpan  = 1024 // packets in the replay window
)

// keys is what both ends derive.
type keys struct {
	context   *srtp.Context // nil on a trunk, which seals: there the packets are plain RTP
	ssrc      uint32
	timestamp uint32
	// sequence is below 2^15, so that the first packets cannot wrap before the receiver has seen one (RFC 3711, 3.3.1).
	sequence uint16
}

func deriveKeys(s *hop.Session) (keys, error) {
	b, err := s.Export(exportLabel, 16+12+4+4+2)
	if err != nil {
		return keys{}, fmt.Errorf("derive SRTP keys: %w", err)
	}
	k, err := makeKeys(b)
	if s.Trunked() {
		k.context = nil
	}
	return k, err
}

func makeKeys(b []byte) (keys, error) {
	c, err := srtp.CreateContext(b[:16], b[16:28], srtp.ProtectionProfileAeadAes128Gcm, srtp.SRTPReplayProtection(replaySpan))
	if err != nil {
		return keys{}, fmt.Errorf("derive SRTP keys: %w", err)
	}
	return keys{
		context: c, ssrc: binary.BigEndian.Uint32(b[28:]), timestamp: binary.BigEndian.Uint32(b[32:]),
		sequence: binary.BigEndian.Uint16(b[36:]) & 0x7fff,
	}, nil
}

// packet is what a packet says, in the clear.
type packet struct {
	position  uint64 // counts packets from 0
	time      int64  // of the first sample, in samples from the start of the stream
	talkspurt bool
	mark      connectors.Mark
	stamp     *connectors.Stamp
	payload   []byte
}

// sealer makes packets. It is not safe for use by many goroutines.
type sealer struct {
	keys
	format format
	header rtp.Header
	buffer [maxPacket]byte
}

// seal packs p; the result is valid until the next call. No memory is allocated.
func (s *sealer) seal(p packet) ([]byte, error) {
	b := s.appendPlain(s.buffer[:0], p)
	if s.context == nil {
		return b, nil
	}
	out, err := s.context.EncryptRTP(s.buffer[:0], b, &s.header)
	if err != nil {
		return nil, fmt.Errorf("seal packet %d: %w", p.position, err)
	}
	return out, nil
}

func (s *sealer) appendPlain(b []byte, p packet) []byte {
	first, second := byte(2<<6), s.format.payloadType
	if p.mark != 0 || p.stamp != nil {
		first |= 1 << 4
	}
	if p.talkspurt {
		second |= 1 << 7
	}
	b = append(b, first, second)
	b = binary.BigEndian.AppendUint16(b, s.sequence+uint16(p.position))
	b = binary.BigEndian.AppendUint32(b, s.timestamp+uint32(p.time))
	b = binary.BigEndian.AppendUint32(b, s.ssrc)
	if p.mark != 0 || p.stamp != nil {
		b = appendExtensions(b, p)
	}
	return append(b, p.payload...)
}

// appendExtensions appends the header extension.
func appendExtensions(b []byte, p packet) []byte {
	b = append(b, 0xbe, 0xde, 0, 0)
	begin := len(b)
	if p.mark != 0 {
		b = append(b, markID<<4, byte(p.mark))
	}
	if p.stamp != nil {
		b = append(b, stampID<<4|7)
		b = binary.BigEndian.AppendUint64(b, uint64(p.stamp.Now(time.Now())))
	}
	for (len(b)-begin)%4 != 0 {
		b = append(b, 0)
	}
	b[begin-1] = byte((len(b) - begin) / 4)
	return b
}

// opener reads packets. It is not safe for use by many goroutines.
type opener struct {
	keys
	format   format
	header   rtp.Header
	position uint64 // of the latest packet
	time     int64
}

var errNotOurs = errors.New("not a packet of this hop")

// open authenticates and decrypts a datagram in place; the payload is part of it. Nothing changes unless it is genuine
// and new.
func (o *opener) open(datagram []byte) (packet, error) {
	if len(datagram) < headerSize || binary.BigEndian.Uint32(datagram[8:]) != o.ssrc {
		return packet{}, errNotOurs
	}
	h, plain := &o.header, datagram
	var err error
	if o.context != nil {
		plain, err = o.context.DecryptRTP(datagram, datagram, h)
	} else {
		_, err = h.Unmarshal(plain)
	}
	if err != nil {
		return packet{}, fmt.Errorf("%w: %w", errNotOurs, err)
	}
	if h.PayloadType != o.format.payloadType || h.Padding {
		return packet{}, errNotOurs
	}
	size := h.MarshalSize()
	if size > len(plain) || (len(plain)-size)%o.format.sample != 0 {
		return packet{}, errNotOurs
	}
	// Both counters are extended to the value nearest to the latest one.
	p := packet{
		position:  o.position + uint64(int64(int16(h.SequenceNumber-o.sequence-uint16(o.position)))),
		time:      o.time + int64(int32(h.Timestamp-o.timestamp-uint32(o.time))),
		talkspurt: h.Marker,
		payload:   plain[size:],
	}
	if int64(p.position) < 0 {
		return packet{}, errNotOurs
	}
	if h.Extension {
		if m := h.GetExtension(markID); len(m) == 1 {
			p.mark = connectors.Mark(m[0])
		}
		if m := h.GetExtension(stampID); len(m) == 8 {
			p.stamp = &connectors.Stamp{Age: time.Duration(binary.BigEndian.Uint64(m))} // until the reader knows better
		}
	}
	if p.position >= o.position {
		o.position, o.time = p.position, p.time
	}
	return p, nil
}

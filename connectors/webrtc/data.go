package webrtc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"ninja/connectors"
)

// An ADU travels in one or several messages of the data channel, which keeps their order (RFC 8831, 6.6):
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|   0   |S|E|L|F|     mark      |                               |   F: the first message of an ADU, which alone
//	|                   sequence (64 bits)                          |      has mark, sequence, media time and age
//	|                   media time in ns (64 bits)                  |   L: the last
//	|                   age in ns (64 bits), with S alone           |   S: the ADU has a stamp
//	+---------------------------------------------------------------+
//	|                           payload                             |
//
// so a message that is not the first begins with its payload after one byte. E alone, in one byte, says that all is sent:
// the receiving end answers with a report on the session, which is sooner than SCTP's delayed acknowledgement.
const (
	flagFirst    = 1 << 0
	flagLast     = 1 << 1
	flagEnd      = 1 << 2
	flagStamp    = 1 << 3
	firstHeader  = 18
	stampSize    = 8
	restHeader   = 1
	maxFragment  = 16 << 10 // what every implementation of SCTP takes (RFC 8831, 6.6)
	maxMessage   = firstHeader + stampSize + maxFragment
	channelLabel = "ninja"
)

// fragments calls send with each message of an ADU; b is a buffer of at least maxMessage bytes.
func fragments(b []byte, a connectors.ADU, send func([]byte) error) error {
	rest := a.Payload
	for first := true; first || len(rest) > 0; first = false {
		part := rest[:min(len(rest), maxFragment)]
		rest = rest[len(part):]
		flags := byte(0)
		if len(rest) == 0 {
			flags |= flagLast
		}
		out := append(b[:0], flags)
		if first {
			out[0] |= flagFirst
			out = append(out, byte(a.Mark))
			out = binary.BigEndian.AppendUint64(out, a.Seq)
			out = binary.BigEndian.AppendUint64(out, uint64(a.MediaTime))
			if a.Stamp != nil {
				out[0] |= flagStamp
				out = binary.BigEndian.AppendUint64(out, uint64(a.Stamp.Now(time.Now())))
			}
		}
		if err := send(append(out, part...)); err != nil {
			return err
		}
	}
	return nil
}

var errMessage = errors.New("a message of the data channel cannot be read")

// assembler puts ADUs together from messages.
type assembler struct {
	link func() time.Duration // the estimated delay of the link
	adu  connectors.ADU
	open bool
}

// add takes a message, which it does not keep; whole says that an ADU is complete.
func (a *assembler) add(m []byte) (adu connectors.ADU, whole bool, err error) {
	if len(m) == 0 || m[0]&^(flagFirst|flagLast|flagStamp) != 0 || (m[0]&flagFirst != 0) == a.open || a.open && m[0]&flagStamp != 0 {
		return adu, false, fmt.Errorf("%w: %d bytes out of turn", errMessage, len(m))
	}
	payload := m[restHeader:]
	if !a.open {
		if len(m) < firstHeader {
			return adu, false, fmt.Errorf("%w: %d bytes", errMessage, len(m))
		}
		a.open = true
		a.adu = connectors.ADU{
			Mark: connectors.Mark(m[1]), Seq: binary.BigEndian.Uint64(m[2:]), MediaTime: time.Duration(binary.BigEndian.Uint64(m[10:])),
		}
		payload = m[firstHeader:]
		if m[0]&flagStamp != 0 {
			if len(payload) < stampSize {
				a.open = false
				return adu, false, fmt.Errorf("%w: %d bytes", errMessage, len(m))
			}
			age := time.Duration(binary.BigEndian.Uint64(payload))
			a.adu.Stamp, payload = connectors.Received(age, a.link(), time.Now()), payload[stampSize:]
		}
	}
	if len(a.adu.Payload)+len(payload) > connectors.MaxPayload {
		return adu, false, fmt.Errorf("%w: an ADU of more than %d bytes", errMessage, connectors.MaxPayload)
	}
	a.adu.Payload = append(a.adu.Payload, payload...)
	if m[0]&flagLast == 0 {
		return adu, false, nil
	}
	adu, a.adu, a.open = a.adu, connectors.ADU{}, false
	return adu, true, nil
}

package external

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// STUN (RFC 8489) as far as consent wants it: binding requests and their success responses, with USERNAME,
// MESSAGE-INTEGRITY and FINGERPRINT.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|0 0|          type             |   length of the attributes    |
//	|                    magic cookie 0x2112A442                    |
//	|                  transaction id (96 bits)                     |
//	+---------------------------------------------------------------+
//	|  attribute: type(16) length(16) value, padded to four bytes ...
const (
	stunRequest  = 0x0001
	stunSuccess  = 0x0101
	stunCookie   = 0x2112A442
	stunHeader   = 20
	maxSTUN      = 548 // RFC 8489, 6.1
	attrUsername = 0x0006
	attrIntegr   = 0x0008
	attrPrint    = 0x8028
	printXor     = 0x5354554e
	maxUsername  = 128
)

type txid [12]byte

// stunMessage is what is read of a message.
type stunMessage struct {
	kind     uint16
	id       txid
	username string
	// signed is what the integrity covers, with the length as it counts for it; nil without one.
	signed []byte
	mac    []byte
}

// appendSTUN makes a message; with a key it has an integrity.
func appendSTUN(b []byte, kind uint16, id txid, username, key string) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint32(b, stunCookie)
	b = append(b, id[:]...)
	if username != "" {
		b = appendAttr(b, attrUsername, []byte(username))
	}
	length := func(more int) { binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start-stunHeader+more)) }
	if key != "" {
		length(24)
		m := hmac.New(sha1.New, []byte(key))
		m.Write(b[start:])
		b = appendAttr(b, attrIntegr, m.Sum(nil))
	}
	length(8)
	return appendAttr(b, attrPrint, binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b[start:])^printXor))
}

func appendAttr(b []byte, kind uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}

var errSTUN = errors.New("not a STUN message")

// isSTUN tells STUN from RTP and RTCP, which begin with the version 2 (RFC 7983).
func isSTUN(b []byte) bool { return len(b) >= stunHeader && b[0] < 2 }

// parseSTUN reads a message; attributes that are not known are left out.
func parseSTUN(b []byte) (stunMessage, error) {
	if !isSTUN(b) || len(b) > maxSTUN || binary.BigEndian.Uint32(b[4:]) != stunCookie || int(binary.BigEndian.Uint16(b[2:])) != len(b)-stunHeader {
		return stunMessage{}, errSTUN
	}
	m := stunMessage{kind: binary.BigEndian.Uint16(b), id: txid(b[8:stunHeader])}
	for at := stunHeader; at < len(b); {
		if len(b)-at < 4 {
			return stunMessage{}, errSTUN
		}
		kind, size := binary.BigEndian.Uint16(b[at:]), int(binary.BigEndian.Uint16(b[at+2:]))
		next := at + 4 + (size+3)&^3
		if next > len(b) {
			return stunMessage{}, errSTUN
		}
		value := b[at+4 : at+4+size]
		switch kind {
		case attrUsername:
			if size > maxUsername || m.mac != nil {
				return stunMessage{}, errSTUN
			}
			m.username = string(value)
		case attrIntegr:
			if size != sha1.Size || m.mac != nil {
				return stunMessage{}, errSTUN
			}
			m.signed = append([]byte(nil), b[:at]...)
			binary.BigEndian.PutUint16(m.signed[2:], uint16(next-stunHeader))
			m.mac = value
		case attrPrint:
			if size != 4 || next != len(b) || binary.BigEndian.Uint32(value) != crc32.ChecksumIEEE(b[:at])^printXor {
				return stunMessage{}, errSTUN
			}
		}
		at = next
	}
	return m, nil
}

// keyed reports whether the message's integrity is that of the key.
func (m stunMessage) keyed(key string) bool {
	if m.mac == nil || key == "" {
		return false
	}
	h := hmac.New(sha1.New, []byte(key))
	h.Write(m.signed)
	return hmac.Equal(h.Sum(nil), m.mac)
}

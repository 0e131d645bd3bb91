package dnssd

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
)

// The record types that DNS-SD lives on (RFC 6763), and one question type.
const (
	typeA   = 1
	typePTR = 12
	typeTXT = 16
	typeSRV = 33
	typeANY = 255
)

const (
	classIN   = 1
	topBit    = 1 << 15 // of a class: in a question "reply by unicast", in a record "this is all there is" (RFC 6762, 10.2)
	response  = 1 << 15 // of the flags: it is a response
	authority = 1 << 10
)

// Bounds of a message.
const (
	maxMessage = 9000 // RFC 6762, 17
	maxRecords = 512
	maxTexts   = 64
	maxLabels  = 32
	maxName    = 255
)

// name is a domain name in presentation form: labels with a dot behind each, dots and backslashes in labels escaped with a
// backslash. A label may hold any other byte: instances are named by people (RFC 6763, 4.1.1).
type name string

func (n name) labels() []string {
	var out []string
	var label strings.Builder
	for i := 0; i < len(n); i++ {
		switch n[i] {
		case '\\':
			if i++; i < len(n) {
				label.WriteByte(n[i])
			}
		case '.':
			out = append(out, label.String())
			label.Reset()
		default:
			label.WriteByte(n[i])
		}
	}
	return out
}

var escaper = strings.NewReplacer(`.`, `\.`, `\`, `\\`)

// under is the name of a label within a domain.
func under(label string, domain name) name { return name(escaper.Replace(label)) + "." + domain }

// key is the name for comparison: DNS names are compared without regard to ASCII case.
func (n name) key() name {
	b := []byte(n)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return name(b)
}

type question struct {
	name name
	typ  uint16
}

// record is a resource record; which of the last fields is set goes by the type.
type record struct {
	name  name
	typ   uint16
	flush bool
	ttl   uint32 // seconds; 0 is goodbye

	target name // PTR, SRV
	port   uint16
	texts  []string
	addr   netip.Addr
}

type message struct {
	response  bool
	questions []question
	records   []record // of all sections; types that are not ours are left out
}

var errMessage = errors.New("not a DNS message that we read")

// parse reads a message (RFC 1035, 4). The header is
//
//	id(2) flags(2) questions(2) answers(2) authorities(2) additionals(2)
func parse(b []byte) (message, error) {
	if len(b) < 12 || len(b) > maxMessage {
		return message{}, errMessage
	}
	flags := binary.BigEndian.Uint16(b[2:])
	if flags&0x780f != 0 { // another operation than query, or an error (RFC 6762, 18.3 and 18.11)
		return message{}, errMessage
	}
	m := message{response: flags&response != 0}
	questions := int(binary.BigEndian.Uint16(b[4:]))
	records := int(binary.BigEndian.Uint16(b[6:])) + int(binary.BigEndian.Uint16(b[8:])) + int(binary.BigEndian.Uint16(b[10:]))
	if questions > maxRecords || records > maxRecords {
		return message{}, errMessage
	}
	at := 12
	for range questions {
		n, next, err := readName(b, at)
		if err != nil || len(b) < next+4 {
			return message{}, errMessage
		}
		if binary.BigEndian.Uint16(b[next+2:])&^topBit == classIN {
			m.questions = append(m.questions, question{n, binary.BigEndian.Uint16(b[next:])})
		}
		at = next + 4
	}
	for range records {
		r, next, ours, err := readRecord(b, at)
		if err != nil {
			return message{}, err
		}
		if ours {
			m.records = append(m.records, r)
		}
		at = next
	}
	return m, nil
}

// readName reads a name at an offset and says where what follows begins. A pointer leads backwards only, so that it ends.
func readName(b []byte, at int) (n name, next int, err error) {
	var out strings.Builder
	size, limit := 0, at
	for labels := 0; ; labels++ {
		if at >= len(b) || labels > maxLabels {
			return "", 0, errMessage
		}
		length := int(b[at])
		switch {
		case length == 0:
			if next == 0 {
				next = at + 1
			}
			return name(out.String()), next, nil
		case length < 0x40:
			if size += length + 1; at+1+length > len(b) || size > maxName {
				return "", 0, errMessage
			}
			out.WriteString(escaper.Replace(string(b[at+1 : at+1+length])))
			out.WriteByte('.')
			at += 1 + length
		case length >= 0xc0 && at+1 < len(b):
			if next == 0 {
				next = at + 2
			}
			to := (length&0x3f)<<8 | int(b[at+1])
			if to >= limit {
				return "", 0, errMessage
			}
			at, limit = to, to
		default:
			return "", 0, errMessage
		}
	}
}

// readRecord reads a record: name type(2) class(2) ttl(4) length(2) data.
func readRecord(b []byte, at int) (r record, next int, ours bool, err error) {
	if r.name, at, err = readName(b, at); err != nil || len(b) < at+10 {
		return r, 0, false, errMessage
	}
	r.typ = binary.BigEndian.Uint16(b[at:])
	class := binary.BigEndian.Uint16(b[at+2:])
	r.flush, r.ttl = class&topBit != 0, binary.BigEndian.Uint32(b[at+4:])
	next = at + 10 + int(binary.BigEndian.Uint16(b[at+8:]))
	if at += 10; next > len(b) {
		return r, 0, false, errMessage
	}
	if class&^topBit != classIN {
		return r, next, false, nil
	}
	data, end := b[at:next], 0
	switch r.typ {
	case typePTR:
		r.target, end, err = readName(b, at)
	case typeSRV: // priority(2) weight(2) port(2) target
		if len(data) < 7 {
			return r, 0, false, errMessage
		}
		r.port = binary.BigEndian.Uint16(data[4:])
		r.target, end, err = readName(b, at+6)
	case typeTXT:
		end = next
		r.texts, err = readTexts(data)
	case typeA:
		if end = next; len(data) != 4 {
			return r, 0, false, errMessage
		}
		r.addr = netip.AddrFrom4([4]byte(data))
	default:
		return r, next, false, nil
	}
	if err != nil || end != next {
		return r, 0, false, errMessage
	}
	return r, next, true, nil
}

func readTexts(b []byte) (out []string, err error) {
	for len(b) > 0 {
		n := int(b[0])
		if n >= len(b) || len(out) == maxTexts {
			return nil, errMessage
		}
		if n > 0 {
			out = append(out, string(b[1:1+n]))
		}
		b = b[1+n:]
	}
	return out, nil
}

// appendName writes a name without compression.
func appendName(b []byte, n name) []byte {
	for _, label := range n.labels() {
		b = append(b, byte(len(label)))
		b = append(b, label...)
	}
	return append(b, 0)
}

func appendRecord(b []byte, r record) []byte {
	class := uint16(classIN)
	if r.flush {
		class |= topBit
	}
	b = binary.BigEndian.AppendUint16(appendName(b, r.name), r.typ)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, class), r.ttl)
	length := len(b)
	b = append(b, 0, 0)
	switch r.typ {
	case typePTR:
		b = appendName(b, r.target)
	case typeSRV:
		b = binary.BigEndian.AppendUint16(append(b, 0, 0, 0, 0), r.port)
		b = appendName(b, r.target)
	case typeTXT:
		for _, text := range r.texts {
			b = append(append(b, byte(len(text))), text...)
		}
		if len(r.texts) == 0 {
			b = append(b, 0) // RFC 6763, 6.1
		}
	case typeA:
		b = append(b, r.addr.AsSlice()...)
	}
	binary.BigEndian.PutUint16(b[length:], uint16(len(b)-length-2))
	return b
}

// packetBytes is how large a message is made, if one record fits into that.
const packetBytes = 1400

// pack writes messages that hold the questions, with the records as known answers, or the records as answers.
func pack(isResponse bool, questions []question, records []record) (out [][]byte) {
	for first := true; first || len(questions)+len(records) > 0; first = false {
		b := make([]byte, 12, packetBytes)
		if isResponse {
			binary.BigEndian.PutUint16(b[2:], response|authority)
		}
		var asked, told uint16
		for ; len(questions) > 0 && len(b) < packetBytes-maxName-4; asked++ {
			b = binary.BigEndian.AppendUint16(appendName(b, questions[0].name), questions[0].typ)
			b = binary.BigEndian.AppendUint16(b, classIN)
			questions = questions[1:]
		}
		for ; len(records) > 0 && len(questions) == 0; told++ {
			longer := appendRecord(b, records[0])
			if len(longer) > packetBytes && asked+told > 0 {
				break
			}
			b, records = longer, records[1:]
		}
		binary.BigEndian.PutUint16(b[4:], asked)
		binary.BigEndian.PutUint16(b[6:], told)
		out = append(out, b)
	}
	return out
}

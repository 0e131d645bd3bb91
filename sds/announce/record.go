package announce

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"net/netip"
	"slices"

	"ninja/ca/seal"
)

// Payloads of sealed datagrams. A record (kind 5) begins with its type.
const (
	recordBody     = 1
	recordRefresh  = 2
	recordWithdraw = 3

	bodyDeflated = 1 // flag: the description is deflated (RFC 1951)
)

// hello is the payload of kind 4:
//
//	where the service hears replies on UDP: length (8) address port (16); length and port 0: where the datagram is from
//	certificates: number (8), each length (16) DER
//
// What is multicast may leave by a socket that hears no unicast, with whatever source address the system gives it.
type hello struct {
	reply netip.AddrPort
	chain [][]byte
}

func (h hello) append(b []byte) []byte {
	return appendChain(appendAddrPort(b, h.reply), h.chain)
}

func parseHello(p []byte) (hello, error) {
	r := reader{b: p}
	h := hello{reply: r.addrPort(), chain: r.chain()}
	if r.bad || len(r.b) > 0 || len(h.chain) == 0 {
		return hello{}, refuse(ReasonMalformed, "certificates that are cut off")
	}
	return h, nil
}

// appendBody writes a record of a body. Owner and chain are the epoch's.
//
//	type 1 (8)  flags (8)  log2 of the sender's period, ms (8)
//	name: length (8) text    version (64)    owner's signature (512)
//	numbers: number (8), each name: length (8) text, value (64, IEEE 754)
//	description, deflated when that is shorter
func appendBody(b []byte, body Body, description packed, period uint8) []byte {
	b = append(b, recordBody, description.flags, period)
	b = appendString(b, body.Name)
	b = binary.BigEndian.AppendUint64(b, body.Version)
	b = append(b, body.Signature...)
	b = appendNumbers(b, body.Numbers)
	return append(b, description.bytes...)
}

// packed is a description as it travels.
type packed struct {
	flags byte
	bytes []byte
}

// pack deflates a description if that makes it shorter. It is costly: do it once for each version.
func pack(description []byte) packed {
	if d := deflate(description); len(d) < len(description) {
		return packed{bodyDeflated, d}
	}
	return packed{0, description}
}

// parseBody reads a body but for its description, which aliases p.
func parseBody(p []byte) (body Body, description packed, period uint8, err error) {
	r := reader{b: p}
	r.byte()
	description.flags, period = r.byte(), r.byte()
	body = Body{Name: r.string(), Version: r.uint64(), Signature: slices.Clone(r.take(64)), Numbers: r.numbers()}
	if r.bad || description.flags&^bodyDeflated != 0 {
		return Body{}, packed{}, 0, refuse(ReasonMalformed, "a body that is cut off")
	}
	description.bytes = r.b
	return body, description, period, nil
}

// unpack gives the body its description and holds it against the bounds.
func (b *Body) unpack(description packed) (err error) {
	if description.flags == bodyDeflated {
		b.Description, err = inflate(description.bytes)
	} else {
		b.Description = slices.Clone(description.bytes)
	}
	if err == nil {
		err = b.check()
	}
	return err
}

func deflate(p []byte) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err == nil {
		_, err = w.Write(p)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return p
	}
	return out.Bytes()
}

// inflate stops at MaxDescription, whatever the deflated bytes would become.
func inflate(p []byte) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(p)), MaxDescription+1))
	if err != nil || len(out) > MaxDescription {
		return nil, refuse(ReasonMalformed, "a deflated description that is broken or over %d bytes", MaxDescription)
	}
	return out, nil
}

// appendPairs fills one refresh (or withdrawal, without numbers) with as many of the pairs as fit, and returns the rest.
//
//	type 2 or 3 (8)  log2 of the sender's period, ms (8)
//	each pair: name: length (8) text, version (64), numbers as in a body
func appendPairs(b []byte, record byte, period uint8, pairs []Pair) ([]byte, []Pair) {
	start := len(b)
	b = append(b, record, period)
	for i, p := range pairs {
		end := len(b)
		b = appendString(b, p.Name)
		b = binary.BigEndian.AppendUint64(b, p.Version)
		if record == recordRefresh {
			b = appendNumbers(b, p.Numbers)
		}
		if len(b)-start > seal.MaxPayload {
			return b[:end], pairs[i:]
		}
	}
	return b, nil
}

// parsePairs reads a refresh or withdrawal into pairs[:0].
func parsePairs(p []byte, into []Pair) (pairs []Pair, period uint8, err error) {
	r := reader{b: p}
	record := r.byte()
	period, pairs = r.byte(), into[:0]
	before := into[:cap(into)] // most refreshes name what the last one named: their strings are used again
	for len(r.b) > 0 && !r.bad {
		name := r.take(int(r.byte()))
		var pair Pair
		if n := len(pairs); n < len(before) && before[n].Name == string(name) {
			pair.Name = before[n].Name
		} else {
			pair.Name = string(name)
		}
		pair.Version = r.uint64()
		if record == recordRefresh {
			pair.Numbers = r.numbers()
		}
		if r.bad || CheckName(pair.Name) != nil {
			r.bad = true
			break
		}
		pairs = append(pairs, pair)
	}
	if r.bad {
		return nil, 0, refuse(ReasonMalformed, "a refresh that is cut off")
	}
	return pairs, period, nil
}

// reply is the payload of kind 6. An empty one says that the server knows the epoch.
//
//	names the server lacks: number (8), each length (8) text
//	bodies it refused: number (8), each name, version (64), reason and detail: length (8) text
type reply struct {
	unknown []string
	refused []refusal
}

type refusal struct {
	name    string
	version uint64
	reason  Reason
	detail  string
}

// append writes what of the reply fits into room bytes; the rest will be asked for at the next refresh.
func (p reply) append(b []byte, room int) []byte {
	start := len(b)
	b = append(b, 0)
	for _, name := range p.unknown {
		if len(b)-start+len(name)+2 > room || b[start] == 255 {
			break
		}
		b = appendString(b, name)
		b[start]++
	}
	count := len(b)
	b = append(b, 0)
	for _, f := range p.refused {
		detail := f.detail[:min(len(f.detail), 200)]
		if len(b)-start+len(f.name)+len(f.reason)+len(detail)+11 > room || b[count] == 255 {
			break
		}
		b = binary.BigEndian.AppendUint64(appendString(b, f.name), f.version)
		b = appendString(appendString(b, string(f.reason)), detail)
		b[count]++
	}
	return b
}

func parseReply(p []byte) (reply, error) {
	r := reader{b: p}
	out := reply{unknown: r.strings(255)}
	refused := int(r.byte())
	for i := 0; i < refused && !r.bad; i++ {
		out.refused = append(out.refused, refusal{name: r.string(), version: r.uint64(), reason: Reason(r.string()), detail: r.string()})
	}
	if r.bad || len(r.b) > 0 {
		return reply{}, refuse(ReasonMalformed, "a reply that is cut off")
	}
	return out, nil
}

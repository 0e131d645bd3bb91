package audio

import "encoding/binary"

// Law is one of the two companding laws of ITU-T G.711: eight bits that sound like thirteen or fourteen. A Law is
// immutable and safe for concurrent use.
//
//	mu-law byte, all bits inverted          A-law byte, even bits inverted
//	+-+-----+-------+                       +-+-----+-------+
//	|s| seg | step  |  s=1: negative        |s| seg | step  |  s=1: positive
//	+-+-----+-------+                       +-+-----+-------+
//	(2*step+33) << seg, less 33, 14 bits    2*step+1, segment 0; (2*step+33) << (seg-1) above, 13 bits
type Law struct {
	name    string
	linear  [256]int16
	compand [65536 / 4]byte // by sample >> 2: neither law tells finer steps apart
}

// MuLaw is the law of North America and Japan, audio/PCMU.
func MuLaw() *Law {
	l := &Law{name: "mulaw"}
	for b := range 256 {
		bits := ^byte(b)
		seg, step := int(bits>>4&7), int(bits&15)
		v := ((2*step+33)<<seg - 33) << 2
		if bits&0x80 != 0 {
			v = -v
		}
		l.linear[b] = int16(v)
	}
	l.fill(func(x int) byte {
		sign := byte(0)
		m := x >> 2 // 14 bits
		if x < 0 {
			// One's complement, so that 0 and -1 lie the same way from the middle of their steps.
			sign, m = 0x80, (^x)>>2
		}
		m = min(m+33, 8191)
		seg := 0
		for m>>(seg+1) >= 32 {
			seg++
		}
		return ^(sign | byte(seg<<4) | byte(m>>(seg+1)&15))
	})
	return l
}

// ALaw is the law of the rest of the world, audio/PCMA.
func ALaw() *Law {
	l := &Law{name: "alaw"}
	for b := range 256 {
		bits := byte(b) ^ 0x55
		seg, step := int(bits>>4&7), int(bits&15)
		v := 2*step + 1
		if seg > 0 {
			v = (2*step + 33) << (seg - 1)
		}
		v <<= 3
		if bits&0x80 == 0 {
			v = -v
		}
		l.linear[b] = int16(v)
	}
	l.fill(func(x int) byte {
		sign := byte(0x80)
		m := x >> 3 // 13 bits
		if x < 0 {
			sign, m = 0, (^x)>>3
		}
		seg := 0
		for seg < 7 && m >= 32<<seg {
			seg++
		}
		return (sign | byte(seg<<4) | byte(m>>max(seg, 1)&15)) ^ 0x55
	})
	return l
}

func (l *Law) fill(compress func(x int) byte) {
	for i := range l.compand {
		l.compand[i] = compress(int(int16(i << 2)))
	}
}

// Decode turns companded bytes into L16.
func (l *Law) Decode(p []byte) []byte { return l.decode(make([]byte, 0, 2*len(p)), p) }

func (l *Law) decode(dst, p []byte) []byte {
	for _, b := range p {
		dst = binary.BigEndian.AppendUint16(dst, uint16(l.linear[b]))
	}
	return dst
}

// Encode turns L16 into companded bytes, in place.
func (l *Law) Encode(p []byte) []byte {
	out := p[:0]
	for i := 0; i+1 < len(p); i += 2 {
		out = append(out, l.compand[binary.BigEndian.Uint16(p[i:])>>2])
	}
	return out
}

// transcode goes from one law to the other by way of the linear value (G.711, 3.4).
func transcode(from, to *Law) func(p []byte) []byte {
	var table [256]byte
	for b, v := range from.linear {
		table[b] = to.compand[uint16(v)>>2]
	}
	return func(p []byte) []byte {
		for i, b := range p {
			p[i] = table[b]
		}
		return p
	}
}

package rtp

import (
	"math"
	"testing"

	"ninja/connectors"
)

// decodeG711 is G.711's own formula, at 14 bits for either law.
func decodeG711(media string, b byte) float64 {
	sign := 1.0
	if media == "audio/PCMU" {
		b = ^b
		if b&0x80 != 0 {
			sign = -1
		}
		return sign * (math.Ldexp(float64(b&0xf)*2+33, int(b>>4&7)) - 33)
	}
	b ^= 0x55
	if b&0x80 == 0 {
		sign = -1
	}
	v := float64(b&0xf)*2 + 1
	if segment := int(b >> 4 & 7); segment > 0 {
		v = math.Ldexp(v+32, segment-1)
	}
	return sign * v * 2
}

// What stands for lost sound is as loud as it says: half, then a quarter, then an eighth, and never louder than that. The
// telephone's own codes are concealed too.
func TestRepeatFades(t *testing.T) {
	for _, media := range []string{"audio/PCMU", "audio/PCMA"} {
		typ := connectors.MustType(media + ";rate=8000")
		for code := range 256 {
			was := decodeG711(media, byte(code))
			for run := 1; run <= maxRun; run++ {
				out := Repeat(typ, []byte{0, byte(code)}, 1, run)
				is := decodeG711(media, out[0])
				// The smallest steps of both laws are 2, and each fade of the lowest segments may cost their offset.
				if want := was / float64(int(1)<<run); math.Abs(is-want) > 34 {
					t.Errorf("%s %#x, which is %v, faded %d times is %v", media, code, was, run, is)
				}
			}
		}
		if Repeat(typ, make([]byte, 160), 160, maxRun+1) != nil || Repeat(typ, make([]byte, 80), 160, 1) != nil {
			t.Errorf("%s is repeated for too long, or from nothing", media)
		}
	}
	l16 := Repeat(connectors.MustType("audio/L16;rate=8000"), []byte{0x40, 0, 0xc0, 0}, 4, 2)
	if string(l16) != "\x10\x00\xf0\x00" {
		t.Errorf("L16: %x", l16)
	}
	if Repeat(connectors.MustType("audio/opus"), make([]byte, 20), 20, 1) != nil {
		t.Error("a packet of Opus is repeated")
	}
}

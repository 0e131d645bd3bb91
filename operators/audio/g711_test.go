package audio

import (
	"encoding/binary"
	"testing"
)

func l16(v int16) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

// Values of G.711, tables 1a to 2b, scaled to 16 bits: the ends of the range, the middle, and steps on both sides.
func TestG711KnownValues(t *testing.T) {
	mu, a := MuLaw(), ALaw()
	for _, tc := range []struct {
		law    *Law
		code   byte
		linear int16
	}{
		{mu, 0x00, -32124}, {mu, 0x80, 32124}, {mu, 0xff, 0}, {mu, 0xfe, 8}, {mu, 0x7e, -8}, {mu, 0xf0, 120}, {mu, 0xef, 132},
		{mu, 0x8f, 16764}, {mu, 0x0f, -16764}, {mu, 0x9f, 8316}, {mu, 0xaf, 4092}, {mu, 0x01, -31100},
		{a, 0x2a, -32256}, {a, 0xaa, 32256}, {a, 0xd5, 8}, {a, 0x55, -8}, {a, 0xd4, 24}, {a, 0xda, 248}, {a, 0xc5, 264},
		{a, 0xa5, 16896}, {a, 0x25, -16896}, {a, 0xb5, 8448}, {a, 0x85, 4224},
	} {
		got := int16(binary.BigEndian.Uint16(tc.law.Decode([]byte{tc.code})))
		if got != tc.linear {
			t.Errorf("%s %#02x decodes to %d, want %d", tc.law.name, tc.code, got, tc.linear)
		}
		if got := tc.law.Encode(l16(tc.linear))[0]; got != tc.code {
			t.Errorf("%s %d encodes to %#02x, want %#02x", tc.law.name, tc.linear, got, tc.code)
		}
	}
}

// Every code comes back as itself, and every sample becomes a value at most half a step of its segment away.
func TestG711StaysWithinHalfAStep(t *testing.T) {
	for _, law := range []*Law{MuLaw(), ALaw()} {
		mu := law.name == "mulaw"
		for c := range 256 {
			if got := law.Encode(law.Decode([]byte{byte(c)}))[0]; got != byte(c) && !(mu && c == 0x7f && got == 0xff) {
				t.Errorf("%s %#02x comes back as %#02x", law.name, c, got)
			}
		}
		for v := -32768; v <= 32767; v++ {
			code := law.Encode(l16(int16(v)))[0]
			half := 4 << (^code >> 4 & 7) // G.711, table 2a, on 16 bits
			if !mu {
				half = 8 << (max((code^0x55)>>4&7, 1) - 1) // table 1a
			}
			clipped := mu && abs(v) > 32635
			if off := abs(int(law.linear[code]) - v); off > half+3 && !clipped {
				t.Fatalf("%s: %d becomes %d, %d off; half a step is %d", law.name, v, law.linear[code], off, half)
			}
		}
	}
}

func TestTranscodeIsDecodeThenEncode(t *testing.T) {
	for _, p := range [][2]*Law{{MuLaw(), ALaw()}, {ALaw(), MuLaw()}} {
		f := transcode(p[0], p[1])
		for c := range 256 {
			want := p[1].Encode(p[0].Decode([]byte{byte(c)}))[0]
			if got := f([]byte{byte(c)})[0]; got != want {
				t.Errorf("%s %#02x to %#02x, want %#02x", p[0].name, c, got, want)
			}
		}
	}
}

func abs(x int) int { return max(x, -x) }

func BenchmarkMuLawDecode20ms(b *testing.B) {
	law, p := MuLaw(), make([]byte, 160)
	for b.Loop() {
		law.Decode(p)
	}
}

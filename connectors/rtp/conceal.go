package rtp

import (
	"encoding/binary"

	"ninja/connectors"
)

// Conceal makes n bytes of sound that stand for a lost packet, from the last that was delivered; run counts the packets
// lost in a row, from 1. It returns nil where silence is better or nothing is known of the type. It may be called again
// and again and must not keep last.
type Conceal func(t connectors.Type, last []byte, n, run int) []byte

// maxRun is how many packets in a row are concealed: longer repetition is heard as a tone.
const maxRun = 3

// Repeat conceals audio/L16, audio/PCMU and audio/PCMA by repeating the end of what came last, each time half as loud (the
// "pattern repetition with fading" of RFC 2354, 4.2). Other types it leaves alone.
func Repeat(t connectors.Type, last []byte, n, run int) []byte {
	if run > maxRun || len(last) < n {
		return nil
	}
	out := append([]byte(nil), last[len(last)-n:]...)
	switch media := t.Media(); {
	case media == "audio/L16" && n%2 == 0:
		for i := 0; i < n; i += 2 {
			binary.BigEndian.PutUint16(out[i:], uint16(int16(binary.BigEndian.Uint16(out[i:]))>>run))
		}
	case media == "audio/PCMU":
		for i, b := range out {
			out[i] = ^fade(^b, run)
		}
	case media == "audio/PCMA":
		for i, b := range out {
			out[i] = fade(b^0x55, run) ^ 0x55
		}
	default:
		return nil
	}
	return out
}

// fade makes a sample of G.711, with the bits that its laws turn over turned back, half as loud run times: a segment less
// is half, but for the offset within it. Below the first there is silence.
//
//	 0 1 2 3 4 5 6 7
//	+-+-+-+-+-+-+-+-+
//	|s|segmt|interv.|
//	+-+-+-+-+-+-+-+-+
func fade(b byte, run int) byte {
	segment := int(b >> 4 & 7)
	if segment < run {
		return b & 0x80
	}
	return b&0x8f | byte(segment-run)<<4
}

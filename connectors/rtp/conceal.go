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

// Repeat conceals audio/L16 by repeating the end of what came last, each time half as loud (the "pattern repetition with
// fading" of RFC 2354, 4.2). Other types it leaves alone.
func Repeat(t connectors.Type, last []byte, n, run int) []byte {
	if t.Media() != "audio/L16" || run > maxRun || len(last) < n || n%2 != 0 {
		return nil
	}
	out := make([]byte, n)
	for i := 0; i < n; i += 2 {
		v := int16(binary.BigEndian.Uint16(last[len(last)-n+i:]))
		binary.BigEndian.PutUint16(out[i:], uint16(v>>run))
	}
	return out
}

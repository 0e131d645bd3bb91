package rtp

import (
	"time"

	"ninja/connectors"
)

// opusRate is the RTP clock of Opus whatever rate its sound has (RFC 7587, 4.1).
const opusRate = 48_000

// opusSamples is how many samples of opusRate a packet of Opus lasts.
func opusSamples(b []byte) int64 {
	return int64(connectors.OpusTime(b) * opusRate / time.Second)
}

package connectors

import "time"

// MaxOpusTime is how long a packet of Opus lasts at most (RFC 6716, 2.1.4).
const MaxOpusTime = 120 * time.Millisecond

// OpusTime is how long a packet of Opus, an ADU of audio/opus, lasts, which its first bytes say (RFC 6716, 3.1 and 3.2);
// 0 when they say nothing sensible.
//
//	 0 1 2 3 4 5 6 7
//	+-+-+-+-+-+-+-+-+
//	| config  |s| c |    c 0: one frame, 1 and 2: two, 3: as many as the next byte's low six bits say
//	+-+-+-+-+-+-+-+-+
func OpusTime(b []byte) time.Duration {
	if len(b) == 0 {
		return 0
	}
	frames := time.Duration(1)
	switch b[0] & 3 {
	case 1, 2:
		frames = 2
	case 3:
		if len(b) < 2 {
			return 0
		}
		frames = time.Duration(b[1] & 0x3f)
	}
	if d := frames * opusFrame(b[0]>>3); d <= MaxOpusTime {
		return d
	}
	return 0
}

// opusFrame is the length of a frame of the configuration.
func opusFrame(config byte) time.Duration {
	const tick = 2500 * time.Microsecond
	switch {
	case config < 12: // SILK
		return [...]time.Duration{4, 8, 16, 24}[config%4] * tick
	case config < 16: // hybrid
		return [...]time.Duration{4, 8}[config%2] * tick
	default: // CELT
		return [...]time.Duration{1, 2, 4, 8}[config%4] * tick
	}
}

package rtp

// opusRate is the RTP clock of Opus whatever rate its sound has (RFC 7587, 4.1).
const opusRate = 48_000

// opusSamples is how many samples of opusRate a packet of Opus lasts, which its first bytes say (RFC 6716, 3.1 and 3.2);
// 0 when they say nothing sensible.
//
//	 0 1 2 3 4 5 6 7
//	+-+-+-+-+-+-+-+-+
//	| config  |s| c |    c 0: one frame, 1 and 2: two, 3: as many as the next byte's low six bits say
//	+-+-+-+-+-+-+-+-+
func opusSamples(b []byte) int64 {
	if len(b) == 0 {
		return 0
	}
	frames := int64(1)
	switch b[0] & 3 {
	case 1, 2:
		frames = 2
	case 3:
		if len(b) < 2 {
			return 0
		}
		frames = int64(b[1] & 0x3f)
	}
	n := frames * opusFrame(b[0]>>3)
	if n > opusRate*120/1000 { // longer than a packet may be
		return 0
	}
	return n
}

// opusFrame is the length of a frame of the configuration in samples.
func opusFrame(config byte) int64 {
	switch {
	case config < 12: // SILK
		return []int64{480, 960, 1920, 2880}[config%4]
	case config < 16: // hybrid
		return []int64{480, 960}[config%2]
	default: // CELT
		return []int64{120, 240, 480, 960}[config%4]
	}
}

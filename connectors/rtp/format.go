package rtp

import (
	"fmt"
	"strconv"
	"time"

	"ninja/connectors"
)

// format is how a type stands in RTP packets (RFC 3551).
type format struct {
	payloadType uint8
	rate        int // of the RTP clock: samples a second
	sample      int // bytes of one sample of all channels; 1 where a packet is a whole
	// opus is for audio/opus, whose ADUs are packets already: they are neither cut nor of a length that tells the time.
	opus bool
	// text is for text/t140, whose packets repeat what those before them said.
	text bool
}

// length is how many samples a payload lasts.
func (f format) length(payload []byte) int64 {
	switch {
	case f.opus:
		return opusSamples(payload)
	case f.text:
		return 0
	}
	return int64(len(payload) / f.sample)
}

// cut is how many bytes of an ADU's payload go into its next packet.
func (f format) cut(payload []byte) int {
	if f.text {
		return cutText(payload, maxBlock)
	}
	return min(len(payload), maxPayload/f.sample*f.sample)
}

// Payload types: the static ones of RFC 3551 where the type is exactly theirs, else dynamic ones of ours.
const (
	ptPCMU        = 0
	ptPCMA        = 8
	ptL16         = 96
	ptPCMUDynamic = 97
	ptPCMADynamic = 98
	ptT140        = 99
	ptRed         = 100
	ptOpus        = 111
)

// Carries reports whether the transport carries the type, and says why not.
func Carries(t connectors.Type) error {
	_, err := formatOf(t)
	return err
}

func formatOf(t connectors.Type) (format, error) {
	rate, err := number(t, "rate", 8000, 1000, 192_000)
	if err != nil {
		return format{}, err
	}
	channels, err := number(t, "channels", 1, 1, 8)
	if err != nil {
		return format{}, err
	}
	f := format{rate: rate, sample: channels}
	telephone := rate == 8000 && channels == 1
	switch t.Media() {
	case "audio/L16":
		if t.Get("rate") == "" {
			return format{}, fmt.Errorf("type %s: rtp wants the rate of audio/L16", t)
		}
		f.payloadType, f.sample = ptL16, 2*channels
	case "audio/PCMU":
		f.payloadType = pick(telephone, ptPCMU, ptPCMUDynamic)
	case "audio/PCMA":
		f.payloadType = pick(telephone, ptPCMA, ptPCMADynamic)
	case "audio/opus":
		if t.Get("rate") != "" && rate != opusRate {
			return format{}, fmt.Errorf("type %s: the clock of Opus is %d, whatever its sound has", t, opusRate)
		}
		f = format{payloadType: ptOpus, rate: opusRate, sample: 1, opus: true}
	case "text/t140":
		f = format{payloadType: ptRed, rate: t140Rate, sample: 1, text: true}
	default:
		return format{}, fmt.Errorf("type %s: rtp carries audio/L16, audio/PCMU, audio/PCMA, audio/opus and text/t140; use tcp", t)
	}
	return f, nil
}

func pick(first bool, a, b uint8) uint8 {
	if first {
		return a
	}
	return b
}

func number(t connectors.Type, name string, absent, least, most int) (int, error) {
	s := t.Get(name)
	if s == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("type %s: rtp wants a %s from %d to %d", t, name, least, most)
	}
	return n, nil
}

// samples is how many samples fill d, rounded.
func (f format) samples(d time.Duration) int64 {
	whole, rest := d/time.Second, d%time.Second
	return int64(whole)*int64(f.rate) + (int64(rest)*int64(f.rate)+int64(time.Second/2))/int64(time.Second)
}

// span is how long n samples last.
func (f format) span(n int64) time.Duration {
	rate := int64(f.rate)
	return time.Duration(n/rate)*time.Second + time.Duration(n%rate)*time.Second/time.Duration(rate)
}

// Package audio holds the operators that transform sound: G.711 both ways, sample rate, byte order, gain, channels,
// WAV, and the endpointer that finds utterances in a stream.
//
// What flows as audio/L16 are signed 16-bit samples in network byte order, channels interleaved (RFC 3551, 4.5.11).
// Every operator keeps MediaTime true: it is the position of the payload's first sample, whatever was held back.
package audio

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"ninja/connectors"
	"ninja/operators"
)

// Bounds of what types may say.
const (
	MinRate     = 4000
	MaxRate     = 192000
	MaxChannels = 8
)

// Samples reads L16 payload, appending to dst; an odd last byte is dropped.
func Samples(dst []int16, payload []byte) []int16 {
	for i := 0; i+1 < len(payload); i += 2 {
		dst = append(dst, int16(binary.BigEndian.Uint16(payload[i:])))
	}
	return dst
}

// Payload writes samples as L16 payload, appending to dst.
func Payload(dst []byte, samples []int16) []byte {
	for _, s := range samples {
		dst = binary.BigEndian.AppendUint16(dst, uint16(s))
	}
	return dst
}

// Format is what a type says about sound.
type Format struct{ Rate, Channels int }

// FormatOf reads rate and channels of a type; a missing number of channels is 1 (RFC 4856).
func FormatOf(t connectors.Type) (Format, error) {
	f := Format{Channels: 1}
	var err error
	if f.Rate, err = strconv.Atoi(t.Get("rate")); err != nil || f.Rate < MinRate || f.Rate > MaxRate {
		return f, fmt.Errorf("type %v: rate wants a whole number from %d to %d", t, MinRate, MaxRate)
	}
	if s := t.Get("channels"); s != "" {
		if f.Channels, err = strconv.Atoi(s); err != nil || f.Channels < 1 || f.Channels > MaxChannels {
			return f, fmt.Errorf("type %v: channels wants a whole number from 1 to %d", t, MaxChannels)
		}
	}
	return f, nil
}

// Duration is how long n samples of each channel last.
func (f Format) Duration(n int64) time.Duration {
	whole, rest := n/int64(f.Rate), n%int64(f.Rate)
	return time.Duration(whole)*time.Second + time.Duration(rest)*time.Second/time.Duration(f.Rate)
}

// Chunk is how many samples of each channel an ADU of 20 ms has.
func (f Format) Chunk() int { return f.Rate / 50 }

// Register registers the programs of this package.
func Register(r *operators.Registry) {
	for _, law := range []*Law{MuLaw(), ALaw()} {
		r.Add(law.name+"-decode", grow(law.decode))
		r.Add(law.name+"-encode", each(law.Encode))
	}
	r.Add("mulaw-to-alaw", each(transcode(MuLaw(), ALaw())))
	r.Add("alaw-to-mulaw", each(transcode(ALaw(), MuLaw())))
	r.Add("resample", newResample)
	r.Add("swap-bytes", each(swap))
	r.Add("l16-to-l8", each(toL8))
	r.Add("l8-to-l16", grow(fromL8))
	r.Add("gain", newGain)
	r.Add("channels", newChannels)
	r.Add("conceal", newConceal)
	r.Add("wav-write", newWAVWrite)
	r.Add("wav-read", newWAVRead)
	r.Add("level", newLevel)
	r.Add("opus-decode", newOpusDecode)
	registerOpusEncode(r)
}

// each makes the factory of an operator that turns payloads into payloads and keeps nothing between them.
func each(f func(payload []byte) []byte) operators.Factory {
	return func(context.Context, operators.Env) (operators.Operator, error) {
		return operators.Each(func(a connectors.ADU) (connectors.ADU, error) {
			a.Payload = f(a.Payload)
			return a, nil
		}), nil
	}
}

// grow is each for outputs of twice the length of the input; f appends to dst.
func grow(f func(dst, payload []byte) []byte) operators.Factory {
	return func(context.Context, operators.Env) (operators.Operator, error) {
		var payloads slab
		return operators.Each(func(a connectors.ADU) (connectors.ADU, error) {
			a.Payload = f(payloads.take(2*len(a.Payload)), a.Payload)
			return a, nil
		}), nil
	}
}

// swap exchanges the bytes of every sample: network byte order to little endian and back.
func swap(p []byte) []byte {
	p = p[:len(p)&^1]
	for i := 0; i < len(p); i += 2 {
		p[i], p[i+1] = p[i+1], p[i]
	}
	return p
}

// toL8 keeps the upper byte of every sample, rounded, with an offset of 128 (audio/L8, RFC 3551, 4.5.10).
func toL8(p []byte) []byte {
	out := p[:0]
	for i := 0; i+1 < len(p); i += 2 {
		v := min(int(int16(binary.BigEndian.Uint16(p[i:])))+128, 32767)
		out = append(out, byte(v>>8)+128)
	}
	return out
}

func fromL8(dst, p []byte) []byte {
	for _, b := range p {
		dst = append(dst, b-128, 0)
	}
	return dst
}

// clip rounds to the nearest sample value.
func clip(v float32) int16 {
	switch {
	case v >= 32767:
		return 32767
	case v <= -32768:
		return -32768
	case v < 0:
		return int16(v - 0.5)
	}
	return int16(v + 0.5)
}

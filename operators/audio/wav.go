package audio

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"ninja/connectors"
	"ninja/operators"
)

// MaxWAV bounds a WAV document that is handled as a whole.
const MaxWAV = 64 << 20

// ParseWAV reads a WAV document: PCM of 16 bits, or of 8, or G.711. The samples are interleaved. A data chunk that claims
// more than there is, as programs write it that put a WAV on a pipe, ends with the input.
//
//	"RIFF" size "WAVE"  { id[4] size[4] data, padded to an even length }...   all numbers little endian
//	"fmt ":  format[2] channels[2] rate[4] bytes/s[4] align[2] bits[2] ...
func ParseWAV(b []byte) (f Format, samples []int16, err error) {
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" {
		return f, nil, errors.New("not a WAV: it does not begin with RIFF and WAVE")
	}
	var decode func([]byte) []int16
	for rest := b[12:]; len(rest) >= 8; {
		id, size := string(rest[:4]), uint64(binary.LittleEndian.Uint32(rest[4:]))
		body := rest[8:]
		if id == "data" && decode != nil {
			body = body[:min(size, uint64(len(body)))]
			if size == 0 { // a length never filled in
				body = rest[8:]
			}
			return f, decode(body), nil
		}
		if size > uint64(len(body)) {
			break
		}
		if id == "fmt " {
			if f, decode, err = wavFormat(body[:size]); err != nil {
				return f, nil, err
			}
		}
		rest = body[min(size+size&1, uint64(len(body))):]
	}
	return f, nil, errors.New("a WAV without a data chunk after its fmt chunk")
}

func wavFormat(b []byte) (f Format, decode func([]byte) []int16, err error) {
	if len(b) < 16 {
		return f, nil, fmt.Errorf("a WAV with a fmt chunk of %d bytes: 16 are needed", len(b))
	}
	format, width := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[14:])
	f.Channels, f.Rate = int(binary.LittleEndian.Uint16(b[2:])), int(binary.LittleEndian.Uint32(b[4:]))
	if f.Channels < 1 || f.Channels > MaxChannels || f.Rate < MinRate || f.Rate > MaxRate {
		return f, nil, fmt.Errorf("a WAV of %d channels at %d Hz: 1 to %d at %d to %d are possible", f.Channels, f.Rate,
			MaxChannels, MinRate, MaxRate)
	}
	if format == 0xfffe && len(b) >= 26 { // extensible: the real format begins the sub-format
		format = binary.LittleEndian.Uint16(b[24:])
	}
	switch {
	case format == 1 && width == 16:
		return f, func(p []byte) []int16 { return Samples(nil, swap(append([]byte(nil), p...))) }, nil
	case format == 1 && width == 8:
		return f, func(p []byte) []int16 { return Samples(nil, fromL8(nil, p)) }, nil
	case format == 6 && width == 8:
		return f, func(p []byte) []int16 { return Samples(nil, ALaw().Decode(p)) }, nil
	case format == 7 && width == 8:
		return f, func(p []byte) []int16 { return Samples(nil, MuLaw().Decode(p)) }, nil
	}
	return f, nil, fmt.Errorf("a WAV of format %d with %d bits: PCM with 8 or 16, or G.711, is possible", format, width)
}

// WAV writes a WAV document of interleaved samples, PCM of 16 bits.
func WAV(f Format, samples []int16) []byte {
	data := uint32(2 * len(samples))
	b := append(make([]byte, 0, 44+int(data)), "RIFF"...)
	b = binary.LittleEndian.AppendUint32(b, 36+data)
	b = append(b, "WAVEfmt \x10\x00\x00\x00\x01\x00"...)
	b = binary.LittleEndian.AppendUint16(b, uint16(f.Channels))
	b = binary.LittleEndian.AppendUint32(b, uint32(f.Rate))
	b = binary.LittleEndian.AppendUint32(b, uint32(2*f.Rate*f.Channels))
	b = binary.LittleEndian.AppendUint16(b, uint16(2*f.Channels))
	b = append(b, "\x10\x00data"...)
	b = binary.LittleEndian.AppendUint32(b, data)
	for _, s := range samples {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return b
}

// newWAVWrite collects sound to the end of an utterance, or of the stream, and writes it as one document.
func newWAVWrite(_ context.Context, env operators.Env) (operators.Operator, error) {
	f, err := FormatOf(env.In)
	if err != nil {
		return nil, err
	}
	return operators.Func(func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
		var samples []int16
		for {
			a, err := in.Read(ctx)
			if err != nil && err != io.EOF {
				return err
			}
			samples = Samples(samples, a.Payload)
			if 2*len(samples) > MaxWAV {
				return fmt.Errorf("write a WAV of more than %d bytes: mark the ends of utterances", MaxWAV)
			}
			if a.Mark != 0 || err == io.EOF && len(samples) > 0 {
				doc := connectors.ADU{Payload: WAV(f, samples), Mark: connectors.EndOfDocument}
				if err := out.Write(ctx, doc); err != nil {
					return err
				}
				samples = samples[:0]
			}
			if err == io.EOF {
				return nil
			}
		}
	}), nil
}

// newWAVRead turns each document into sound, in ADUs of 20 ms. The document must have the rate and channels of the type.
func newWAVRead(_ context.Context, env operators.Env) (operators.Operator, error) {
	want, err := FormatOf(env.Out)
	if err != nil {
		return nil, err
	}
	return operators.Func(func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
		var sent int64
		for {
			a, err := in.Read(ctx)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			f, samples, err := ParseWAV(a.Payload)
			if err != nil {
				return err
			}
			if f != want {
				return fmt.Errorf("a WAV of %d channels at %d Hz where the type says %v", f.Channels, f.Rate, env.Out)
			}
			if sent, err = WriteSpeech(ctx, out, f, sent, samples, connectors.EndOfUtterance); err != nil {
				return err
			}
		}
	}), nil
}

// WriteSpeech writes samples as L16 in ADUs of 20 ms, the last one with the mark. at is the position of the first one in
// the stream, in samples of each channel; the position behind the last is returned. Nothing but a mark becomes an ADU
// of one chunk of silence.
func WriteSpeech(ctx context.Context, out connectors.Writer, f Format, at int64, samples []int16, mark connectors.Mark) (int64, error) {
	if len(samples) == 0 && mark != 0 {
		samples = make([]int16, f.Chunk()*f.Channels)
	}
	for len(samples) > 0 {
		n := min(f.Chunk()*f.Channels, len(samples))
		a := connectors.ADU{Payload: Payload(nil, samples[:n]), MediaTime: f.Duration(at)}
		if samples = samples[n:]; len(samples) == 0 {
			a.Mark = mark
		}
		if err := out.Write(ctx, a); err != nil {
			return at, err
		}
		at += int64(n / f.Channels)
	}
	return at, nil
}

// newLevel measures: for each second of sound one line of text with its peak and mean level in dB below full scale.
func newLevel(_ context.Context, env operators.Env) (operators.Operator, error) {
	f, err := FormatOf(env.In)
	if err != nil {
		return nil, err
	}
	return operators.Func(func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
		var samples []int16
		for {
			a, err := in.Read(ctx)
			if err != nil && err != io.EOF {
				return err
			}
			samples = Samples(samples, a.Payload)
			for second := f.Rate * f.Channels; len(samples) >= second || err == io.EOF && len(samples) > 0; {
				n := min(second, len(samples))
				if err := out.Write(ctx, connectors.ADU{Payload: []byte(Level(samples[:n])), Mark: connectors.EndOfDocument}); err != nil {
					return err
				}
				samples = samples[n:]
			}
			if err == io.EOF {
				return nil
			}
		}
	}), nil
}

// Level says how loud samples are, as in "peak -3.0 dB, mean -20.1 dB"; silence is -99 dB.
func Level(samples []int16) string {
	peak, sum := 0.0, 0.0
	for _, s := range samples {
		v := math.Abs(float64(s)) / 32768
		peak = max(peak, v)
		sum += v * v
	}
	mean := math.Sqrt(sum / float64(max(len(samples), 1)))
	db := func(v float64) float64 { return max(20*math.Log10(v), -99) }
	return fmt.Sprintf("peak %.1f dB, mean %.1f dB", db(peak), db(mean))
}

package audio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pion/opus"

	"ninja/connectors"
	"ninja/operators"
)

// Bounds of Opus (RFC 6716, 3.2.5): a packet has at most 48 frames of 1,275 bytes.
const (
	opusRate      = 48_000
	maxOpusPacket = 48*(1275+2) + 2
	maxOpusFaults = 50 // notes of one stream: a hostile sender does not fill the path's log
)

// OpusDecoder decodes one stream of Opus, whatever mode its packets have, straight to the rate and channels wanted. It
// takes any bytes. Not for many goroutines.
type OpusDecoder struct {
	f       Format
	d       opus.Decoder
	samples []int16
}

// NewOpusDecoder makes a decoder to 8000, 12000, 16000, 24000 or 48000 Hz and one or two channels.
func NewOpusDecoder(f Format) (*OpusDecoder, error) {
	d, err := opus.NewDecoderWithOutput(f.Rate, f.Channels)
	if err != nil {
		return nil, fmt.Errorf("decode Opus to %d Hz and %d channels: 8000, 12000, 16000, 24000 or 48000 Hz and 1 or 2 channels are possible",
			f.Rate, f.Channels)
	}
	most := int(int64(f.Rate) * int64(connectors.MaxOpusTime) / int64(time.Second))
	return &OpusDecoder{f: f, d: d, samples: make([]int16, most*f.Channels)}, nil
}

// Decode decodes a packet; the samples, interleaved, are good until the next call. After an error the decoder goes on
// with the next packet.
func (o *OpusDecoder) Decode(packet []byte) (samples []int16, err error) {
	want := connectors.OpusTime(packet)
	if want == 0 || len(packet) > maxOpusPacket {
		return nil, fmt.Errorf("%d bytes are no packet of Opus: its first bytes say up to 120 ms of sound", len(packet))
	}
	defer func() {
		if v := recover(); v != nil { // a decoder that met what its author did not think of; its state cannot be trusted
			samples, err = nil, fmt.Errorf("a packet of Opus that cannot be decoded: %v", v)
			if d, e := opus.NewDecoderWithOutput(o.f.Rate, o.f.Channels); e == nil {
				o.d = d
			}
		}
	}()
	n, err := o.d.DecodeToInt16(packet, o.samples)
	if err != nil {
		return nil, fmt.Errorf("decode a packet of Opus: %w", err)
	}
	return o.samples[:n*o.f.Channels], nil
}

// newOpusDecode makes the operator: one ADU of samples for each packet. What is lost, late or malformed is made up as
// conceal does it; an empty payload is a packet that was lost on purpose (RFC 7587, 3.1.3).
func newOpusDecode(_ context.Context, env operators.Env) (operators.Operator, error) {
	if env.In.Media() != "audio/opus" || env.Out.Media() != "audio/L16" {
		return nil, fmt.Errorf("decode Opus from %v to %v: want audio/opus to audio/L16", env.In, env.Out)
	}
	f, err := FormatOf(env.Out)
	if err != nil {
		return nil, fmt.Errorf("decode Opus: %w", err)
	}
	d, err := NewOpusDecoder(f)
	if err != nil {
		return nil, err
	}
	return operators.Func((&opusDecode{d: d, c: NewConcealer(f), f: f, note: env.Note}).run), nil
}

type opusDecode struct {
	d      *OpusDecoder
	c      *Concealer
	f      Format
	out    slab
	begun  bool
	next   time.Duration // media time expected
	faults int
	note   func(kind, text string)
}

func (o *opusDecode) run(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
	for {
		a, err := in.Read(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := o.take(ctx, a, out); err != nil {
			return err
		}
	}
}

// take decodes one packet, after what was lost before it.
func (o *opusDecode) take(ctx context.Context, a connectors.ADU, out connectors.Writer) error {
	if gap := a.MediaTime - o.next; o.begun && gap > time.Millisecond && gap <= filled {
		if err := fillGap(ctx, o.c, o.f, o.next, gap, out); err != nil {
			return err
		}
	}
	if len(a.Payload) == 0 { // its time is filled when the next one comes
		if a.Mark == 0 {
			return nil
		}
		return o.write(ctx, a, nil, out)
	}
	samples, err := o.d.Decode(a.Payload)
	if err != nil {
		if o.faults++; o.faults <= maxOpusFaults && o.note != nil {
			o.note("fault", err.Error())
		}
		samples = o.c.Fill(int(int64(o.f.Rate) * int64(connectors.OpusTime(a.Payload)) / int64(time.Second)))
	} else {
		o.c.Take(samples)
	}
	return o.write(ctx, a, samples, out)
}

// write sends samples with the time and the marks of the packet they were.
func (o *opusDecode) write(ctx context.Context, a connectors.ADU, samples []int16, out connectors.Writer) error {
	o.next, o.begun = a.MediaTime+o.f.Duration(int64(len(samples)/o.f.Channels)), a.Mark&connectors.EndOfUtterance == 0
	a.Payload, a.Seq = Payload(o.out.reuse(a.Payload, 2*len(samples)), samples), 0
	if len(a.Payload) == 0 && a.Mark == 0 {
		return nil
	}
	return out.Write(ctx, a)
}

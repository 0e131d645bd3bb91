//go:build opus && cgo

package audio

/*
#cgo pkg-config: opus
#include <opus.h>

// opus_encoder_ctl takes any number of arguments, which Go cannot call.
static int ninja_set(OpusEncoder *e, opus_int32 bitrate, int loss) {
	int r = opus_encoder_ctl(e, OPUS_SET_BITRATE(bitrate));
	if (r == OPUS_OK) r = opus_encoder_ctl(e, OPUS_SET_INBAND_FEC(loss > 0));
	if (r == OPUS_OK) r = opus_encoder_ctl(e, OPUS_SET_PACKET_LOSS_PERC(loss));
	return r;
}
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"ninja/connectors"
	"ninja/operators"
)

// maxEncoded bounds a packet of 20 ms: it must fit into a datagram.
const maxEncoded = 1200

// OpusEncoder encodes one stream by libopus. Not for many goroutines.
type OpusEncoder struct {
	f      Format
	e      *C.OpusEncoder
	packet [maxEncoded]byte
}

// NewOpusEncoder makes an encoder of samples of a format that Opus takes (8000, 12000, 16000, 24000 or 48000 Hz, one or
// two channels) to a bit rate from 6,000 to 510,000 bits a second; loss is the share of packets that is expected to be
// lost, in percent, which the packets then repeat each other against.
func NewOpusEncoder(f Format, bitrate, loss int) (*OpusEncoder, error) {
	var failed C.int
	e := C.opus_encoder_create(C.opus_int32(f.Rate), C.int(f.Channels), C.OPUS_APPLICATION_VOIP, &failed)
	if failed != C.OPUS_OK {
		return nil, fmt.Errorf("encode %d Hz and %d channels as Opus: %s", f.Rate, f.Channels, C.GoString(C.opus_strerror(failed)))
	}
	o := &OpusEncoder{f: f, e: e}
	runtime.AddCleanup(o, func(e *C.OpusEncoder) { C.opus_encoder_destroy(e) }, e)
	if r := C.ninja_set(e, C.opus_int32(bitrate), C.int(loss)); r != C.OPUS_OK {
		return nil, fmt.Errorf("encode Opus at %d bits a second: %s", bitrate, C.GoString(C.opus_strerror(r)))
	}
	return o, nil
}

// Encode encodes 20 ms, interleaved; the packet is good until the next call.
func (o *OpusEncoder) Encode(samples []int16) ([]byte, error) {
	if len(samples) != o.f.Chunk()*o.f.Channels {
		return nil, fmt.Errorf("encode %d samples as Opus: want 20 ms, %d", len(samples), o.f.Chunk()*o.f.Channels)
	}
	n := C.opus_encode(o.e, (*C.opus_int16)(unsafe.Pointer(&samples[0])), C.int(o.f.Chunk()),
		(*C.uchar)(unsafe.Pointer(&o.packet[0])), maxEncoded)
	runtime.KeepAlive(o)
	if n < 0 {
		return nil, fmt.Errorf("encode Opus: %s", C.GoString(C.opus_strerror(C.int(n))))
	}
	return o.packet[:n], nil
}

func registerOpusEncode(r *operators.Registry) { r.Add("opus-encode", newOpusEncode) }

// newOpusEncode makes the operator: a packet for each 20 ms. Its arguments are "bitrate" (24000) and "loss" (10), percent.
func newOpusEncode(_ context.Context, env operators.Env) (operators.Operator, error) {
	f, err := FormatOf(env.In)
	if err != nil {
		return nil, fmt.Errorf("encode Opus: %w", err)
	}
	set := map[string]int{"bitrate": 24000, "loss": 10}
	for name, v := range env.Args {
		if _, known := set[name]; !known {
			return nil, fmt.Errorf("argument %.20q is not known; it knows bitrate and loss", name)
		}
		if set[name], err = strconv.Atoi(v); err != nil {
			return nil, fmt.Errorf("argument %s=%.20q: want a whole number", name, v)
		}
	}
	e, err := NewOpusEncoder(f, set["bitrate"], set["loss"])
	if err != nil {
		return nil, err
	}
	return operators.Func((&opusEncode{e: e, f: f}).run), nil
}

type opusEncode struct {
	e       *OpusEncoder
	f       Format
	pending []int16
	base    time.Duration // media time of the first pending sample
	out     slab
}

func (o *opusEncode) run(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
	for {
		a, err := in.Read(ctx)
		if errors.Is(err, io.EOF) {
			return o.write(ctx, out, 0, true)
		}
		if err != nil {
			return err
		}
		if jump := a.MediaTime - o.base - o.f.Duration(int64(len(o.pending)/o.f.Channels)); jump > time.Millisecond || jump < -time.Millisecond {
			if err := o.write(ctx, out, 0, true); err != nil {
				return err
			}
			o.base = a.MediaTime
		}
		o.pending = Samples(o.pending, a.Payload)
		if err := o.write(ctx, out, a.Mark, a.Mark != 0); err != nil {
			return err
		}
	}
}

// write sends what fills packets, and the rest too, with silence behind it, when all is set.
func (o *opusEncode) write(ctx context.Context, out connectors.Writer, mark connectors.Mark, all bool) error {
	chunk := o.f.Chunk() * o.f.Channels
	if short := len(o.pending) % chunk; all && short > 0 {
		o.pending = append(o.pending, make([]int16, chunk-short)...)
	}
	at := 0
	for ; len(o.pending)-at >= chunk; at += chunk {
		packet, err := o.e.Encode(o.pending[at : at+chunk])
		if err != nil {
			return err
		}
		a := connectors.ADU{Payload: append(o.out.take(len(packet)), packet...), MediaTime: o.base}
		o.base += o.f.Duration(int64(o.f.Chunk()))
		if len(o.pending)-at < 2*chunk {
			a.Mark, mark = mark, 0
		}
		if err := out.Write(ctx, a); err != nil {
			return err
		}
	}
	o.pending = append(o.pending[:0], o.pending[at:]...)
	if mark != 0 && all { // nothing was left to carry the mark
		return out.Write(ctx, connectors.ADU{MediaTime: o.base, Mark: mark})
	}
	return nil
}

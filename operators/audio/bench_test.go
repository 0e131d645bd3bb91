package audio

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/operators"
)

// stream gives an operator packets of 20 ms without making any, and drops what it writes.
type stream struct {
	payloads [][]byte // copied into what is handed out
	spare    []byte
	n, i     int
	out      int
}

func (s *stream) Read(context.Context) (connectors.ADU, error) {
	if s.i == s.n {
		return connectors.ADU{}, io.EOF
	}
	s.spare = append(s.spare[:0], s.payloads[s.i%len(s.payloads)]...)
	s.i++
	return connectors.ADU{Payload: s.spare, MediaTime: time.Duration(s.i) * 20 * time.Millisecond}, nil
}
func (s *stream) Write(_ context.Context, a connectors.ADU) error {
	s.out += len(a.Payload)
	return nil
}
func (s *stream) Events() <-chan connectors.Event { return nil }
func (s *stream) Signal(connectors.Event) error   { return nil }
func (s *stream) Close() error                    { return nil }

// BenchmarkOperator runs each operator of sound on packets of 20 ms and reports, beside the time and the allocations a
// packet, what share of a core one stream in real time takes: the cpu of its description.
func BenchmarkOperator(b *testing.B) {
	var r operators.Registry
	Register(&r)
	opusPackets := packets(b, "hybrid")
	for _, c := range []struct {
		program, in, out string
		args             map[string]string
	}{
		{"mulaw-decode", "audio/PCMU;rate=8000;channels=1", "audio/L16;rate=8000;channels=1", nil},
		{"mulaw-encode", "audio/L16;rate=8000;channels=1", "audio/PCMU;rate=8000;channels=1", nil},
		{"mulaw-to-alaw", "audio/PCMU;rate=8000;channels=1", "audio/PCMA;rate=8000;channels=1", nil},
		{"resample", "audio/L16;rate=8000;channels=1", "audio/L16;rate=16000;channels=1", map[string]string{"crossings": "32"}},
		{"resample", "audio/L16;rate=48000;channels=1", "audio/L16;rate=16000;channels=1", map[string]string{"crossings": "32"}},
		{"resample", "audio/L16;rate=48000;channels=1", "audio/L16;rate=16000;channels=1", map[string]string{"crossings": "12"}},
		{"swap-bytes", "audio/L16;rate=16000;channels=1", "audio/x-s16le;rate=16000;channels=1", nil},
		{"l16-to-l8", "audio/L16;rate=16000;channels=1", "audio/L8;rate=16000;channels=1", nil},
		{"l8-to-l16", "audio/L8;rate=16000;channels=1", "audio/L16;rate=16000;channels=1", nil},
		{"gain", "audio/L16;rate=16000;channels=1", "audio/L16;rate=16000;channels=1", map[string]string{"db": "6"}},
		{"channels", "audio/L16;rate=16000;channels=2", "audio/L16;rate=16000;channels=1", nil},
		{"channels", "audio/L16;rate=16000;channels=1", "audio/L16;rate=16000;channels=2", nil},
		{"conceal", "audio/L16;rate=16000;channels=1", "audio/L16;rate=16000;channels=1", nil},
		{"opus-decode", "audio/opus;channels=1;rate=48000", "audio/L16;rate=16000;channels=1", nil},
		{"opus-decode", "audio/opus;channels=1;rate=48000", "audio/L16;rate=48000;channels=1", nil},
	} {
		in := connectors.MustType(c.in)
		b.Run(fmt.Sprintf("%s/%s-%s%s", c.program, in.Get("rate"), connectors.MustType(c.out).Get("rate"), c.args["crossings"]), func(b *testing.B) {
			op, err := r.Make(b.Context(), c.program, operators.Env{In: in, Out: connectors.MustType(c.out), Args: c.args})
			if err != nil {
				b.Fatal(err)
			}
			s := &stream{payloads: opusPackets, n: b.N}
			if in.Media() != "audio/opus" {
				s.payloads = [][]byte{packet(b, in)}
			}
			b.ReportAllocs()
			b.ResetTimer()
			if err := op.Run(b.Context(), s, s); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(20*time.Millisecond), "cores/stream")
			if s.out == 0 {
				b.Fatal("nothing came out")
			}
		})
	}
}

// packet is 20 ms of a tone as a type has it.
func packet(b *testing.B, typ connectors.Type) []byte {
	f, err := FormatOf(typ)
	if err != nil {
		b.Fatal(err)
	}
	p := Payload(nil, Mix(nil, tone(f.Rate, 440, 9000, f.Chunk()), 1, f.Channels))
	if typ.Media() != "audio/L16" {
		p = p[:len(p)/2]
	}
	return p
}

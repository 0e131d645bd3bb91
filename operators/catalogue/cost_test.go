package catalogue

import (
	"bytes"
	"context"
	stdimage "image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/audio"
	"ninja/operators/speech"
)

// BenchmarkCost measures what each operator costs and reports it beside what its description declares: cores is the share
// of a core that one stream takes in real time (of documents and pictures: one a second), children included, and x-cpu how
// many times the declared share that is; ms and x-latency are the same of the time from the last of the input to the last of
// the output. Declared costs are promises for other machines: 0.05 to 1 is right, above 1 is not.
func BenchmarkCost(b *testing.B) {
	var r operators.Registry
	RegisterWith(&r, speech.Programs{Recogniser: recogniserPath})
	for _, s := range Specs() {
		b.Run(s.Name, func(b *testing.B) {
			in, out := types(b, s)
			given := usual(b, in)
			args := make(map[string]string)
			for _, a := range s.Args {
				args[a.Name] = a.Value
			}
			const grammar = "#JSGF V1.0;\ngrammar a;\npublic <a> = six (fifteen | twelve) (main | maine) (street | road);"
			var cpu, media time.Duration
			var took []time.Duration
			for b.Loop() {
				h := &timed{hop: hop{in: clones(given), events: make(chan connectors.Event)}}
				op, err := r.Make(b.Context(), s.Program, operators.Env{World: world.Real(), In: in, Out: out, Args: args,
					Data: func(context.Context, string) ([]byte, error) { return []byte(grammar), nil }})
				if err != nil {
					b.Fatal(err)
				}
				before := processorTime()
				if err := op.Run(b.Context(), h, h); err != nil {
					b.Fatal(err)
				}
				cpu += processorTime() - before
				took = append(took, max(0, h.last.Sub(h.ended)))
				if len(h.out) == 0 {
					b.Fatal("nothing came out")
				}
				media += lasts(in, given, out, h.out)
			}
			slices.Sort(took)
			p99 := took[len(took)*99/100]
			cores := cpu.Seconds() / media.Seconds()
			b.ReportMetric(cores, "cores")
			b.ReportMetric(cores/s.Cost.CPU, "x-cpu")
			b.ReportMetric(float64(p99)/1e6, "ms")
			b.ReportMetric(float64(p99)/float64(s.Cost.Latency), "x-latency")
		})
	}
}

// usual is an input as the costs are of: speech, a picture of a megapixel, a page of some kilobytes.
func usual(b *testing.B, typ connectors.Type) []connectors.ADU {
	doc := func(s string) []connectors.ADU {
		return []connectors.ADU{{Payload: []byte(s), Mark: connectors.EndOfDocument}}
	}
	top, sub, _ := strings.Cut(typ.Media(), "/")
	switch {
	case top == "image":
		p := stdimage.NewRGBA(stdimage.Rect(0, 0, 1024, 1024))
		for i := range p.Pix {
			p.Pix[i] = byte(i>>4)/2 + byte(i>>14) | 3
		}
		var buf bytes.Buffer
		err := map[string]func() error{"png": func() error { return png.Encode(&buf, p) }, "jpeg": func() error { return jpeg.Encode(&buf, p, nil) },
			"gif": func() error { return gif.Encode(&buf, p, nil) }}[sub]()
		if err != nil {
			b.Fatal(err)
		}
		return doc(buf.String())
	case top == "audio" || typ.Media() == "application/xml" || typ.Get("lang") != "en":
		return input(b, typ)
	case sub == "html":
		return doc("<html><body>" + strings.Repeat(`<h2>Main Street</h2><p class="x">Turn <b>left</b> &amp; go on for 300 ft to <a href="https://x.example/">the corner</a>.</p>`, 60) + "</body></html>")
	case sub == "csv":
		return doc(strings.Repeat("left,300,Main Street\n", 200))
	}
	return doc(strings.Repeat("Turn left into Main Street, and go on for 300 feet.\n", 80))
}

// timed notes when the input ended and when the last of the output came.
type timed struct {
	hop
	ended, last time.Time
}

func (h *timed) Read(ctx context.Context) (connectors.ADU, error) {
	a, err := h.hop.Read(ctx)
	if len(h.in) == 0 && h.ended.IsZero() {
		h.ended = time.Now()
	}
	return a, err
}

func (h *timed) Write(ctx context.Context, a connectors.ADU) error {
	h.last = time.Now()
	return h.hop.Write(ctx, a)
}

func clones(adus []connectors.ADU) []connectors.ADU {
	out := slices.Clone(adus)
	for i := range out {
		out[i].Payload = slices.Clone(out[i].Payload)
	}
	return out
}

// lasts is how long the sound is that goes in, or else comes out; documents come once a second.
func lasts(in connectors.Type, given []connectors.ADU, out connectors.Type, made []connectors.ADU) time.Duration {
	for _, side := range []struct {
		t    connectors.Type
		adus []connectors.ADU
	}{{in, given}, {out, made}} {
		f, err := audio.FormatOf(side.t)
		if err != nil || len(side.adus) == 0 {
			continue
		}
		last := side.adus[len(side.adus)-1]
		if side.t.Media() == "audio/opus" {
			return last.MediaTime + 20*time.Millisecond
		}
		if side.t.Media() != "audio/vnd.wave" {
			return last.MediaTime + f.Duration(int64(f.Chunk()))
		}
	}
	return time.Second
}

// processorTime is what this process and its ended children have used.
func processorTime() (sum time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

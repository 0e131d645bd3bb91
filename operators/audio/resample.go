package audio

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"ninja/connectors"
	"ninja/operators"
)

// Resampler changes the sample rate of a stream by a polyphase windowed sinc. It keeps its state from call to call, so
// a stream cut anywhere gives the same samples. The output is aligned with the input: output sample k lies at k/To
// seconds, input sample n at n/From; the filter's delay is latency, not a shift.
//
// With 32 crossings, what lies above the lower of the two Nyquist frequencies is at least 75 dB down and the pass band
// reaches 84 % of it; with 12 crossings 60 dB and 65 %, at 3/8 of the work.
//
// See "A resampler by phases" in RATIONALE.md.
type Resampler struct {
	channels int
	up, down int // To/From in lowest terms
	half     int // input samples the filter sees on each side
	rows     int
	kernel   []float32 // rows+1 rows of 2*half taps; row r is for the fractional position r/rows

	buf   []float32 // interleaved input; what is needed no more is dropped from the front
	pos   int       // the input frame just at or before the next output, as an index into buf
	phase int       // and the rest of the position, in units of 1/up
}

// maxRows is how many phases the table holds; ratios with more are interpolated, at an error of -106 dB.
const maxRows = 512

// NewResampler makes a resampler; crossings is the number of zero crossings of the sinc on each side, 4 to 64.
func NewResampler(from, to, channels, crossings int) (*Resampler, error) {
	switch {
	case from < MinRate || from > MaxRate || to < MinRate || to > MaxRate:
		return nil, fmt.Errorf("resample from %d to %d Hz: rates from %d to %d are possible", from, to, MinRate, MaxRate)
	case channels < 1 || channels > MaxChannels:
		return nil, fmt.Errorf("resample %d channels: 1 to %d are possible", channels, MaxChannels)
	case crossings < 4 || crossings > 64:
		return nil, fmt.Errorf("resample with %d zero crossings: 4 to 64 are possible", crossings)
	}
	g := gcd(from, to)
	r := &Resampler{channels: channels, up: to / g, down: from / g}
	scale := min(1, float64(to)/float64(from)) // the lower rate, in units of the input's
	r.half = int(math.Ceil(float64(crossings) / scale))
	r.rows = min(r.up, maxRows)
	r.design(scale, crossings)
	r.Reset()
	return r, nil
}

// design fills the kernel: a sinc whose transition band ends at the lower Nyquist frequency, under a Kaiser window.
func (r *Resampler) design(scale float64, crossings int) {
	down := 80.0 // dB in the stop band
	if crossings < 24 {
		down = 66 // a short filter keeps more of the pass band so
	}
	beta := 0.1102 * (down - 8.7)
	width := (down - 8) / (2.285 * 2 * math.Pi * float64(2*crossings)) // of the transition, in cycles of the lower rate
	cutoff := (1 - width) * scale                                      // in half cycles an input sample
	reach := float64(crossings) / scale
	taps := 2 * r.half
	r.kernel = make([]float32, (r.rows+1)*taps)
	row := make([]float64, taps)
	for p := range r.rows + 1 {
		sum := 0.0
		for i := range row {
			// Tap i weighs the input frame half-1-i before the position.
			x := float64(i-(r.half-1)) - float64(p)/float64(r.rows)
			row[i] = 0
			if t := x / reach; t > -1 && t < 1 {
				row[i] = cutoff * sinc(cutoff*x) * bessel(beta*math.Sqrt(1-t*t)) / bessel(beta)
			}
			sum += row[i]
		}
		for i, v := range row {
			r.kernel[p*taps+i] = float32(v / sum) // a constant stays what it is in every phase
		}
	}
}

// Reset forgets the stream: what comes next begins a new one.
func (r *Resampler) Reset() {
	r.buf = append(r.buf[:0], make([]float32, (r.half-1)*r.channels)...)
	r.pos, r.phase = r.half-1, 0
}

// Process takes interleaved samples and appends those it can make to dst. It holds back what needs later input, about
// 2*crossings samples of the lower rate.
func (r *Resampler) Process(dst, src []int16) []int16 {
	for _, s := range src[:len(src)/r.channels*r.channels] {
		r.buf = append(r.buf, float32(s))
	}
	frames := len(r.buf) / r.channels
	for r.pos+r.half < frames {
		dst = r.one(dst)
		r.phase += r.down
		r.pos += r.phase / r.up
		r.phase %= r.up
	}
	if drop := min(r.pos-(r.half-1), frames); drop > 0 {
		r.buf = append(r.buf[:0], r.buf[drop*r.channels:]...)
		r.pos -= drop
	}
	return dst
}

// one appends the output frame at the current position.
func (r *Resampler) one(dst []int16) []int16 {
	taps := 2 * r.half
	at := r.phase * r.rows
	row, rest := at/r.up, at%r.up
	a := r.kernel[row*taps : (row+1)*taps]
	for c := range r.channels {
		in := r.buf[(r.pos-(r.half-1))*r.channels+c:]
		v := dot(a, in, r.channels)
		if rest != 0 { // between two rows when the ratio has more phases than the table
			w := float32(rest) / float32(r.up)
			v += w * (dot(r.kernel[(row+1)*taps:(row+2)*taps], in, r.channels) - v)
		}
		dst = append(dst, clip(v))
	}
	return dst
}

func dot(kernel, in []float32, stride int) (sum float32) {
	if stride == 1 {
		in = in[:len(kernel)]
		for i, k := range kernel {
			sum += k * in[i]
		}
		return sum
	}
	for i, k := range kernel {
		sum += k * in[i*stride]
	}
	return sum
}

// Flush appends the samples held back, as if silence followed, and resets. in is how many frames the stream had and out
// how many came of them: in the end the output lasts exactly as long as the input.
func (r *Resampler) Flush(dst []int16, in, out int64) []int16 {
	want := (in*int64(r.up) + int64(r.down) - 1) / int64(r.down)
	before := len(dst)
	dst = r.Process(dst, make([]int16, (r.half+1)*r.channels))
	if room := int(want-out) * r.channels; len(dst)-before > room {
		dst = dst[:before+max(room, 0)]
	}
	r.Reset()
	return dst
}

// resample is the operator.
type resample struct {
	r        *Resampler
	from, to Format

	in, out  int64         // frames since base
	base     time.Duration // media time at which this stretch began
	begun    bool
	pending  []int16 // output that does not fill an ADU yet
	samples  []int16 // scratch
	payloads slab
	sent     int64 // frames written since base
}

// newResample makes the operator; the argument "crossings" is its quality, 32 when it is missing.
func newResample(_ context.Context, env operators.Env) (operators.Operator, error) {
	from, err := FormatOf(env.In)
	if err != nil {
		return nil, err
	}
	to, err := FormatOf(env.Out)
	if err != nil {
		return nil, err
	}
	if from.Channels != to.Channels {
		return nil, fmt.Errorf("resample %v to %v: the channels differ", env.In, env.Out)
	}
	crossings := 32
	if s := env.Args["crossings"]; s != "" {
		if crossings, err = strconv.Atoi(s); err != nil {
			return nil, fmt.Errorf("argument crossings=%q: want a whole number", s)
		}
	}
	r, err := NewResampler(from.Rate, to.Rate, from.Channels, crossings)
	if err != nil {
		return nil, err
	}
	return &resample{r: r, from: from, to: to}, nil
}

// Run reads until the end of the stream.
func (o *resample) Run(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
	for {
		a, err := in.Read(ctx)
		if err == io.EOF {
			return o.end(ctx, out, 0)
		}
		if err != nil {
			return err
		}
		if err := o.take(ctx, a, out); err != nil {
			return err
		}
	}
}

// take resamples one ADU. A mark ends a stretch: what is held back goes out with it. So does a jump in media time.
func (o *resample) take(ctx context.Context, a connectors.ADU, out connectors.Writer) error {
	if o.begun && a.MediaTime != 0 {
		if jump := a.MediaTime - (o.base + o.from.Duration(o.in)); jump > time.Millisecond || jump < -time.Millisecond {
			if err := o.end(ctx, out, 0); err != nil {
				return err
			}
		}
	}
	if !o.begun {
		o.begun = true
		if a.MediaTime != 0 {
			o.base = a.MediaTime
		}
	}
	o.samples = Samples(o.samples[:0], a.Payload)
	samples := o.samples
	o.in += int64(len(samples) / o.from.Channels)
	held := len(o.pending)
	o.pending = o.r.Process(o.pending, samples)
	o.out += int64((len(o.pending) - held) / o.to.Channels)
	if a.Mark != 0 {
		return o.end(ctx, out, a.Mark)
	}
	return o.write(ctx, out, 0, false)
}

// end writes what is left of a stretch, its last ADU with the mark.
func (o *resample) end(ctx context.Context, out connectors.Writer, mark connectors.Mark) error {
	if !o.begun {
		return nil
	}
	o.pending = o.r.Flush(o.pending, o.in, o.out)
	err := o.write(ctx, out, mark, true)
	o.base += o.from.Duration(o.in)
	o.begun, o.in, o.out, o.sent = false, 0, 0, 0
	return err
}

// write sends what fills ADUs of 20 ms, and the rest too when all is set.
func (o *resample) write(ctx context.Context, out connectors.Writer, mark connectors.Mark, all bool) error {
	chunk := o.to.Chunk() * o.to.Channels
	for len(o.pending) >= chunk || all && (len(o.pending) > 0 || mark != 0) {
		n := min(chunk, len(o.pending))
		a := connectors.ADU{Payload: Payload(o.payloads.take(2*n), o.pending[:n]), MediaTime: o.base + o.to.Duration(o.sent)}
		o.sent += int64(n / o.to.Channels)
		o.pending = append(o.pending[:0], o.pending[n:]...)
		if all && len(o.pending) == 0 {
			a.Mark, mark = mark, 0
		}
		if err := out.Write(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// bessel is the modified Bessel function of the first kind of order zero, by its series.
func bessel(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > sum*1e-12; k++ {
		term *= x / (2 * k) * x / (2 * k)
		sum += term
	}
	return sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

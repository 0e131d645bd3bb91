package audio

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/operators"
)

func tone(rate int, hz, amplitude float64, n int) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = int16(math.Round(amplitude * math.Sin(2*math.Pi*hz*float64(i)/float64(rate))))
	}
	return out
}

// middle leaves out the ends, where the filter sees the beginning and the end of the sound.
func middle(s []int16) []int16 { return s[len(s)/4 : len(s)*3/4] }

func rms(s []int16) float64 {
	sum := 0.0
	for _, v := range s {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum / float64(len(s)))
}

func resampled(t *testing.T, from, to, crossings int, in []int16) []int16 {
	t.Helper()
	r, err := NewResampler(from, to, 1, crossings)
	if err != nil {
		t.Fatal(err)
	}
	out := r.Process(nil, in)
	return r.Flush(out, int64(len(in)), int64(len(out)))
}

// What cannot be represented at the lower rate is gone; what can is kept as it was, in level and in place.
func TestResampleRejectsAndKeeps(t *testing.T) {
	for _, tc := range []struct {
		from, to, crossings int
		down, pass          float64 // dB; share of the lower Nyquist frequency that is kept
	}{
		{16000, 8000, 32, 75, 0.84}, {22050, 8000, 32, 75, 0.84}, {48000, 16000, 32, 75, 0.84}, {44100, 7919, 32, 75, 0.84},
		{16000, 8000, 12, 60, 0.65}, {22050, 8000, 12, 60, 0.65},
	} {
		name := fmt.Sprintf("%d to %d by %d", tc.from, tc.to, tc.crossings)
		nyquist := float64(min(tc.from, tc.to)) / 2
		for _, above := range []float64{1.02, 1.15, 1.3} {
			in := tone(tc.from, above*nyquist, 32000, tc.from)
			left := 20 * math.Log10(rms(middle(resampled(t, tc.from, tc.to, tc.crossings, in)))/rms(in)+1e-9)
			if left > -tc.down {
				t.Errorf("%s: a tone at %.2f of the Nyquist frequency is left at %.1f dB, want -%.0f", name, above, left, tc.down)
			}
		}
		for _, share := range []float64{0.1, 0.5, tc.pass} {
			hz := share * nyquist
			got := middle(resampled(t, tc.from, tc.to, tc.crossings, tone(tc.from, hz, 20000, tc.from)))
			want := middle(tone(tc.to, hz, 20000, tc.to)) // the same tone, not shifted by the filter's delay
			off := make([]int16, len(got))
			for i := range off {
				off[i] = got[i] - want[i]
			}
			if e := 20 * math.Log10(rms(off)/rms(want)); e > -45 {
				t.Errorf("%s: a tone at %.2f of the Nyquist frequency differs by %.1f dB, want -45", name, share, e)
			}
		}
	}
}

// Going up adds no images: all the energy of a tone stays at the tone.
func TestResampleUpAddsNoImages(t *testing.T) {
	got := middle(resampled(t, 8000, 16000, 32, tone(8000, 3000, 20000, 8000)))
	want := middle(tone(16000, 3000, 20000, 16000))
	for i := range got {
		got[i] -= want[i]
	}
	if e := 20 * math.Log10(rms(got)/rms(want)); e > -60 {
		t.Errorf("what is not the tone is at %.1f dB, want -60", e)
	}
}

// A stream cut anywhere gives the samples of the whole, each channel its own, and exactly as many as it lasts.
func TestResampleStreams(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, rates := range [][2]int{{8000, 16000}, {22050, 8000}, {16000, 8000}, {44100, 48000}, {4000, 192000}, {48000, 44101}} {
		n := 3000 + rng.IntN(500)
		a, b := make([]int16, n), make([]int16, n)
		both := make([]int16, 0, 2*n)
		for i := range n {
			a[i], b[i] = int16(rng.IntN(40000)-20000), int16(rng.IntN(40000)-20000)
			both = append(both, a[i], b[i])
		}
		wantA, wantB := resampled(t, rates[0], rates[1], 16, a), resampled(t, rates[0], rates[1], 16, b)
		if want := int(math.Ceil(float64(n) * float64(rates[1]) / float64(rates[0]))); len(wantA) != want {
			t.Errorf("%v: %d samples of %d, want %d", rates, len(wantA), n, want)
		}
		r, err := NewResampler(rates[0], rates[1], 2, 16)
		if err != nil {
			t.Fatal(err)
		}
		var got []int16
		for rest := both; len(rest) > 0; {
			k := min(2*rng.IntN(300), len(rest))
			got, rest = r.Process(got, rest[:k]), rest[k:]
		}
		got = r.Flush(got, int64(n), int64(len(got)/2))
		for i := range wantA {
			if 2*i+1 >= len(got) || got[2*i] != wantA[i] || got[2*i+1] != wantB[i] {
				t.Fatalf("%v: frame %d of %d differs", rates, i, len(wantA))
			}
		}
	}
}

func TestResamplerRefuses(t *testing.T) {
	for _, c := range [][4]int{{3999, 8000, 1, 32}, {8000, 192001, 1, 32}, {8000, 8000, 0, 32}, {8000, 8000, 9, 32}, {8000, 8000, 1, 3}} {
		if _, err := NewResampler(c[0], c[1], c[2], c[3]); err == nil {
			t.Errorf("%v is accepted", c)
		}
	}
}

// recorder is both ends of an operator under test.
type recorder struct {
	in  []connectors.ADU
	out []connectors.ADU
}

func (r *recorder) Read(context.Context) (connectors.ADU, error) {
	if len(r.in) == 0 {
		return connectors.ADU{}, io.EOF
	}
	a := r.in[0]
	r.in = r.in[1:]
	return a, nil
}
func (r *recorder) Write(_ context.Context, a connectors.ADU) error {
	r.out = append(r.out, a)
	return nil
}
func (r *recorder) Events() <-chan connectors.Event { return nil }
func (r *recorder) Signal(connectors.Event) error   { return nil }
func (r *recorder) Close() error                    { return nil }

func runOperator(t *testing.T, program, in, out string, args map[string]string, adus ...connectors.ADU) []connectors.ADU {
	t.Helper()
	var reg operators.Registry
	Register(&reg)
	op, err := reg.Make(context.Background(), program,
		operators.Env{In: connectors.MustType(in), Out: connectors.MustType(out), Args: args})
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{in: adus}
	if err := op.Run(context.Background(), r, r); err != nil {
		t.Fatal(err)
	}
	return r.out
}

// The operator keeps media time true over a gap and a mark, and its ADUs are 20 ms.
func TestResampleOperatorKeepsTime(t *testing.T) {
	chunk := func(at time.Duration, mark connectors.Mark) connectors.ADU {
		return connectors.ADU{Payload: Payload(nil, tone(8000, 400, 9000, 160)), MediaTime: at, Mark: mark}
	}
	ms := time.Millisecond
	got := runOperator(t, "resample", "audio/L16;rate=8000;channels=1", "audio/L16;rate=16000;channels=1", nil,
		chunk(20*ms, 0), chunk(40*ms, 0), chunk(500*ms, 0), chunk(520*ms, connectors.EndOfUtterance), chunk(540*ms, 0))
	var times []time.Duration
	for i, a := range got {
		times = append(times, a.MediaTime)
		if len(a.Payload) != 640 {
			t.Errorf("ADU %d has %d bytes, want 640", i, len(a.Payload))
		}
		if want := a.MediaTime == 520*ms; (a.Mark == connectors.EndOfUtterance) != want {
			t.Errorf("ADU %d at %v has the mark %v", i, a.MediaTime, a.Mark)
		}
	}
	if want := []time.Duration{20 * ms, 40 * ms, 500 * ms, 520 * ms, 540 * ms}; !slices.Equal(times, want) {
		t.Errorf("media times %v, want %v", times, want)
	}
}

func BenchmarkResample8to16kHz20ms(b *testing.B) {
	r, err := NewResampler(8000, 16000, 1, 32)
	if err != nil {
		b.Fatal(err)
	}
	in, out := tone(8000, 400, 9000, 160), []int16(nil)
	for b.Loop() {
		out = r.Process(out[:0], in)
	}
}

package audio

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/pion/opus/pkg/oggreader"

	"ninja/connectors"
	"ninja/internal/world"
	"ninja/operators"
)

// voice is a sound like a voice: harmonics of a pitch that glides, under a formant, in syllables. The files in testdata are
// it, encoded by libopus (ffmpeg -c:a libopus), one in each mode.
func voice(rate int, seconds float64) []int16 {
	out := make([]int16, int(float64(rate)*seconds))
	phase := 0.0
	for i := range out {
		t := float64(i) / float64(rate)
		pitch := 120 + 30*math.Sin(2*math.Pi*0.7*t)
		phase += 2 * math.Pi * pitch / float64(rate)
		v := 0.0
		for h := 1; h <= 24; h++ {
			v += math.Sin(float64(h)*phase) * math.Exp(-math.Pow((pitch*float64(h)-600-200*math.Sin(2*math.Pi*1.1*t))/500, 2))
		}
		out[i] = int16(2500 * max(0, math.Sin(2*math.Pi*2.5*t)) * v)
	}
	return out
}

// packets reads an Ogg file of Opus.
func packets(t testing.TB, name string) (all [][]byte) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".opus")
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := oggreader.NewWith(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for {
		segments, _, err := r.ParseNextPage()
		if err != nil {
			return all
		}
		for _, s := range segments {
			if !bytes.HasPrefix(s, []byte("OpusTags")) {
				all = append(all, s)
			}
		}
	}
}

// alike is the correlation of two sounds at the best shift within 30 ms.
func alike(f Format, a, b []int16) (best float64) {
	step := f.Rate / 8000 // the sound has nothing above 2 kHz
	for shift := -f.Rate * 3 / 100; shift <= f.Rate*3/100; shift += step {
		var ab, aa, bb float64
		for i := max(0, -shift); i < len(a) && i+shift < len(b); i += step {
			x, y := float64(a[i]), float64(b[i+shift])
			ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
		}
		best = max(best, ab/math.Sqrt(aa*bb+1))
	}
	return best
}

// left is the first channel.
func left(samples []int16, channels int) (out []int16) {
	for i := 0; i < len(samples); i += channels {
		out = append(out, samples[i])
	}
	return out
}

func opusADUs(t testing.TB, name string, each time.Duration) (adus []connectors.ADU) {
	for i, p := range packets(t, name) {
		adus = append(adus, connectors.ADU{Payload: bytes.Clone(p), MediaTime: time.Duration(i) * each})
	}
	adus[len(adus)-1].Mark = connectors.EndOfUtterance
	return adus
}

// What libopus encoded in each of its modes, decoded to every rate, is the sound that was encoded.
func TestOpusDecodesAllModes(t *testing.T) {
	for name, mode := range map[string]struct {
		each time.Duration
		like float64
	}{"silk": {20 * time.Millisecond, 0.85}, "hybrid": {20 * time.Millisecond, 0.93}, "celt": {10 * time.Millisecond, 0.97}} {
		formats := []Format{{16000, 1}, {48000, 2}}
		if name == "silk" {
			formats = append(formats, Format{8000, 1}, Format{12000, 1}, Format{24000, 2})
		}
		for _, f := range formats {
			typ := connectors.MakeType("audio/L16", connectors.Param{Name: "rate", Value: strconv.Itoa(f.Rate)}, connectors.Param{Name: "channels", Value: strconv.Itoa(f.Channels)})
			got := runOperator(t, "opus-decode", "audio/opus;channels=1;rate=48000", typ.String(), nil, opusADUs(t, name, mode.each)...)
			var samples []int16
			for i, a := range got {
				if a.MediaTime != time.Duration(i)*mode.each {
					t.Fatalf("%s: ADU %d is at %v", name, i, a.MediaTime)
				}
				samples = Samples(samples, a.Payload)
			}
			if seconds := f.Duration(int64(len(samples) / f.Channels)).Seconds(); seconds < 2 || seconds > 2.05 {
				t.Errorf("%s to %v: %.2f s of sound, want 2", name, f, seconds)
			}
			if like := alike(f, voice(f.Rate, 2), left(samples, f.Channels)); like < mode.like {
				t.Errorf("%s to %v: the sound is %.3f of what it was, want %.2f", name, f, like, mode.like)
			}
			if got[len(got)-1].Mark != connectors.EndOfUtterance {
				t.Errorf("%s: the mark is lost", name)
			}
		}
	}
}

// Of a stream that loses a packet in ten, and has empty and broken ones, as much sound comes out as went in, and it is
// closer to the original than silence in the gaps would be.
func TestOpusConcealsLoss(t *testing.T) {
	f := Format{16000, 1}
	whole := opusADUs(t, "hybrid", 20*time.Millisecond)
	rng := rand.New(rand.NewPCG(1, 2))
	var some []connectors.ADU
	lost := make(map[int]bool)
	for i, a := range whole {
		last := i == len(whole)-1
		switch n := rng.IntN(30); {
		case n < 3 && i > 0 && !last:
			lost[i] = true
			continue
		case n == 3 && !last:
			a.Payload = nil
			lost[i] = true
		case n == 4 && !last:
			a.Payload = []byte{a.Payload[0] | 3} // says that the number of frames follows
			lost[i] = true
		}
		some = append(some, a)
	}
	if len(lost) < 8 {
		t.Fatalf("only %d were lost", len(lost))
	}
	notes := 0
	var reg operators.Registry
	Register(&reg)
	op, err := reg.Make(t.Context(), "opus-decode", operators.Env{In: connectors.MustType("audio/opus;channels=1;rate=48000"),
		Out: connectors.MustType("audio/L16;channels=1;rate=16000"), World: world.Real(), Note: func(string, string) { notes++ }})
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{in: some}
	if err := op.Run(t.Context(), r, r); err != nil {
		t.Fatal(err)
	}
	var made, muted []int16
	next := time.Duration(0)
	for _, a := range r.out {
		if a.MediaTime != next {
			t.Fatalf("sound at %v where %v is next", a.MediaTime, next)
		}
		part := Samples(nil, a.Payload)
		if lost[int(a.MediaTime/(20*time.Millisecond))] {
			muted = append(muted, make([]int16, len(part))...)
		} else {
			muted = append(muted, part...)
		}
		made, next = append(made, part...), next+f.Duration(int64(len(part)))
	}
	want := voice(16000, 2)
	if notes == 0 || len(made) < len(want) || alike(f, want, made) <= alike(f, want, muted) {
		t.Errorf("concealed: %d samples, %.3f of the original; with silence %.3f", len(made), alike(f, want, made), alike(f, want, muted))
	}
	t.Logf("%d of %d packets lost: concealed %.3f of the original, silenced %.3f; %d notes", len(lost), len(whole), alike(f, want, made), alike(f, want, muted), notes)
}

func TestOpusRefusals(t *testing.T) {
	var reg operators.Registry
	Register(&reg)
	for _, c := range [][2]string{{"audio/PCMU;rate=8000", "audio/L16;rate=8000"}, {"audio/opus", "audio/PCMU;rate=8000"},
		{"audio/opus", "audio/L16;rate=44100"}, {"audio/opus", "audio/L16;rate=16000;channels=3"}, {"audio/opus", "audio/L16"}} {
		if _, err := reg.Make(t.Context(), "opus-decode", operators.Env{In: connectors.MustType(c[0]), Out: connectors.MustType(c[1])}); err == nil {
			t.Errorf("%s to %s is made", c[0], c[1])
		}
	}
	d, err := NewOpusDecoder(Format{16000, 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{nil, {0xff}, {3, 0}, {3, 63}, make([]byte, maxOpusPacket+1)} {
		if s, err := d.Decode(p); err == nil {
			t.Errorf("%.10v gives %d samples", p, len(s))
		}
	}
}

// Whatever the bytes, nothing panics, nothing takes long, and what comes out lasts what the packet says. The decoder is
// good afterwards.
func FuzzOpusDecode(f *testing.F) {
	for _, name := range []string{"silk", "hybrid", "celt"} {
		all := packets(f, name)
		for i := 0; i+1 < len(all); i += 11 {
			f.Add(all[i], all[i+1])
		}
	}
	f.Add([]byte{0xfc}, []byte{0x4b, 0x30})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		for _, format := range []Format{{16000, 1}, {48000, 2}} {
			d, err := NewOpusDecoder(format)
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			for _, p := range [][]byte{one, two, one} {
				samples, err := d.Decode(p)
				if err == nil && len(samples) != int(int64(connectors.OpusTime(p))*int64(format.Rate)/int64(time.Second))*format.Channels {
					t.Errorf("%d samples of a packet of %v", len(samples), connectors.OpusTime(p))
				}
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("three packets took %v", took)
			}
		}
	})
}

package golden

import (
	"time"

	"ninja/connectors"
	"ninja/operators/audio"
)

// sampleBytes is how many bytes one sample of one channel has; 0 for a media type that is not sound of such a kind.
func sampleBytes(media string) int {
	switch media {
	case "audio/L16", "audio/x-s16le":
		return 2
	case "audio/PCMU", "audio/PCMA", "audio/L8":
		return 1
	}
	return 0
}

// lasts is how long sound of a type is; ok is false when its bytes do not say.
func lasts(t connectors.Type, payloads [][]byte) (d time.Duration, ok bool) {
	width := sampleBytes(t.Media())
	f, err := audio.FormatOf(t)
	if width == 0 || err != nil {
		return 0, false
	}
	n := 0
	for _, p := range payloads {
		n += len(p)
	}
	return f.Duration(int64(n / width / f.Channels)), true
}

// length compares how long sound is before and after an operator: one that makes another rate, or other channels, than its
// type says is found by it, and told so.
func (r *Report) length(set *Set, s Sample, got [][]byte) {
	in, ok := lasts(set.In, s.In)
	out, also := lasts(set.Out, got)
	if !ok || !also || in < 100*time.Millisecond {
		return
	}
	want, ok := lasts(set.Out, s.Want)
	if !ok {
		want = in
	}
	if ratio := out.Seconds() / want.Seconds(); ratio < 0.8 || ratio > 1.25 {
		f, err := audio.FormatOf(set.Out)
		if err != nil {
			return
		}
		r.against("of %.2f s of sound it makes %.2f s where %.2f s are wanted: does it write the rate %d and %d channels, as %v says?",
			in.Seconds(), out.Seconds(), want.Seconds(), f.Rate, f.Channels, set.Out)
	}
}

// Sound is how long the sound of a set's samples lasts on average; 0 when they are none.
func (s *Set) Sound() time.Duration {
	var sum time.Duration
	for _, x := range s.Samples {
		if d, ok := lasts(s.In, x.In); ok {
			sum += d
		}
	}
	if len(s.Samples) == 0 {
		return 0
	}
	return sum / time.Duration(len(s.Samples))
}

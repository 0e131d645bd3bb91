package golden

import (
	"bytes"
	"math"
	"strings"

	"ninja/operators/audio"
)

// Judge says how much of what is wanted is in what was got, from 0 to 1. It is pure and takes anything.
type Judge func(want, got [][]byte) float64

// Exact wants the same bytes, however they are cut into ADUs.
func Exact(want, got [][]byte) float64 {
	if bytes.Equal(bytes.Join(want, nil), bytes.Join(got, nil)) {
		return 1
	}
	return 0
}

// maxWords bounds the work of Words.
const maxWords = 2000

// Words is one less the word error rate: how few words must be put in, left out or changed to get what is wanted, out of
// how many (the measure of speech recognition and, roughly, of translation). Case and punctuation do not count.
func Words(want, got [][]byte) float64 {
	a, b := words(want), words(got)
	if len(a) == 0 && len(b) == 0 {
		return 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, w := range a {
		before := row[0]
		row[0] = i + 1
		for j, g := range b {
			cost := before
			if w != g {
				cost = min(before, row[j], row[j+1]) + 1
			}
			before, row[j+1] = row[j+1], cost
		}
	}
	return max(0, 1-float64(row[len(b)])/float64(max(len(a), 1)))
}

func words(doc [][]byte) []string {
	all := strings.FieldsFunc(strings.ToLower(string(bytes.Join(doc, []byte(" ")))), func(r rune) bool {
		return strings.ContainsRune(" \t\r\n.,;:!?\"()", r)
	})
	return all[:min(len(all), maxWords)]
}

// Sound compares audio/L16 of one format: the correlation of what was got with what is wanted, at the best shift within
// 30 ms, because filters delay. How loud it is does not count.
func Sound(f audio.Format) Judge {
	return func(want, got [][]byte) float64 {
		a, b := samples(f, want), samples(f, got)
		if len(a) == 0 || len(b) == 0 {
			return 0
		}
		most := 3 * f.Rate / 100 * f.Channels
		best := 0.0
		for shift := -most; shift <= most; shift += f.Channels {
			best = max(best, correlation(a, b, shift))
		}
		// Sound that is missing counts for nothing.
		return best * math.Min(1, float64(len(b)+most)/float64(len(a)))
	}
}

// samples are the first two seconds.
func samples(f audio.Format, payloads [][]byte) []int16 {
	s := audio.Samples(nil, bytes.Join(payloads, nil))
	return s[:min(len(s), 2*f.Rate*f.Channels)]
}

func correlation(a, b []int16, shift int) float64 {
	var ab, aa, bb float64
	for i := max(0, -shift); i < len(a) && i+shift < len(b); i++ {
		x, y := float64(a[i]), float64(b[i+shift])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return ab / math.Sqrt(aa*bb)
}

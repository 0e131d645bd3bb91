package audio

import (
	"context"
	"io"
	"math"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/connectors/mem"
	"ninja/operators"
)

// voiced is a sound with a pitch, as a vowel has.
func voiced(f Format, from, n int) []int16 {
	s := make([]int16, 0, n*f.Channels)
	for i := from; i < from+n; i++ {
		x := 2 * math.Pi * 125 * float64(i) / float64(f.Rate)
		v := int16(6000*math.Sin(x) + 3000*math.Sin(2*x+1) + 1500*math.Sin(3*x+2))
		for range f.Channels {
			s = append(s, v)
		}
	}
	return s
}

func distance(a, b []int16) (signal, noise float64) {
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		signal, noise = signal+float64(a[i])*float64(a[i]), noise+d*d
	}
	return signal, noise
}

// What is made up for 20 ms of a lost vowel is nearer to the vowel than silence, by far, and there is no click at its ends;
// after 60 ms it is silence.
func TestConcealer(t *testing.T) {
	for _, f := range []Format{{8000, 1}, {16000, 2}} {
		c := NewConcealer(f)
		n := f.Chunk()
		for k := range 5 {
			c.Take(voiced(f, k*n, n))
		}
		made := c.Fill(n)
		signal, noise := distance(voiced(f, 5*n, n), made)
		if db := 10 * math.Log10(signal/noise); db < 12 {
			t.Errorf("%v: what is made up is %.1f dB above its error, want 12", f, db)
		} else {
			t.Logf("%v: %.1f dB", f, db)
		}
		next := voiced(f, 6*n, n)
		c.Take(next)
		step := math.Abs(float64(next[0]) - float64(made[len(made)-f.Channels]))
		if step > 3000 {
			t.Errorf("%v: a step of %v after the gap", f, step)
		}
		long := c.Fill(4 * n)
		for i := 3 * n * f.Channels; i < len(long); i++ {
			if long[i] != 0 {
				t.Fatalf("%v: sound %v after the gap began", f, f.Duration(int64(i/f.Channels)))
			}
		}
	}
	c := NewConcealer(Format{8000, 1})
	for _, s := range c.Fill(160) {
		if s != 0 {
			t.Fatal("sound is made up of nothing")
		}
	}
}

// Lost packets are filled in, a longer loss with silence behind, and a pause is left alone; media time has no gap.
func TestConcealOperator(t *testing.T) {
	f := Format{8000, 1}
	op, err := newConceal(t.Context(), operators.Env{In: connectors.MustType("audio/L16;rate=8000;channels=1")})
	if err != nil {
		t.Fatal(err)
	}
	in, from := mem.Pair(1000)
	to, out := mem.Pair(1000)
	write := func(k int, mark connectors.Mark) {
		in.Write(t.Context(), connectors.ADU{Payload: Payload(nil, voiced(f, k*160, 160)), MediaTime: f.Duration(int64(k * 160)), Mark: mark})
	}
	for k := range 100 {
		lost := k == 10 || k == 11 || k >= 30 && k < 50 || k >= 60 && k < 90
		if !lost {
			write(k, 0)
		}
	}
	write(100, connectors.EndOfUtterance)
	write(110, 0)
	in.Close()
	if err := op.Run(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	to.Close()
	var times []time.Duration
	for {
		a, err := out.Read(context.Background())
		if err == io.EOF {
			break
		}
		if len(a.Payload) != 320 {
			t.Errorf("an ADU of %d bytes at %v", len(a.Payload), a.MediaTime)
		}
		times = append(times, a.MediaTime)
	}
	if len(times) != 102-30 {
		t.Fatalf("%d ADUs", len(times))
	}
	jumps := 0
	for i, at := range times[1:] {
		if at-times[i] != 20*time.Millisecond {
			jumps++
			if gap := at - times[i]; gap != 620*time.Millisecond && gap != 200*time.Millisecond {
				t.Errorf("a gap of %v at %v", gap, at)
			}
		}
	}
	if jumps != 2 {
		t.Errorf("%d gaps are left, want those of 600 ms and of the pause", jumps)
	}
}

// Whatever comes, nothing panics and as much is made up as was asked for.
func FuzzConcealer(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6}, uint8(3), uint8(1))
	f.Add([]byte{}, uint8(200), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, n, channels uint8) {
		format := Format{4000, 1 + int(channels)%2}
		c := NewConcealer(format)
		for range 3 {
			s := Samples(nil, b)
			c.Take(s[:len(s)/format.Channels*format.Channels])
			if got := len(c.Fill(int(n))); got != int(n)*format.Channels {
				t.Fatalf("%d samples for %d frames", got, n)
			}
		}
	})
}

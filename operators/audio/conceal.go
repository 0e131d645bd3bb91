package audio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"ninja/connectors"
	"ninja/operators"
)

const (
	// concealed is the longest gap that is filled with sound made up from what came before; a longer one is a pause, or a
	// break that made-up sound would only hide.
	concealed = 100 * time.Millisecond
	// filled is the longest gap that is filled at all; beyond concealed it is silence.
	filled = 500 * time.Millisecond
	// fade is how long made-up sound takes to become silence (after ITU-T G.711 Appendix I, which keeps 10 ms at full level).
	fade = 60 * time.Millisecond
	// What is repeated is the last pitch period, of a voice from 66 to 400 Hz.
	shortestPitch = 2500 * time.Microsecond
	longestPitch  = 15 * time.Millisecond
)

// Concealer makes up what is missing in a stream of L16 samples, for a listener who would hear a click, and for a
// recogniser, which would hear other words. It repeats the last pitch period, ever more softly, and blends the next sound
// in. It is pure, and holds nothing back: no sample is delayed.
type Concealer struct {
	f       Format
	history []int16 // the last samples, interleaved, at most three of the longest pitch
	period  int     // of what is being repeated, in frames; 0 outside of a gap
	made    int     // frames made up since the gap began
}

// NewConcealer makes a concealer.
func NewConcealer(f Format) *Concealer { return &Concealer{f: f} }

// Fill makes up the next n frames.
func (c *Concealer) Fill(n int) []int16 {
	if c.period == 0 {
		c.period, c.made = c.pitch(), 0
	}
	out := make([]int16, 0, n*c.f.Channels)
	steps := c.frames(fade)
	for range n {
		level := 1 - float32(c.made)/float32(steps)
		for ch := range c.f.Channels {
			var v int16
			if at := len(c.history) - (c.period-c.made%max(c.period, 1))*c.f.Channels + ch; level > 0 && at >= 0 && at < len(c.history) {
				v = clip(float32(c.history[at]) * level)
			}
			out = append(out, v)
		}
		c.made++
	}
	return out
}

// Take takes sound that came, in place; after a gap its first 2.5 ms are blended with what the gap would have gone on with.
func (c *Concealer) Take(samples []int16) {
	if c.period > 0 {
		n := min(c.frames(shortestPitch), len(samples)/c.f.Channels)
		made := c.Fill(n)
		for i := range made {
			w := float32(i/c.f.Channels+1) / float32(n+1)
			samples[i] = clip(float32(samples[i])*w + float32(made[i])*(1-w))
		}
		c.period = 0
	}
	c.history = append(c.history, samples...)
	if extra := len(c.history) - 3*c.frames(longestPitch)*c.f.Channels; extra > 0 {
		c.history = append(c.history[:0], c.history[extra:]...)
	}
}

func (c *Concealer) frames(d time.Duration) int {
	return max(int(int64(c.f.Rate)*int64(d)/int64(time.Second)), 1)
}

// pitch is the shift, in frames, at which the end of the history is most like what precedes it, by the first channel.
func (c *Concealer) pitch() int {
	frames := len(c.history) / c.f.Channels
	least, most := c.frames(shortestPitch), c.frames(longestPitch)
	window := most
	if frames < window+most {
		return max(min(frames, most), 1)
	}
	at := func(i int) float64 { return float64(c.history[i*c.f.Channels]) }
	best, period := -1.0, most
	for shift := least; shift <= most; shift++ {
		var ab, bb float64
		for i := frames - window; i < frames; i++ {
			x, y := at(i), at(i-shift)
			ab, bb = ab+x*y, bb+y*y
		}
		if ab > 0 && bb > 0 && ab*ab/bb > best {
			best, period = ab*ab/bb, shift
		}
	}
	return period
}

// newConceal makes the operator: gaps in media time, as lost packets leave them, become sound or silence, in ADUs of 20 ms.
func newConceal(_ context.Context, env operators.Env) (operators.Operator, error) {
	f, err := FormatOf(env.In)
	if err != nil {
		return nil, fmt.Errorf("conceal: %w", err)
	}
	return operators.Func((&conceal{c: NewConcealer(f), f: f}).run), nil
}

type conceal struct {
	c    *Concealer
	f    Format
	next time.Duration // media time expected; zero before the first ADU

	samples []int16 // scratch
}

func (o *conceal) run(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
	for {
		a, err := in.Read(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		gap := a.MediaTime - o.next
		if o.next != 0 && gap > time.Millisecond && gap <= filled {
			if err := fillGap(ctx, o.c, o.f, o.next, gap, out); err != nil {
				return err
			}
		}
		o.samples = Samples(o.samples[:0], a.Payload)
		samples := o.samples[:len(o.samples)/o.f.Channels*o.f.Channels]
		o.next = a.MediaTime + o.f.Duration(int64(len(samples)/o.f.Channels))
		if a.Mark&connectors.EndOfUtterance != 0 {
			o.next = 0 // what follows is another stretch of speech
		}
		o.c.Take(samples)
		a.Payload, a.Seq = Payload(a.Payload[:0], samples), 0
		if err := out.Write(ctx, a); err != nil {
			return err
		}
	}
}

// fillGap writes what a gap lacks, from the media time at which it begins: made-up sound, and then silence, in ADUs of 20 ms.
func fillGap(ctx context.Context, c *Concealer, f Format, begin, gap time.Duration, out connectors.Writer) error {
	frames := int(int64(gap) * int64(f.Rate) / int64(time.Second))
	sound := min(frames, int(int64(concealed)*int64(f.Rate)/int64(time.Second)))
	samples := append(c.Fill(sound), make([]int16, (frames-sound)*f.Channels)...)
	at := int64(begin) * int64(f.Rate) / int64(time.Second)
	for len(samples) > 0 {
		n := min(len(samples), f.Chunk()*f.Channels)
		a := connectors.ADU{Payload: Payload(nil, samples[:n]), MediaTime: f.Duration(at)}
		if err := out.Write(ctx, a); err != nil {
			return err
		}
		at += int64(n / f.Channels)
		samples = samples[n:]
	}
	return nil
}

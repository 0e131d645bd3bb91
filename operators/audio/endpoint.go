package audio

import (
	"math"
	"math/bits"
	"time"
)

// EndpointConfig says how utterances are told from silence.
type EndpointConfig struct {
	// Rate is the sample rate in Hz; 0 is 16000.
	Rate int
	// Hangover is how much silence ends an utterance; 0 is 320 ms. Shorter cuts speakers off between words.
	Hangover time.Duration
	// PreRoll is how much sound before the start of speech is kept; 0 is 500 ms.
	PreRoll time.Duration
	// MaxLength is where an utterance is cut whatever follows; 0 is 20 s.
	MaxLength time.Duration
}

// Utterance is a stretch of speech with the silence around it.
type Utterance struct {
	Samples []int16
	// Speech is how much of it was louder than the background.
	Speech time.Duration
	// End is the position in the stream, in samples, at which the last loud frame ended.
	End int64
}

// Endpointer finds utterances in a stream of mono samples. It compares the energy of frames of 10 ms with a noise floor
// that is the least energy of the last two seconds (minimum statistics, after R. Martin 2001), so it follows a room that
// becomes louder and needs no training. It has no clock: silence is counted in samples.
type Endpointer struct {
	cfg   EndpointConfig
	frame int // samples

	rest   []int16 // of a frame not complete yet
	last   int16   // the sample before, for the difference that takes out direct current and hum
	power  [3]float64
	floor  [8]float64 // least level in blocks of 250 ms, dBFS
	low    float64    // least level and greatest of the block in progress
	high   float64
	frames int64 // since the start of the stream

	buf    []int16 // the pre-roll, or the utterance in progress
	recent uint16  // loud frames among the last 16, newest in bit 0
	active bool
	loud   int // loud frames of the utterance
	quiet  int // frames since the last loud one
	end    int64
}

const (
	frameTime   = 10 * time.Millisecond
	blockFrames = 25
	// A frame is loud that is this far above the floor, and above the absolute level that no speaker stays under.
	margin   = 9.0   // dB
	absolute = -52.0 // dBFS
	// startLoud loud frames among the last 16 begin an utterance; it counts when it has minLoud of them. A click of 10 ms
	// is loud for four frames, because levels are of three.
	startLoud = 5
	minLoud   = 12
)

// NewEndpointer makes an endpointer.
func NewEndpointer(cfg EndpointConfig) *Endpointer {
	if cfg.Rate == 0 {
		cfg.Rate = 16000
	}
	if cfg.Hangover == 0 {
		cfg.Hangover = 320 * time.Millisecond
	}
	if cfg.PreRoll == 0 {
		cfg.PreRoll = 500 * time.Millisecond
	}
	if cfg.MaxLength == 0 {
		cfg.MaxLength = 20 * time.Second
	}
	e := &Endpointer{cfg: cfg, frame: max(cfg.Rate/100, 1), low: math.Inf(1), high: math.Inf(-1)}
	for i := range e.floor {
		e.floor[i] = absolute - margin
	}
	return e
}

// Push takes the next samples of the stream and returns the utterances that ended in them.
func (e *Endpointer) Push(samples []int16) (done []Utterance) {
	e.rest = append(e.rest, samples...)
	n := 0
	for ; n+e.frame <= len(e.rest); n += e.frame {
		if u, ok := e.step(e.rest[n : n+e.frame]); ok {
			done = append(done, u)
		}
	}
	e.rest = append(e.rest[:0], e.rest[n:]...)
	return done
}

// End ends the utterance in progress, if there is one: the stream ended or paused.
func (e *Endpointer) End() (Utterance, bool) {
	if !e.active {
		return Utterance{}, false
	}
	return e.finish()
}

// Speaking reports whether an utterance is in progress.
func (e *Endpointer) Speaking() bool { return e.active }

// step takes one frame.
func (e *Endpointer) step(frame []int16) (Utterance, bool) {
	level := e.level(frame)
	loud := level > max(e.threshold(), absolute)
	e.track(level)
	e.frames++
	e.buf = append(e.buf, frame...)
	e.recent <<= 1
	e.quiet++
	if loud {
		e.recent |= 1
		e.loud++
		e.quiet = 0
		e.end = e.frames * int64(e.frame)
	}
	if !e.active {
		// The first block calibrates: nothing begins before it is over, and the pre-roll holds it.
		if e.frames >= blockFrames && bits.OnesCount16(e.recent) >= startLoud {
			e.active, e.loud = true, bits.OnesCount16(e.recent)
			return Utterance{}, false
		}
		if extra := len(e.buf) - e.samples(e.cfg.PreRoll); extra > e.samples(100*time.Millisecond) {
			e.buf = append(e.buf[:0], e.buf[extra:]...)
		}
		return Utterance{}, false
	}
	if time.Duration(e.quiet)*frameTime >= e.cfg.Hangover || len(e.buf) >= e.samples(e.cfg.MaxLength) {
		return e.finish()
	}
	return Utterance{}, false
}

// finish hands the utterance over, unless it was a click.
func (e *Endpointer) finish() (Utterance, bool) {
	u := Utterance{Samples: e.buf, Speech: time.Duration(e.loud) * frameTime, End: e.end}
	counts := e.loud >= minLoud
	e.active, e.buf, e.recent, e.loud, e.quiet = false, nil, 0, 0, 0
	return u, counts
}

// level is the energy of the differences of the last three frames, in dB below full scale.
func (e *Endpointer) level(frame []int16) float64 {
	sum := 0.0
	for _, s := range frame {
		d := float64(s) - float64(e.last)
		sum += d * d
		e.last = s
	}
	copy(e.power[:], e.power[1:])
	e.power[2] = sum / float64(len(frame))
	return 10 * math.Log10((e.power[0]+e.power[1]+e.power[2])/3/(32768*32768)+1e-9)
}

// track keeps the floor.
func (e *Endpointer) track(level float64) {
	e.low, e.high = min(e.low, level), max(e.high, level)
	if (e.frames+1)%blockFrames != 0 {
		return
	}
	copy(e.floor[:], e.floor[1:])
	e.floor[len(e.floor)-1] = e.low
	if e.frames+1 == blockFrames && e.high-e.low < 12 && e.high < -18 {
		for i := range e.floor { // an even sound from the start is the room's
			e.floor[i] = e.low
		}
		e.recent = 0
	}
	e.low, e.high = math.Inf(1), math.Inf(-1)
}

func (e *Endpointer) threshold() float64 {
	f := e.floor[0]
	for _, v := range e.floor[1:] {
		f = min(f, v)
	}
	return f + margin
}

func (e *Endpointer) samples(d time.Duration) int {
	return int(int64(e.cfg.Rate) * int64(d) / int64(time.Second))
}

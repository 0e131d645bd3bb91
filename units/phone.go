// Package units holds the edges where end devices meet the system: what each can speak and show, and the programs that
// stand at the ends of its paths (ninja-architecture, section 4).
//
// Phone is a telephone: it says PCMU at 8 kHz in packets of 20 ms and plays the same. This one has files in place of a
// microphone and a loudspeaker, so that a conversation can be repeated and heard again.
//
// Browser is a page in a web browser: it speaks and hears by WebRTC, and shows what was understood.
package units

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"ninja/connectors"
	"ninja/operators"
	"ninja/operators/audio"
	"ninja/operators/speech"
)

// phoneType is what a telephone line carries.
const phoneType = "audio/PCMU;channels=1;rate=8000"

const (
	phoneRate  = 8000
	packetTime = 20 * time.Millisecond
	packetSize = phoneRate / 50
	// leadIn is the silence before the first word: a person takes a breath after the call is through.
	leadIn = 300 * time.Millisecond
	// longestCall bounds what is said and what is recorded.
	longestCall = 10 * time.Minute
	// loud is the amplitude above which a sample is taken for sound rather than line noise.
	loud = 500
)

// HangUp says when the telephone ends its call.
type HangUp string

// Ways to end a call.
const (
	Never         HangUp = "never"           // the path is deleted by whoever made it
	AfterAnswer   HangUp = "after-answer"    // when the first answer has been heard to its end
	AtFirstSample HangUp = "at-first-sample" // as soon as an answer begins
)

// PhoneConfig makes a Phone.
type PhoneConfig struct {
	Name string
	// Microphone is the WAV file that is said, Speaker the one that what is heard is written to.
	Microphone, Speaker string
	// HangUp is when the call ends; "" is AfterAnswer.
	HangUp   HangUp
	Position *operators.Position
	Log      *slog.Logger
}

// Phone is a telephone.
type Phone struct {
	cfg  PhoneConfig
	law  *audio.Law
	said []byte // mu-law at 8 kHz
	// speechEnd is where the last word ends in said.
	speechEnd time.Duration

	mu   sync.Mutex
	call *call
}

// call is what the two ends of a call tell each other. A telephone has one call at a time.
type call struct {
	hangUp func()
	ended  context.Context
	// quiet is when the last word was said; zero before.
	quiet time.Time
	// signal reaches whoever sends what the loudspeaker plays; nil before the loudspeaker listens.
	signal func(connectors.Event) error
}

// silence passes a flush on to those whose answer is being heard.
func (p *Phone) silence(c *call, e connectors.Event) error {
	p.mu.Lock()
	signal := c.signal
	p.mu.Unlock()
	if signal == nil {
		return nil
	}
	return signal(e)
}

// NewPhone reads what is to be said.
func NewPhone(cfg PhoneConfig) (*Phone, error) {
	if cfg.HangUp == "" {
		cfg.HangUp = AfterAnswer
	}
	samples, err := readSpeech(cfg.Microphone)
	if err != nil {
		return nil, fmt.Errorf("microphone: %w", err)
	}
	end := 0
	for i, s := range samples {
		if s > loud || s < -loud {
			end = i + 1
		}
	}
	law := audio.MuLaw()
	said := law.Encode(audio.Payload(nil, samples))
	return &Phone{cfg: cfg, law: law, said: said, speechEnd: time.Duration(end) * time.Second / phoneRate}, nil
}

// readSpeech reads a WAV file as the line carries it: one channel at 8 kHz. No file is silence.
func readSpeech(file string) ([]int16, error) {
	if file == "" {
		return nil, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > audio.MaxWAV {
		return nil, fmt.Errorf("%s: %d bytes, at most %d", file, info.Size(), audio.MaxWAV)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	f, samples, err := audio.ParseWAV(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	samples = audio.Mix(nil, samples, f.Channels, 1)
	r, err := audio.NewResampler(f.Rate, phoneRate, 1, 32)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	out := r.Process(nil, samples)
	return r.Flush(out, int64(len(samples)), int64(len(out))), nil
}

// Description is what the telephone publishes: its two ends, at the node where it can be reached.
func (p *Phone) Description(node operators.Node) operators.Description {
	cost := operators.Cost{CPU: 0.01, Latency: operators.Latency(packetTime), Memory: 1 << 20, Quality: 1}
	return operators.Description{
		Kind: "phone", Name: p.cfg.Name, Summary: "telephone " + p.cfg.Name, Node: &node, Position: p.cfg.Position,
		Operators: []operators.Spec{
			{Name: "microphone", Program: "phone/microphone", Out: operators.MustPattern(phoneType), Cost: cost, Transports: []string{"rtp", "webrtc"}},
			{Name: "speaker", Program: "phone/speaker", In: operators.MustPattern(phoneType), Cost: cost, Transports: []string{"rtp", "webrtc"}},
		},
	}
}

// Register adds the telephone's ends to its node's programs.
func (p *Phone) Register(r *operators.Registry) {
	r.Add("phone/microphone", func(_ context.Context, env operators.Env) (operators.Operator, error) {
		return operators.Func(func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
			return p.speak(ctx, env, out)
		}), nil
	})
	r.Add("phone/speaker", func(_ context.Context, env operators.Env) (operators.Operator, error) {
		return operators.Func(func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
			return p.listen(ctx, env, in)
		}), nil
	})
}

// join gives the two ends of one call the same call.
func (p *Phone) join() *call {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.call == nil || p.call.ended.Err() != nil {
		ctx, cancel := context.WithCancel(context.Background())
		p.call = &call{ended: ctx, hangUp: cancel}
	}
	return p.call
}

// speak is the microphone: packets in real time, first what is to be said, then silence until the call ends.
func (p *Phone) speak(ctx context.Context, env operators.Env, out connectors.Writer) error {
	c := p.join()
	defer c.hangUp()
	// A user who speaks silences the answer: whoever hears the microphone tells when speech begins.
	turn, stop := context.WithCancel(ctx)
	defer stop()
	go speech.Turn(turn, out.Events(), func(e connectors.Event) error { return p.silence(c, e) })
	begin := env.World.Now()
	told := false
	for at := time.Duration(0); at < longestCall; at += packetTime {
		if err := wait(ctx, c, at-env.World.Now().Sub(begin)); err != nil {
			return ctx.Err()
		}
		if c.ended.Err() != nil {
			return nil
		}
		if !told && at >= leadIn+p.speechEnd {
			told = true
			p.mu.Lock()
			c.quiet = env.World.Now()
			p.mu.Unlock()
			env.Note("said", fmt.Sprintf("%.2f s of speech", p.speechEnd.Seconds()))
		}
		a := connectors.ADU{Payload: p.packet(at - leadIn), MediaTime: at}
		if err := out.Write(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// wait waits for d or the end of the call; the error is that of ctx.
func wait(ctx context.Context, c *call, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ended.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// packet is the 20 ms of what is said from a position on, silence outside of it.
func (p *Phone) packet(at time.Duration) []byte {
	b := make([]byte, packetSize)
	for i := range b {
		b[i] = 0xff // silence in mu-law
	}
	from := int(at * phoneRate / time.Second)
	if from >= 0 && from < len(p.said) {
		copy(b, p.said[from:])
	} else if from < 0 && from+packetSize > 0 {
		copy(b[-from:], p.said)
	}
	return b
}

// listen is the loudspeaker: it records what it hears and tells when an answer begins and when it ends.
func (p *Phone) listen(ctx context.Context, env operators.Env, in connectors.Reader) error {
	c := p.join()
	defer c.hangUp()
	p.mu.Lock()
	c.signal = in.Signal
	p.mu.Unlock()
	reading, stop := context.WithCancel(ctx)
	defer context.AfterFunc(c.ended, stop)()
	defer stop()
	var heard []int16
	begun := false
	for {
		a, err := in.Read(reading)
		if errors.Is(err, io.EOF) || reading.Err() != nil {
			return p.record(heard)
		}
		if err != nil {
			return errors.Join(err, p.record(heard))
		}
		samples := audio.Samples(nil, p.law.Decode(a.Payload))
		if !begun && sounds(samples) {
			begun = true
			p.firstSample(env, c)
		}
		if len(heard) < int(longestCall.Seconds())*phoneRate {
			heard = append(heard, samples...)
		}
		if begun && a.Mark&connectors.EndOfUtterance != 0 {
			env.Note("heard", fmt.Sprintf("%.1f s", float64(len(heard))/phoneRate))
			if err := p.record(heard); err != nil {
				return err
			}
			if p.cfg.HangUp == AfterAnswer {
				c.hangUp()
			}
		}
	}
}

func (p *Phone) firstSample(env operators.Env, c *call) {
	p.mu.Lock()
	quiet := c.quiet
	p.mu.Unlock()
	if quiet.IsZero() {
		env.Note("first-sample", "before the end of speech")
	} else {
		env.Note("first-sample", fmt.Sprintf("%d ms after the end of speech", env.World.Now().Sub(quiet).Milliseconds()))
	}
	if p.cfg.HangUp == AtFirstSample {
		c.hangUp()
	}
}

func sounds(samples []int16) bool {
	for _, s := range samples {
		if s > loud || s < -loud {
			return true
		}
	}
	return false
}

func (p *Phone) record(heard []int16) error {
	if p.cfg.Speaker == "" {
		return nil
	}
	wav := audio.WAV(audio.Format{Rate: phoneRate, Channels: 1}, heard)
	if err := os.WriteFile(p.cfg.Speaker, wav, 0o644); err != nil {
		return fmt.Errorf("speaker: %w", err)
	}
	return nil
}

package speech

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"ninja/connectors"
	"ninja/operators"
	"ninja/operators/audio"
)

const (
	// hearRate is the rate of the only model there is.
	hearRate = 16000
	// A speaker whose stream stops without a word is taken to have finished after stalled.
	stalled = 400 * time.Millisecond
	// Lost sound of up to maxGap is filled with silence; after a longer gap a new utterance begins.
	maxGap = 500 * time.Millisecond
	// readAhead is how many ADUs wait while the engine thinks: about 5 s of sound.
	readAhead = 256
)

// recogniserFactory makes the speech-to-text operator: audio/L16;rate=16000;channels=1 to
// text/plain;about=$a;grammar=$g;lang=en. What it listens for is the grammar (JSGF) that its output type refers to, so it
// is decided by who reads the text. Every utterance becomes one ADU of text, marked EndOfUtterance, in the grammar's own
// words; it is empty when somebody spoke and nothing that the grammar allows was heard.
func recogniserFactory(program string, lex *lexicon) operators.Factory {
	return func(ctx context.Context, env operators.Env) (operators.Operator, error) {
		if f, err := audio.FormatOf(env.In); err != nil || f != (audio.Format{Rate: hearRate, Channels: 1}) {
			return nil, fmt.Errorf("recognise %v: want audio/L16;rate=%d;channels=1 (%w)", env.In, hearRate, err)
		}
		ref := env.Out.Get("grammar")
		if ref == "" {
			return nil, fmt.Errorf("recognise to %v: the type names no grammar", env.Out)
		}
		if env.Data == nil {
			return nil, errors.New("recognise: nothing fetches external data here")
		}
		grammar, err := env.Data(ctx, ref)
		if err != nil {
			return nil, fmt.Errorf("fetch the grammar %s: %w", ref, err)
		}
		words, err := GrammarWords(string(grammar))
		if err != nil {
			return nil, fmt.Errorf("the grammar %s: %w", ref, err)
		}
		r := &recogniser{program: program, grammar: string(grammar), words: words, lex: lex, world: env.World, log: env.Log}
		if r.log == nil {
			r.log = slog.New(slog.DiscardHandler)
		}
		if err := r.prepare(ctx); err != nil {
			return nil, fmt.Errorf("the grammar %s: %w", ref, err)
		}
		r.await()
		return &recognise{r: r, note: env.Note}, nil
	}
}

// recognise is the operator.
type recognise struct {
	r    *recogniser
	note func(kind, text string)
}

// heard is what the reading goroutine delivers.
type heard struct {
	adu connectors.ADU
	err error
}

// Run listens until the end of the stream. One goroutine reads; this one owns the endpointer and the engine.
func (o *recognise) Run(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
	o.r.take()
	defer o.r.drop()
	ctx, cancel := context.WithCancel(ctx)
	adus := make(chan heard, readAhead) // sound not looked at yet
	done := make(chan struct{})
	go func() {
		defer close(done)
		read(ctx, in, adus)
	}()
	defer func() { cancel(); <-done }()

	l := listener{o: o, out: out, ends: audio.NewEndpointer(audio.EndpointConfig{Rate: hearRate})}
	pause := time.NewTimer(stalled)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case h := <-adus:
			if errors.Is(h.err, io.EOF) {
				return l.end(ctx)
			}
			if h.err != nil {
				return h.err
			}
			if err := l.take(ctx, h.adu); err != nil {
				return err
			}
			pause.Reset(stalled)
		case <-pause.C:
			if err := l.end(ctx); err != nil {
				return err
			}
		case <-o.r.dead():
			o.r.log.Warn("the recogniser ended by itself; starting another")
			if err := o.r.revive(ctx); err != nil {
				return err
			}
		}
	}
}

// read moves ADUs to the channel until the stream ends, which it reports last.
func read(ctx context.Context, in connectors.Reader, to chan<- heard) {
	for {
		a, err := in.Read(ctx)
		select {
		case to <- heard{a, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// listener cuts the stream into utterances and has them recognised.
type listener struct {
	o    *recognise
	out  connectors.Writer
	ends *audio.Endpointer
	next time.Duration // media time expected
}

func (l *listener) take(ctx context.Context, a connectors.ADU) error {
	samples := audio.Samples(nil, a.Payload)
	f := audio.Format{Rate: hearRate, Channels: 1}
	if gap := a.MediaTime - l.next; a.MediaTime != 0 && l.next != 0 && gap > time.Millisecond {
		if gap > maxGap {
			if err := l.end(ctx); err != nil {
				return err
			}
		} else {
			samples = append(make([]int16, int(gap*hearRate/time.Second)), samples...)
		}
	}
	l.next = a.MediaTime + f.Duration(int64(len(a.Payload)/2))
	for _, u := range l.ends.Push(samples) {
		if err := l.say(ctx, u); err != nil {
			return err
		}
	}
	if a.Mark&connectors.EndOfUtterance != 0 {
		return l.end(ctx)
	}
	return nil
}

// end takes what was said so far as the whole utterance.
func (l *listener) end(ctx context.Context) error {
	if u, ok := l.ends.End(); ok {
		return l.say(ctx, u)
	}
	return nil
}

func (l *listener) say(ctx context.Context, u audio.Utterance) error {
	text, err := l.o.r.hear(ctx, u.Samples)
	if err != nil {
		return err
	}
	if l.o.note != nil {
		l.o.note("recognised", text)
	}
	return l.out.Write(ctx, connectors.ADU{Payload: []byte(text), Mark: connectors.EndOfUtterance})
}

package speech

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"ninja/connectors"
	"ninja/internal/world"
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

// Onset is the event that the recogniser signals upstream when somebody begins to speak: to the microphone that the
// speech comes from. The unit whose microphone it is, when it plays sound as well, answers it with connectors.Flush on
// the hop that it hears the answer by (see Turn). So the user's voice silences the answer wherever in the path the answer
// is, and no operator or service between words and answer needs to know.
//
// It is an event of its own because it must drop nothing: what is on its way between the microphone and the recogniser is
// the speech itself. A unit that takes no events, or only hears or only speaks, is not interrupted.
const Onset connectors.EventKind = 16

// again is after how long a Flush is repeated: an operator that was held up by a full hop writes on when the first Flush
// has emptied that hop, until it gets to know of the Flush itself, a moment later.
// The repetition drops that too, before it has been played.
var again = [...]time.Duration{10 * time.Millisecond, 20 * time.Millisecond}

// Turn takes the events that reach a unit's microphone, until they or ctx end, and passes each Onset to flush as the
// Flush that silences the answer: flush is Signal of the hop that the same unit's loudspeaker reads from.
func Turn(ctx context.Context, events <-chan connectors.Event, flush func(connectors.Event) error) {
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			if e.Kind != Onset {
				continue
			}
			e.Kind = connectors.Flush
			_ = flush(e) // a hop that is gone plays nothing
			for _, d := range again {
				if world.Sleep(ctx, d) != nil {
					return
				}
				_ = flush(e)
			}
		case <-ctx.Done():
			return
		}
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

// waiting is how many utterances may wait for the engine; beyond it nothing more is listened to.
const waiting = 4

// Run listens until the end of the stream. One goroutine reads, one takes events; one owns the endpointer, so that the
// beginning of speech is seen while the engine thinks; and one owns the engine and writes.
func (o *recognise) Run(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
	o.r.take()
	defer o.r.drop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work, ctx := errgroup.WithContext(ctx)
	adus := make(chan heard, readAhead) // sound not looked at yet
	utterances := make(chan audio.Utterance, waiting)
	l := listener{
		ends: audio.NewEndpointer(audio.EndpointConfig{Rate: hearRate}), say: utterances,
		onset: func(at time.Duration) {
			_ = in.Signal(connectors.Event{Kind: Onset, Text: fmt.Sprintf("speech began before %v", at)})
		},
	}
	work.Go(func() error { read(ctx, in, adus); return nil })
	work.Go(func() error { shield(ctx, in, out.Events()); return nil })
	work.Go(func() error { defer close(utterances); return l.listen(ctx, adus) })
	work.Go(func() error { defer cancel(); return o.decode(ctx, utterances, out) })
	return work.Wait()
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

// shield passes events on upstream, but for Flush: what is asked to be dropped is the answer, and what lies above is what
// the user says.
func shield(ctx context.Context, in connectors.Reader, events <-chan connectors.Event) {
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			if e.Kind != connectors.Flush {
				_ = in.Signal(e) // upstream may be gone already
			}
		case <-ctx.Done():
			return
		}
	}
}

// decode has the utterances recognised until there are no more.
func (o *recognise) decode(ctx context.Context, utterances <-chan audio.Utterance, out connectors.Writer) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case u, ok := <-utterances:
			if !ok {
				return nil
			}
			text, err := o.r.hear(ctx, u.Samples)
			if err != nil {
				return err
			}
			if o.note != nil {
				o.note("recognised", text)
			}
			if err := out.Write(ctx, connectors.ADU{Payload: []byte(text), Mark: connectors.EndOfUtterance}); err != nil {
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

// listener cuts the stream into utterances.
type listener struct {
	ends  *audio.Endpointer
	say   chan<- audio.Utterance
	onset func(at time.Duration) // somebody begins to speak; at is the position in the stream

	next    time.Duration // media time expected
	samples int64         // of the stream so far
	speaks  bool
}

// listen takes the sound until the end of the stream.
func (l *listener) listen(ctx context.Context, adus <-chan heard) error {
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
		}
	}
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
	l.samples += int64(len(samples))
	done := l.ends.Push(samples)
	if speaks := l.ends.Speaking(); speaks != l.speaks {
		if l.speaks = speaks; speaks {
			l.onset(f.Duration(l.samples))
		}
	}
	for _, u := range done {
		if err := l.hand(ctx, u); err != nil {
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
	l.speaks = false
	if u, ok := l.ends.End(); ok {
		return l.hand(ctx, u)
	}
	return nil
}

// hand gives an utterance to the engine.
func (l *listener) hand(ctx context.Context, u audio.Utterance) error {
	select {
	case l.say <- u:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

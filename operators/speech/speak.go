package speech

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ninja/connectors"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/audio"
)

// Voices that arguments may name.
var (
	fliteVoices  = []string{"rms", "awb", "slt", "kal", "kal16"}
	espeakVoices = []string{"en-us", "en-gb", "de", "fr-fr", "es", "it"}
)

// voice speaks one sentence: a WAV comes back.
type voice func(ctx context.Context, sentence string) ([]byte, error)

// fliteFactory makes the operator for the argument "voice" of flite: rms, awb, slt (16 kHz), kal (8 kHz), kal16.
func fliteFactory(program string) operators.Factory {
	return speakFactory(fliteVoices, func(name string) voice {
		return func(ctx context.Context, sentence string) ([]byte, error) {
			// flite seeks in its output, which a pipe cannot.
			return run(ctx, sentence, true, program, "-voice", name, "-f", "/dev/stdin", "-o", "/proc/self/fd/3")
		}
	})
}

// espeakFactory makes the operator for the argument "voice" of espeak-ng (22,050 Hz).
func espeakFactory(program string) operators.Factory {
	return speakFactory(espeakVoices, func(name string) voice {
		return func(ctx context.Context, sentence string) ([]byte, error) {
			return run(ctx, sentence, false, program, "-v", name, "-b", "1", "--stdin", "--stdout")
		}
	})
}

// speakFactory makes text-to-speech operators: text/plain to audio/L16 at the voice's own rate. A sentence is spoken as
// soon as it is there; the last ADU of an answer, that is of text marked EndOfDocument or EndOfUtterance, is marked
// EndOfUtterance. Media time runs on from answer to answer.
func speakFactory(names []string, make func(name string) voice) operators.Factory {
	return func(_ context.Context, env operators.Env) (operators.Operator, error) {
		name := env.Args["voice"]
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("argument voice=%q: want one of %v", name, names)
		}
		f, err := audio.FormatOf(env.Out)
		if err != nil {
			return nil, err
		}
		s := &speak{say: make(name), format: f, note: env.Note, log: env.Log, now: env.World.Now}
		if s.log == nil {
			s.log = slog.New(slog.DiscardHandler)
		}
		return s, nil
	}
}

// speak is the operator.
type speak struct {
	say    voice
	format audio.Format
	note   func(kind, text string)
	log    *slog.Logger

	now func() time.Time

	flushes atomic.Int64 // how many flushes came; an answer that began before the last one is not spoken any more
	flushed atomic.Int64 // when the last one came, nanoseconds since 1970
	at      int64        // samples written
	open    bool         // sound of this answer was written, its mark was not
}

// remainder is how long after a flush the rest of the answer may still come in and is dropped. An answer is written in
// one burst; but its end may have been dropped above us, and the next answer must not be mistaken for its rest.
const remainder = time.Second

// settled is how long after a flush the end of the silenced answer is marked.
const settled = 100 * time.Millisecond

// text is what the reading goroutine delivers: an ADU, and how many flushes there had been when it came.
type text struct {
	heard
	flushes int64
}

// sentence is one that has been synthesised, or the end of all (io.EOF) or of the path.
type sentence struct {
	text    string
	samples []int16
	last    bool  // of its answer
	began   int64 // flushes when its answer began: after another one it is stale
	err     error
}

// Run speaks until the end of the stream. One goroutine reads, one synthesises a sentence ahead, so that there is no gap
// between sentences, one watches for flushes; this one writes.
func (s *speak) Run(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	texts := make(chan text, 64)     // not spoken yet
	sentences := make(chan sentence) // the one beside the one being written
	var work sync.WaitGroup
	work.Go(func() { s.read(ctx, in, texts) })
	work.Go(func() { s.synthesise(ctx, texts, sentences) })
	work.Go(func() { s.watch(ctx, in, out.Events()) })
	defer func() { cancel(); work.Wait() }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case n := <-sentences:
			if errors.Is(n.err, io.EOF) {
				return s.close(ctx, out)
			}
			if n.err != nil {
				return n.err
			}
			if err := s.utter(ctx, n, out); err != nil {
				return err
			}
		}
	}
}

// synthesise turns texts into sentences with their samples until the last, which reports the end.
func (s *speak) synthesise(ctx context.Context, texts <-chan text, to chan<- sentence) {
	var began int64 // flushes when the answer in progress began
	middle := false // of an answer: its mark has not come yet
	for {
		var t text
		select {
		case <-ctx.Done():
			return
		case t = <-texts:
		}
		if t.err == nil && (!middle || t.flushes > began && s.now().Sub(time.Unix(0, s.flushed.Load())) > remainder) {
			began = t.flushes
		}
		last := t.adu.Mark&(connectors.EndOfUtterance|connectors.EndOfDocument) != 0
		middle = !last
		for _, n := range s.sentences(ctx, t, last, began) {
			select {
			case to <- n():
			case <-ctx.Done():
				return
			}
		}
		if t.err != nil {
			return
		}
	}
}

// sentences are the sentences of one ADU, each synthesised when it is called for; at least one, which may be empty.
func (s *speak) sentences(ctx context.Context, t text, last bool, began int64) (all []func() sentence) {
	if t.err != nil {
		return []func() sentence{func() sentence { return sentence{err: t.err} }}
	}
	parts := Sentences(string(t.adu.Payload))
	for i, part := range parts {
		all = append(all, func() sentence {
			n := sentence{text: part, last: last && i == len(parts)-1, began: began}
			if s.flushes.Load() == began {
				n.samples, n.err = s.speak(ctx, part)
			}
			return n
		})
	}
	if len(parts) == 0 {
		all = append(all, func() sentence { return sentence{last: last, began: began} })
	}
	return all
}

// utter writes a sentence, unless a flush has come since its answer began, and marks the end of an answer.
func (s *speak) utter(ctx context.Context, n sentence, out connectors.Writer) error {
	stale := func() bool { return s.flushes.Load() > n.began }
	if !stale() && len(n.samples) > 0 {
		if s.note != nil {
			s.note("speaking", n.text)
		}
		if err := s.write(ctx, out, n.samples, n.last, stale); err != nil {
			return err
		}
	}
	if stale() {
		// Whoever flushes repeats it (see Turn): the mark must come behind the last one.
		if err := world.Sleep(ctx, settled-s.now().Sub(time.Unix(0, s.flushed.Load()))); err != nil {
			return err
		}
	}
	if stale() || n.last {
		return s.close(ctx, out)
	}
	return nil
}

// speak makes the samples of one sentence. A sentence that the engine fails over twice is left out: it must not end the
// path, on which the same sentence would come again.
func (s *speak) speak(ctx context.Context, sentence string) ([]int16, error) {
	var err error
	for range 2 {
		var wav []byte
		if wav, err = s.say(ctx, sentence); err != nil {
			if ctx.Err() != nil || errors.Is(err, errNotRunnable) {
				return nil, err
			}
			continue
		}
		f, samples, err := audio.ParseWAV(wav)
		if err == nil && f != s.format {
			err = fmt.Errorf("the voice speaks %d channels at %d Hz, and %d at %d Hz is wanted", f.Channels, f.Rate,
				s.format.Channels, s.format.Rate)
		}
		return samples, err
	}
	s.log.Warn("a sentence could not be spoken", "error", err)
	return nil, nil
}

// write writes a sentence's samples in ADUs of 20 ms until it is stale.
func (s *speak) write(ctx context.Context, out connectors.Writer, samples []int16, last bool, stale func() bool) (err error) {
	chunk := s.format.Chunk() * s.format.Channels
	for len(samples) > 0 && !stale() {
		n := min(chunk, len(samples))
		var mark connectors.Mark
		if last && n == len(samples) {
			mark = connectors.EndOfUtterance
		}
		if s.at, err = audio.WriteSpeech(ctx, out, s.format, s.at, samples[:n], mark); err != nil {
			return err
		}
		s.open = mark == 0
		samples = samples[n:]
	}
	return nil
}

// close marks the end of an answer of which something was written, when its own last ADU could not: with 20 ms of silence.
func (s *speak) close(ctx context.Context, out connectors.Writer) (err error) {
	if s.open {
		s.at, err = audio.WriteSpeech(ctx, out, s.format, s.at, nil, connectors.EndOfUtterance)
		s.open = false
	}
	return err
}

// read moves texts to the channel until the stream ends, which it reports last.
func (s *speak) read(ctx context.Context, in connectors.Reader, to chan<- text) {
	for {
		a, err := in.Read(ctx)
		select {
		case to <- text{heard{a, err}, s.flushes.Load()}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// watch counts flushes and passes all events on upstream.
func (s *speak) watch(ctx context.Context, in connectors.Reader, events <-chan connectors.Event) {
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			if e.Kind == connectors.Flush {
				s.flushed.Store(s.now().UnixNano())
				s.flushes.Add(1)
			}
			_ = in.Signal(e) // upstream may be gone already
		case <-ctx.Done():
			return
		}
	}
}

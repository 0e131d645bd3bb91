package speech

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/connectors/mem"
	"ninja/operators"
	"ninja/operators/audio"
)

// onsetOf hears samples in ADUs of 20 ms and returns where the recogniser's listener said that speech began, in samples.
func onsetOf(samples []int16) (at int64, signals int) {
	l := listener{ends: audio.NewEndpointer(audio.EndpointConfig{}), say: make(chan audio.Utterance, 100)}
	l.onset = func(d time.Duration) {
		if signals++; signals == 1 {
			at = int64(d) * hearRate / int64(time.Second)
		}
	}
	for len(samples) > 0 {
		n := min(len(samples), 320)
		if err := l.take(context.Background(), connectors.ADU{Payload: audio.Payload(nil, samples[:n])}); err != nil {
			panic(err)
		}
		samples = samples[n:]
	}
	return at, signals
}

// noisy lays noise under samples, as a line has.
func noisy(samples []int16, amplitude int) []int16 {
	r := rand.New(rand.NewPCG(1, 2))
	out := slices.Clone(samples)
	for i := range out {
		out[i] += int16(r.IntN(2*amplitude+1) - amplitude)
	}
	return out
}

// "A user who speaks silences the answer within 100 ms": in the stream's own time, the onset is told at most 80 ms after
// the first audible sample, by several voices, with and without noise; and neither silence nor a click is an onset.
func TestOnsetIsSeenSoon(t *testing.T) {
	const before = 600 * time.Millisecond
	var worst time.Duration
	for _, voice := range []string{"rms", "awb", "slt", "kal16"} {
		for _, words := range []string{"stop", "six fifteen main street", "twelve kirkwood highway", "nine oh five delaware avenue"} {
			speech := spoken(t, voice, words)
			begins := slices.IndexFunc(speech, func(s int16) bool { return s > 500 || s < -500 })
			for _, amplitude := range []int{0, 40} {
				sound := noisy(pad(speech, before, time.Second), amplitude)
				at, signals := onsetOf(sound)
				late := time.Duration(at-int64(begins))*time.Second/hearRate - before
				if signals != 1 {
					t.Errorf("%s %q: %d onsets, want 1", voice, words, signals)
				}
				if late > worst {
					worst = late
					t.Logf("%s %q, noise %d: told %v after the first sample", voice, words, amplitude, late)
				}
			}
		}
	}
	if worst > 80*time.Millisecond {
		t.Errorf("an onset was told %v after it, want 80ms at most", worst)
	}
	click := make([]int16, 2*hearRate)
	for i := range 160 { // 10 ms
		click[hearRate+i] = int16(8000 - 16000*(i/8%2))
	}
	for name, sound := range map[string][]int16{"silence": make([]int16, 2*hearRate), "a click": click, "noise": noisy(make([]int16, 2*hearRate), 40)} {
		if _, signals := onsetOf(sound); signals != 0 {
			t.Errorf("%s is taken for speech", name)
		}
	}
}

// upstream is a writer whose events an operator may take; those it does not take go past it, as in a path's host.
type upstream struct {
	connectors.Writer
	taken  atomic.Bool
	events *connectors.EventQueue
}

func (w *upstream) Events() <-chan connectors.Event { w.taken.Store(true); return w.events.C() }

func (w *upstream) forward(past connectors.Reader) {
	defer w.events.Close()
	for e := range w.Writer.Events() {
		if w.taken.Load() {
			w.events.Put(e)
		} else if past != nil {
			_ = past.Signal(e)
		}
	}
}

// call runs a path of operators joined by hops of the depth that a host gives them, from a source to a sink.
func call(t *testing.T, ctx context.Context, ops ...operators.Operator) (wait func()) {
	t.Helper()
	var running sync.WaitGroup
	var in connectors.Reader
	for i, op := range ops {
		var out connectors.Writer
		from := in
		if i < len(ops)-1 {
			w, r := mem.Pair(8)
			u := &upstream{Writer: w, events: connectors.NewEventQueue()}
			running.Go(func() { u.forward(from) })
			out, in = u, r
		}
		running.Go(func() {
			if err := op.Run(ctx, from, out); err != nil && ctx.Err() == nil {
				t.Errorf("operator %d: %v", i, err)
			}
			if out != nil {
				out.(*upstream).Writer.Close()
			}
			if from != nil {
				from.Close()
			}
		})
	}
	return running.Wait
}

// headset is a unit that speaks and hears, as a telephone does: what its microphone is told by an Onset, its loudspeaker
// asks of the path that it hears by.
type headset struct {
	said    []int16 // after the first 600 ms of an answer were heard
	flush   atomic.Pointer[func(connectors.Event) error]
	heard   chan struct{} // closed when 600 ms of the answer were heard
	spoke   atomic.Int64  // when the first audible sample was said
	lastly  atomic.Int64  // when the last sound of the answer was heard
	silence chan struct{} // closed when the answer has ended
}

func (h *headset) microphone(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
	go Turn(ctx, out.Events(), func(e connectors.Event) error { return (*h.flush.Load())(e) })
	question := pad(nil, 400*time.Millisecond, 0)
	f := audio.Format{Rate: hearRate, Channels: 1}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	script, interrupts := append(question, h.said...), false
	for at := int64(0); ; at += 320 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-h.heard:
			if !interrupts {
				script, interrupts = h.said, true
			}
		case <-h.silence:
			return nil
		default:
		}
		packet := make([]int16, 320)
		script = script[copy(packet, script):]
		if interrupts && h.spoke.Load() == 0 && slices.ContainsFunc(packet, func(s int16) bool { return s > 500 || s < -500 }) {
			h.spoke.Store(time.Now().UnixNano())
		}
		a := connectors.ADU{Payload: audio.Payload(nil, packet), MediaTime: f.Duration(at)}
		if err := out.Write(ctx, a); err != nil {
			return err
		}
	}
}

// loudspeaker plays an ADU each 20 ms, so that the answer waits in the path as it does before a real one.
func (h *headset) loudspeaker(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
	signal := in.Signal
	h.flush.Store(&signal)
	played := 0
	for {
		a, err := in.Read(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if speechEnd(audio.Samples(nil, a.Payload)) > 0 {
			h.lastly.Store(time.Now().UnixNano())
		}
		if played++; played == 30 {
			close(h.heard)
		}
		if a.Mark&connectors.EndOfUtterance != 0 && played > 30 {
			close(h.silence)
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Barge-in through a whole path: microphone, recogniser, a service that knows nothing of it, a voice, loudspeaker. The
// last sound of the answer is played within 100 ms of the first audible sample of the interruption. The median of three
// calls counts: other programs share the machine.
func TestBargeIn(t *testing.T) {
	stop := spoken(t, "rms", "twelve main street")
	stop = stop[slices.IndexFunc(stop, func(s int16) bool { return s > 500 || s < -500 }):]
	var took []time.Duration
	for range 3 {
		h := &headset{said: stop, heard: make(chan struct{}), silence: make(chan struct{})}
		answer := operators.Each(func(a connectors.ADU) (connectors.ADU, error) {
			a.Payload = []byte("This is a long answer, of many words, that nobody wants to hear to its end, as it goes on and on. " +
				"And then it has another sentence, just as long as the first one, which is never spoken.")
			a.Mark = connectors.EndOfDocument
			return a, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		wait := call(t, ctx,
			operators.Func(h.microphone), newRecognise(t), answer,
			makeOperator(t, "speak-flite", env(t, "text/plain;lang=en", "audio/L16;rate=16000;channels=1", map[string]string{"voice": "rms"})),
			operators.Func(h.loudspeaker))
		select {
		case <-h.silence:
		case <-ctx.Done():
			t.Error("the answer was not silenced")
		}
		cancel()
		wait()
		took = append(took, time.Duration(h.lastly.Load()-h.spoke.Load())+20*time.Millisecond) // until it is played
	}
	slices.Sort(took)
	t.Logf("silent %v after the first audible sample", took)
	if took[1] > 100*time.Millisecond {
		t.Errorf("the answer went on for %v, want 100ms at most", took[1])
	}
}

// A Flush that travels the whole way up stops below the recogniser: what lies above is what the user says.
func TestFlushSparesSpeech(t *testing.T) {
	first, last := start(t, newRecognise(t))
	words := "six fifteen main street"
	sound := pad(spoken(t, "rms", words), 400*time.Millisecond, time.Second)
	last.Signal(connectors.Event{Kind: connectors.Flush})
	last.Signal(connectors.Event{Kind: connectors.Fault, Text: "below"})
	feed(t, first, sound, 0)
	if got := next(t, last); string(got.Payload) != words {
		t.Errorf("heard %q, want %q", got.Payload, words)
	}
	// The fault and the onset come up by ways of their own, in either order; the flush does not.
	came := map[connectors.EventKind]bool{(<-first.events).Kind: true, (<-first.events).Kind: true}
	if !came[connectors.Fault] || !came[Onset] {
		t.Errorf("came up: %v, want the fault and the onset", came)
	}
}

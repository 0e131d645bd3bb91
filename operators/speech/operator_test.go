package speech

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/operators"
	"ninja/operators/audio"
)

const heardType = "text/plain;about=address;lang=en;grammar=" + ref

func newRecognise(t *testing.T) *recognise {
	t.Helper()
	return makeOperator(t, "recognise", env(t, "audio/L16;rate=16000;channels=1", heardType, nil)).(*recognise)
}

// feed writes samples as ADUs of 20 ms; the last one gets the mark.
func feed(t *testing.T, p *pipe, samples []int16, mark connectors.Mark) {
	t.Helper()
	if _, err := audio.WriteSpeech(context.Background(), p, audio.Format{Rate: hearRate, Channels: 1}, 0, samples, mark); err != nil {
		t.Error(err)
	}
}

func next(t *testing.T, p *pipe) connectors.ADU {
	t.Helper()
	select {
	case a, ok := <-p.adus:
		if !ok {
			t.Fatal("the stream ended")
		}
		return a
	case <-time.After(15 * time.Second):
		t.Fatal("nothing came in 15 s")
	}
	panic("not reached")
}

// "A crash of the engine kills neither proxy nor path": killed while idle and killed over an utterance, it is started
// again and hears what was said.
func TestEngineIsKilled(t *testing.T) {
	op := newRecognise(t)
	words := "six fifteen main street"
	sound := pad(spoken(t, "rms", words), 400*time.Millisecond, time.Second)

	op.r.take()
	old := op.r.engine
	syscall.Kill(old.cmd.Process.Pid, syscall.SIGKILL)
	<-old.dead
	if got, err := op.r.hear(t.Context(), sound); err != nil || got != words {
		t.Errorf("after a kill while idle: %q %v", got, err)
	}

	second := op.r.engine
	if second == old || second == nil {
		t.Fatal("no other engine was started")
	}
	// Stopped, it takes the utterance and does not answer; then it is killed over it.
	syscall.Kill(second.cmd.Process.Pid, syscall.SIGSTOP)
	killed := time.AfterFunc(100*time.Millisecond, func() { syscall.Kill(second.cmd.Process.Pid, syscall.SIGKILL) })
	defer killed.Stop()
	if got, err := op.r.hear(t.Context(), sound); err != nil || got != words {
		t.Errorf("after a kill over the utterance: %q %v", got, err)
	}
	op.r.drop()
}

// The running operator notices by itself that its engine is dead.
func TestOperatorOutlivesItsEngine(t *testing.T) {
	op := newRecognise(t)
	pid := op.r.engine.cmd.Process.Pid
	first, last := start(t, op)
	words := "nine oh five delaware avenue"
	sound := pad(spoken(t, "rms", words), 400*time.Millisecond, time.Second)
	var fed sync.WaitGroup
	fed.Go(func() { feed(t, first, sound, 0) })
	defer fed.Wait() // before the pipe is closed
	syscall.Kill(pid, syscall.SIGKILL)
	if got := next(t, last); string(got.Payload) != words {
		t.Errorf("heard %q, want %q", got.Payload, words)
	}
}

// Speech that the grammar does not allow becomes an empty text, silence nothing; and a mark, a pause and the end of the
// stream end an utterance that has no silence after it.
func TestUnheardAndEnds(t *testing.T) {
	first, last := start(t, newRecognise(t))
	words := "twelve kirkwood highway"
	feed(t, first, pad(spoken(t, "rms", words), 400*time.Millisecond, 0), connectors.EndOfUtterance)
	if got := next(t, last); string(got.Payload) != words || got.Mark != connectors.EndOfUtterance {
		t.Errorf("ended by a mark: %q, want %q", got.Payload, words)
	}
	sound := spoken(t, "rms", words)
	feed(t, first, pad(sound, 400*time.Millisecond, 0)[:6400+speechEnd(sound)], 0)
	if got := next(t, last); string(got.Payload) != words {
		t.Errorf("ended by a pause of the stream: %q, want %q", got.Payload, words)
	}
	feed(t, first, pad(nil, 2*time.Second, 0), 0)
	feed(t, first, pad(spoken(t, "rms", "banana"), 0, time.Second), 0)
	if got := next(t, last); len(got.Payload) != 0 || got.Mark != connectors.EndOfUtterance {
		t.Errorf("banana is heard as %q", got.Payload)
	}
	feed(t, first, pad(sound, 400*time.Millisecond, 0)[:6400+speechEnd(sound)], 0)
	first.Close()
	if got := next(t, last); string(got.Payload) != words {
		t.Errorf("ended by the end: %q, want %q", got.Payload, words)
	}
	if a, ok := <-last.adus; ok {
		t.Errorf("and then %+v", a)
	}
}

func TestRecogniserRefusesGrammars(t *testing.T) {
	laughs := "#JSGF V1.0;\ngrammar x;\npublic <x> = <a0>;\n<a30> = one;\n"
	for i := range 30 {
		laughs += fmt.Sprintf("<a%d> = <a%d> <a%d>;\n", i, i+1, i+1)
	}
	for name, grammar := range map[string]string{
		"not JSGF": "hello world", "no public rule": "#JSGF V1.0;\ngrammar x;\n<x> = one;",
		"undefined rule": "#JSGF V1.0;\ngrammar x;\npublic <x> = <nowhere>;", "billion laughs": laughs, "odd words": "#JSGF V1.0;\ngrammar x;\npublic <x> = `reboot`;",
	} {
		e := env(t, "audio/L16;rate=16000;channels=1", heardType, nil)
		e.Data = func(context.Context, string) ([]byte, error) { return []byte(grammar), nil }
		op, err := registry().Make(t.Context(), "recognise", e)
		if err == nil {
			op.(*recognise).r.drop()
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), "grammar") {
			t.Errorf("%s: %v", name, err)
		}
	}
	e := env(t, "audio/L16;rate=16000;channels=1", heardType, nil)
	var r operators.Registry
	Register(&r, Programs{Recogniser: "/nonexistent/ninja-recognise"})
	if _, err := r.Make(t.Context(), "recognise", e); err == nil || !strings.Contains(err.Error(), "build it with make") {
		t.Errorf("without its program: %v", err)
	}
}

// Every voice speaks: 20 ms ADUs, media time without a gap, one mark at the end of the answer, real sound.
func TestVoicesSpeak(t *testing.T) {
	for _, v := range []struct {
		program, voice string
		rate           int
		out            string
	}{
		{"speak-flite", "rms", 16000, "audio/L16;rate=16000;channels=1"}, {"speak-flite", "kal", 8000, "audio/L16;rate=8000;channels=1"},
		{"speak-espeak", "en-us", 22050, "audio/L16;rate=22050;channels=1"}, {"speak-espeak", "de", 22050, "audio/L16;rate=22050;channels=1"},
	} {
		op := makeOperator(t, v.program, env(t, "text/plain;lang=en", v.out, map[string]string{"voice": v.voice}))
		first, last := start(t, op)
		began := time.Now()
		first.Write(t.Context(), connectors.ADU{Payload: []byte("Turn left onto Main Street. Then stop.")})
		first.Write(t.Context(), connectors.ADU{Payload: []byte("-e --help; rm *"), Mark: connectors.EndOfDocument})
		f, at := audio.Format{Rate: v.rate, Channels: 1}, int64(0)
		var samples []int16
		var soon time.Duration
		for {
			a := next(t, last)
			if at == 0 {
				soon = time.Since(began)
			}
			if a.MediaTime != f.Duration(at) || len(a.Payload) > v.rate/50*2 {
				t.Fatalf("%s: an ADU of %d bytes at %v, want it at %v", v.voice, len(a.Payload), a.MediaTime, f.Duration(at))
			}
			samples = audio.Samples(samples, a.Payload)
			at += int64(len(a.Payload) / 2)
			if a.Mark != 0 {
				break
			}
		}
		if d := f.Duration(at); d < 2*time.Second || d > 8*time.Second || speechEnd(samples) < int(at)/2 {
			t.Errorf("%s: %v of sound", v.voice, d)
		}
		t.Logf("%s %s: first sample after %v, %v of sound, %s", v.program, v.voice, soon, f.Duration(at), audio.Level(samples))
		first.Close()
		if a, ok := <-last.adus; ok {
			t.Errorf("%s: more after the mark: %+v", v.voice, a)
		}
	}
}

// A user who speaks silences the answer: what is left of it is dropped, its end is marked, and the next one is spoken.
func TestFlushSilences(t *testing.T) {
	e := env(t, "text/plain;lang=en", "audio/L16;rate=16000;channels=1", map[string]string{"voice": "rms"})
	var spokenSentences []string
	e.Note = func(_, text string) { spokenSentences = append(spokenSentences, text) }
	first, last := start(t, makeOperator(t, "speak-flite", e))
	for _, s := range []string{"This is the first sentence of an answer.", "This is the second one.", "This is the third one."} {
		first.Write(t.Context(), connectors.ADU{Payload: []byte(s)})
	}
	if a := next(t, last); a.Mark != 0 {
		t.Fatalf("the first ADU is marked %v", a.Mark)
	}
	last.Signal(connectors.Event{Kind: connectors.Flush})
	if e := <-first.events; e.Kind != connectors.Flush {
		t.Errorf("passed upstream: %+v", e)
	}
	first.Write(t.Context(), connectors.ADU{Payload: []byte("This is the end of it."), Mark: connectors.EndOfDocument})
	first.Write(t.Context(), connectors.ADU{Payload: []byte("Another answer."), Mark: connectors.EndOfDocument})
	marks, adus := 0, 0
	for marks < 2 {
		a := next(t, last)
		if adus++; a.Mark != 0 {
			marks++
		}
	}
	first.Close()
	drain(last)
	want := "This is the first sentence of an answer.|Another answer."
	if got := strings.Join(spokenSentences, "|"); got != want {
		t.Errorf("spoken: %s, want %s", got, want)
	}
	// The hop held 64 ADUs when the flush came; the first sentence alone is longer.
	if adus > 64+2+75 {
		t.Errorf("%d ADUs after the flush", adus)
	}
}

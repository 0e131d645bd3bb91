package speech

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/audio"
)

// pipe is a hop inside a test.
type pipe struct {
	adus   chan connectors.ADU
	events chan connectors.Event
	once   sync.Once
}

func newPipe() *pipe {
	return &pipe{adus: make(chan connectors.ADU, 64), events: make(chan connectors.Event, 8)}
}

func (p *pipe) Write(ctx context.Context, a connectors.ADU) error {
	select {
	case p.adus <- a:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipe) Read(ctx context.Context) (connectors.ADU, error) {
	select {
	case a, ok := <-p.adus:
		if !ok {
			return a, io.EOF
		}
		return a, nil
	case <-ctx.Done():
		return connectors.ADU{}, ctx.Err()
	}
}

func (p *pipe) Events() <-chan connectors.Event { return p.events }
func (p *pipe) Signal(e connectors.Event) error { p.events <- e; return nil }
func (p *pipe) Close() error                    { p.once.Do(func() { close(p.adus) }); return nil }

const ref = "map@sha256:0000000000000000000000000000000000000000000000000000000000000000"

const addresses = `#JSGF V1.0;
grammar address;
public <address> = <number> <street>;
<digit> = one | two | three | four | five | six | seven | eight | nine;
<teen> = ten | eleven | twelve | thirteen | fourteen | fifteen | sixteen | seventeen | eighteen | nineteen;
<tens> = twenty | thirty | forty | fifty | sixty | seventy | eighty | ninety;
<two> = <digit> | <teen> | <tens> [ <digit> ];
<number> = <two> [ <two> ] | <digit> oh <digit> | <digit> hundred [ <two> ];
<street> = main street | kirkwood highway | delaware avenue | elkton road | christina parkway | cleveland avenue | chapel street
  | college avenue | park place | orchard road | amstel avenue | haines street | lovett avenue | barksdale road;
`

// env is what operators are made in here.
func env(t *testing.T, in, out string, args map[string]string) operators.Env {
	e := operators.Env{World: world.Real(), Args: args,
		Data: func(_ context.Context, r string) ([]byte, error) { return []byte(addresses), nil },
		Note: func(kind, text string) { t.Logf("%s: %q", kind, text) }}
	if in != "" {
		e.In = connectors.MustType(in)
	}
	if out != "" {
		e.Out = connectors.MustType(out)
	}
	return e
}

func registry() *operators.Registry {
	r := &operators.Registry{}
	audio.Register(r)
	Register(r, Programs{Recogniser: recogniserPath})
	return r
}

func makeOperator(t *testing.T, program string, e operators.Env) operators.Operator {
	t.Helper()
	op, err := registry().Make(context.Background(), program, e)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// start joins operators by pipes and runs them until the first pipe is closed.
func start(t *testing.T, ops ...operators.Operator) (first, last *pipe) {
	t.Helper()
	first = newPipe()
	in := first
	var wg sync.WaitGroup
	for _, op := range ops {
		from, to := in, newPipe()
		wg.Go(func() {
			if err := op.Run(context.Background(), from, to); err != nil {
				t.Errorf("run: %v", err)
			}
			to.Close()
		})
		in = to
	}
	t.Cleanup(func() { first.Close(); drain(in); wg.Wait() })
	return first, in
}

func drain(p *pipe) {
	for range p.adus {
	}
}

// spoken is text spoken by a voice of flite, 16 kHz.
func spoken(t *testing.T, voice, text string) []int16 {
	t.Helper()
	wav, err := run(context.Background(), text, true, "flite", "-voice", voice, "-f", "/dev/stdin", "-o", "/proc/self/fd/3")
	if err != nil {
		t.Fatal(err)
	}
	_, samples, err := audio.ParseWAV(wav)
	if err != nil {
		t.Fatal(err)
	}
	return samples
}

// pad puts silence before and after.
func pad(samples []int16, before, after time.Duration) []int16 {
	at := func(d time.Duration) []int16 { return make([]int16, int(d*hearRate/time.Second)) }
	return slices.Concat(at(before), samples, at(after))
}

// speechEnd is where the last sample lies that is louder than a whisper.
func speechEnd(samples []int16) int {
	for i := len(samples) - 1; i >= 0; i-- {
		if samples[i] > 300 || samples[i] < -300 {
			return i + 1
		}
	}
	return 0
}

// The speech path of section 7.1 from the telephone to the words: nothing in it knows the words but the grammar.
func TestSpokenAddressThroughTelephone(t *testing.T) {
	phone := audio.Format{Rate: 8000, Channels: 1}
	narrow, err := audio.NewResampler(16000, 8000, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	law := audio.MuLaw()
	first, last := start(t,
		makeOperator(t, "mulaw-decode", env(t, "audio/PCMU;rate=8000;channels=1", "audio/L16;rate=8000;channels=1", nil)),
		makeOperator(t, "resample", env(t, "audio/L16;rate=8000;channels=1", "audio/L16;rate=16000;channels=1", nil)),
		makeOperator(t, "recognise", env(t, "audio/L16;rate=16000;channels=1", "text/plain;about=address;lang=en;grammar="+ref, nil)))
	at := int64(0)
	for _, words := range []string{"six fifteen main street", "twenty two twelve kirkwood highway", "four oh one christina parkway"} {
		wide := pad(spoken(t, "rms", words), 300*time.Millisecond, time.Second)
		samples := narrow.Process(nil, wide)
		for len(samples) >= 160 {
			a := connectors.ADU{Payload: law.Encode(audio.Payload(nil, samples[:160])), MediaTime: phone.Duration(at)}
			first.Write(context.Background(), a)
			samples, at = samples[160:], at+160
		}
		select {
		case a := <-last.adus:
			if string(a.Payload) != words || a.Mark != connectors.EndOfUtterance {
				t.Errorf("heard %q (mark %v), want %q", a.Payload, a.Mark, words)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing heard of %q", words)
		}
	}
}

// Sixteen addresses straight into the engine, and how soon their ends are seen.
func TestRecognitionAndEndpoint(t *testing.T) {
	op := makeOperator(t, "recognise", env(t, "audio/L16;rate=16000;channels=1", "text/plain;about=address;lang=en;grammar="+ref, nil)).(*recognise)
	op.r.take()
	defer op.r.drop()
	numbers := strings.Split("six fifteen,twelve,nine oh five,three hundred,seventy one,twenty two twelve,forty,eight hundred sixteen", ",")
	streets := strings.Split("main street,kirkwood highway,delaware avenue,elkton road,cleveland avenue,orchard road,haines street,barksdale road", ",")
	exact, n := 0, 0
	var worst, decode time.Duration
	for _, voice := range []string{"rms", "awb"} {
		for i, street := range streets {
			words := numbers[i] + " " + street
			sound := pad(spoken(t, voice, words), 400*time.Millisecond, time.Second)
			ends := audio.NewEndpointer(audio.EndpointConfig{})
			var got []audio.Utterance
			for at := 0; at < len(sound) && got == nil; at += 320 {
				got = ends.Push(sound[at:min(at+320, len(sound))])
				if got != nil {
					worst = max(worst, time.Duration(at+320-speechEnd(sound))*time.Second/hearRate)
				}
			}
			if len(got) != 1 {
				t.Errorf("%s %q: %d utterances, want 1", voice, words, len(got))
				continue
			}
			began := time.Now()
			text, err := op.r.hear(context.Background(), got[0].Samples)
			if err != nil {
				t.Fatal(err)
			}
			decode = max(decode, time.Since(began))
			if n++; text == words {
				exact++
			} else {
				t.Logf("%s: %q heard as %q", voice, words, text)
			}
		}
	}
	t.Logf("%d of %d exact; end seen at most %v after the speech; decoding at most %v", exact, n, worst, decode)
	if exact < n-1 {
		t.Errorf("%d of %d heard exactly", exact, n)
	}
	if worst > 400*time.Millisecond {
		t.Errorf("the end of an utterance was seen %v after it, want 400ms at most", worst)
	}
}

package golden

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ninja/connectors"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/audio"
	"ninja/operators/text"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var words1 = strings.Fields("eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn")

var words2 = strings.Fields("one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen")

// dictionary is what an honest translator does.
func dictionary(s string) string {
	out := strings.Fields(s)
	for i, w := range out {
		for k := range words1 {
			if words1[k] == w {
				out[i] = words2[k]
			}
		}
	}
	return strings.Join(out, " ")
}

// german is the set of the owner of the pair: samples kept, and samples that are new each time.
func german() *Set {
	set := &Set{In: connectors.MustType("text/plain;lang=de"), Out: connectors.MustType("text/plain;lang=en"), Judge: Words}
	for i := range 12 {
		in := words1[i] + " " + words1[i+2] + " " + words1[i+5]
		set.Samples = append(set.Samples, Text(in, dictionary(in)))
	}
	set.Fresh = func(w world.World) Sample {
		var in []string
		for range 4 {
			in = append(in, words1[w.Uint64()%uint64(len(words1))])
		}
		return Text(strings.Join(in, " "), dictionary(strings.Join(in, " ")))
	}
	return set
}

func spec(name string, latency time.Duration) operators.Spec {
	return operators.Spec{Name: name, Program: name, In: operators.MustPattern("text/plain;lang=de"), Out: operators.MustPattern("text/plain;lang=en"),
		Cost: operators.Cost{CPU: 0.1, Latency: operators.Latency(latency), Quality: 0.95}}
}

// translator is a subject that turns each request into an answer.
func translator(name string, f func(s string) (string, error)) Subject {
	return Subject{spec(name, 100*time.Millisecond), func(context.Context, operators.Env) (operators.Operator, error) {
		return operators.Each(func(a connectors.ADU) (connectors.ADU, error) {
			out, err := f(string(a.Payload))
			a.Payload = []byte(out)
			return a, err
		}), nil
	}}
}

func honest() Subject {
	return translator("honest", func(s string) (string, error) { return dictionary(s), nil })
}

// Threat 24: "the translator that always says the same is refused", and so are its relatives; the honest one is not.
func TestLiarsAreRefused(t *testing.T) {
	kept := german()
	memory := map[string]string{}
	for _, s := range kept.Samples {
		memory[string(s.In[0])] = string(s.Want[0])
	}
	requests, liars, refused, honestPassed := 0, 0, 0, false
	defer func() {
		t.Logf("PROVE %d operators that lie about themselves: %d refused; the honest one passed: %v", liars, refused, honestPassed)
	}()
	for _, c := range []struct {
		s    Subject
		want string
	}{
		{honest(), ""},
		{translator("always the same", func(string) (string, error) { return "one two three", nil }), "same answer"},
		{translator("all words", func(string) (string, error) { return strings.Join(words2, " "), nil }), "same answer"},
		{translator("echo", func(s string) (string, error) { return s, nil }), "quality"},
		{translator("nothing", func(string) (string, error) { return "", nil }), "same answer"},
		{translator("knows the kept samples", func(s string) (string, error) { return memory[s], nil }), "quality"},
		{translator("good at first", func(s string) (string, error) {
			if requests++; requests <= 4 {
				return dictionary(s), nil
			}
			return "one", nil
		}), "quality"},
		{translator("fails", func(string) (string, error) { return "", errors.New("no dictionary") }), "no dictionary"},
		{translator("panics", func(string) (string, error) { panic("no dictionary") }), "panicked"},
		{translator("slow", func(s string) (string, error) { time.Sleep(350 * time.Millisecond); return dictionary(s), nil }), "latency"},
		{Subject{spec("hangs", time.Second), func(context.Context, operators.Env) (operators.Operator, error) {
			return operators.Func(func(ctx context.Context, _ connectors.Reader, _ connectors.Writer) error {
				<-ctx.Done()
				return ctx.Err()
			}), nil
		}}, "no end of its output"},
		{Subject{spec("babbles", time.Second), func(context.Context, operators.Env) (operators.Operator, error) {
			return operators.Func(func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
				for {
					if err := out.Write(ctx, connectors.ADU{Payload: make([]byte, 100)}); err != nil {
						return err
					}
				}
			}), nil
		}}, "has no end"},
		{Subject{spec("leaves", time.Second), func(context.Context, operators.Env) (operators.Operator, error) {
			return operators.Func(func(context.Context, connectors.Reader, connectors.Writer) error { return nil }), nil
		}}, "ended before its input"},
		{Subject{spec("cannot be made", time.Second), func(context.Context, operators.Env) (operators.Operator, error) {
			return nil, errors.New("no engine")
		}}, "no engine"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, err := Check(t.Context(), Config{World: world.Real(), Patience: 5 * time.Second}, c.s, german())
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(r.Against, "; "); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("%s: %q, want %q", c.s.Spec.Name, got, c.want)
			}
			switch {
			case c.want == "":
				honestPassed = r.Passed()
			case !r.Passed():
				refused++
				fallthrough
			default:
				liars++
			}
			if c.want == "" && (r.Samples != 16 || r.Quality != 1 || r.Worst != 1 || r.P99 < r.P50) {
				t.Errorf("%s", r)
			}
			if strings.Contains(r.String(), "passed") != r.Passed() {
				t.Errorf("says %q", r)
			}
		})
	}
}

func TestTypesAreChecked(t *testing.T) {
	s := honest()
	s.Spec.Out = operators.MustPattern("text/plain;lang=fr")
	if _, err := Check(t.Context(), Config{World: world.Real()}, s, german()); err == nil || !strings.Contains(err.Error(), "lang") {
		t.Errorf("a translator to French: %v", err)
	}
	set := german()
	set.Samples, set.Fresh = nil, nil
	if _, err := Check(t.Context(), Config{World: world.Real()}, honest(), set); err == nil {
		t.Error("passed without samples")
	}
}

// Samples come in another order each time, and all before any comes again.
func TestDraw(t *testing.T) {
	set := german()
	set.Fresh = nil
	seen := map[string]int{}
	for range 6 {
		for _, s := range set.Draw(world.Real(), 4) {
			seen[string(s.In[0])]++
		}
	}
	for in, n := range seen {
		if n != 2 {
			t.Errorf("%q was drawn %d times of 24 out of 12", in, n)
		}
	}
	if n := len(set.Draw(world.Real(), 100)); n != 12 {
		t.Errorf("%d drawn of 12", n)
	}
}

// An operator that turns bad in service is found out at the next examination.
func TestInspectorFindsTheFallen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fallen atomic.Bool
		turns := translator("turns", func(s string) (string, error) {
			if fallen.Load() {
				return "buy more", nil
			}
			return dictionary(s), nil
		})
		set := german()
		reports := make(chan *Report)
		i, err := NewInspector(InspectorConfig{
			Check: Config{World: world.Real()}, Period: time.Minute,
			Subjects: func() []Subject { return []Subject{turns} },
			Set:      func(Subject) *Set { return set },
			Verdict:  func(_ Subject, r *Report) { reports <- r },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- i.Run(ctx) }()
		for range 3 {
			if r := <-reports; !r.Passed() || r.Samples != 4 {
				t.Errorf("while honest: %s", r)
			}
		}
		fallen.Store(true)
		at := time.Now()
		if r := <-reports; r.Passed() {
			t.Errorf("when fallen: %s", r)
		}
		if after := time.Since(at); after > 90*time.Second {
			t.Errorf("found out after %v", after)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// "Cross-checked": among operators of one pair, the one that differs stands out without any wanted output.
func TestCompare(t *testing.T) {
	set := german()
	for i := range set.Samples {
		set.Samples[i].Want = nil
	}
	set.Fresh = nil
	almost := translator("almost", func(s string) (string, error) { return strings.Replace(dictionary(s), "seven", "sevn", 1), nil })
	liar := translator("liar", func(string) (string, error) { return "one two three", nil })
	reports, err := Compare(t.Context(), Config{World: world.Real()}, []Subject{honest(), almost, liar, honest()}, set)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reports {
		if r.Passed() != (r.Operator != "liar") {
			t.Errorf("%s", r)
		}
	}
	if _, err := Compare(t.Context(), Config{World: world.Real()}, []Subject{honest(), liar}, set); err == nil {
		t.Error("two were compared")
	}
}

// Operators that are really there: numbers in words, and the telephone's law there and back.
func TestBuiltInOperators(t *testing.T) {
	var r operators.Registry
	text.Register(&r)
	audio.Register(&r)
	numbers := &Set{
		In: connectors.MustType("text/plain;about=x;lang=en"), Out: connectors.MustType("text/plain;about=x;lang=en;numbers=words"), Judge: Exact,
		Fresh: func(w world.World) Sample {
			n := int(w.Uint64() % 1000)
			return Text(fmt.Sprintf("drive %d miles", n), "drive "+text.Number(n)+" miles")
		},
	}
	s := operators.Spec{Name: "numbers-to-words", Program: "numbers-to-words", In: operators.MustPattern("text/plain;about=$a;lang=en"),
		Out: operators.MustPattern("text/plain;about=$a;lang=en;numbers=words"), Cost: operators.Cost{Latency: operators.Latency(time.Second), Quality: 1}}
	got, err := Check(t.Context(), Config{World: world.Real()}, In(&r, s), numbers)
	if err != nil || !got.Passed() {
		t.Errorf("%v %v", got, err)
	}
	t.Logf("%s", got)

	law, f := audio.MuLaw(), audio.Format{Rate: 8000, Channels: 1}
	sound := &Set{In: connectors.MustType("audio/PCMU;rate=8000;channels=1"), Out: connectors.MustType("audio/L16;rate=8000;channels=1"),
		Judge: Sound(f), Stream: true, Fresh: func(w world.World) Sample { return tone(law, 200+float64(w.Uint64()%2000)) }}
	for program, good := range map[string]bool{"mulaw-decode": true, "alaw-decode": false} {
		s := operators.Spec{Name: program, Program: program, In: operators.MustPattern("audio/PCMU;rate=$r;channels=$c"),
			Out: operators.MustPattern("audio/L16;rate=$r;channels=$c"), Cost: operators.Cost{Latency: operators.Latency(time.Second), Quality: 0.97}}
		got, err := Check(t.Context(), Config{World: world.Real(), Samples: 4}, In(&r, s), sound)
		if err != nil || got.Passed() != good {
			t.Errorf("%v %v", got, err)
		}
		t.Logf("%s", got)
	}
}

// tone is half a second of a sine in mu-law, and as it should come out.
func tone(law *audio.Law, hertz float64) Sample {
	var s Sample
	for packet := range 25 {
		wave := make([]int16, 160)
		for i := range wave {
			wave[i] = int16(12000 * math.Sin(2*math.Pi*hertz*float64(packet*160+i)/8000))
		}
		p := audio.Payload(nil, wave)
		s.Want = append(s.Want, p)
		s.In = append(s.In, law.Encode(bytes.Clone(p)))
	}
	return s
}

// Judges stay between 0 and 1 and know what is the same.
func FuzzJudges(f *testing.F) {
	f.Add([]byte("one two three"), []byte("one two"))
	f.Add([]byte(nil), []byte{255, 0, 1})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for name, j := range map[string]Judge{"exact": Exact, "words": Words, "sound": Sound(audio.Format{Rate: 4000, Channels: 1})} {
			if len(a)+len(b) > 4000 {
				return
			}
			if q := j([][]byte{a}, [][]byte{b}); !(q >= 0 && q <= 1.0000001) {
				t.Errorf("%s: %v", name, q)
			}
			if q := j([][]byte{a}, [][]byte{a}); name != "sound" && q != 1 {
				t.Errorf("%s of the same: %v", name, q)
			}
		}
	})
}

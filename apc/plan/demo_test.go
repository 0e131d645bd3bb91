package plan

import (
	"context"
	"errors"
	"testing"
	"time"

	"ninja/ca"
	"ninja/operators"
)

const (
	proxy1 = ca.ID("spiffe://example.org/proxy/one")
	proxy2 = ca.ID("spiffe://example.org/proxy/two")
	baseA  = ca.ID("spiffe://example.org/base/a")
	phone  = ca.ID("spiffe://example.org/unit/phone")
)

func op(name, in, out string, lat time.Duration, cpu float64, mem int64, places ...ca.ID) Operator {
	o := Operator{Name: name, Spec: operators.Spec{Name: name, Program: name, Cost: operators.Cost{
		CPU: cpu, Latency: operators.Latency(lat), Memory: mem,
	}}}
	if in != "" {
		o.Spec.In = operators.MustPattern(in)
	}
	if out != "" {
		o.Spec.Out = operators.MustPattern(out)
	}
	for _, n := range places {
		o.Places = append(o.Places, Place{Node: n})
	}
	return o
}

const grammar = "spiffe://example.org/base/a#map@sha256:0000000000000000000000000000000000000000000000000000000000000000"

// demoParts are the parts of section 7.1's example, with rivals.
func demoParts() Parts {
	both := []ca.ID{proxy1, proxy2}
	mic := op("phone/microphone", "", "audio/PCMU;rate=8000;channels=1", 0, 0, 0, phone)
	speaker := op("phone/speaker", "audio/PCMU;rate=8000;channels=1", "", 0, 0, 0, phone)
	mic.Fixed, speaker.Fixed = true, true
	dir := op("map/directions", "text/plain;about=address;grammar="+grammar+";lang=en", "application/xml;about=directions;form=answer;lang=en", 30*time.Millisecond, 0.02, 200<<20, baseA)
	dir.Fixed, dir.Kind = true, "map-directions"
	p := Parts{
		Nodes: []Node{
			{ID: proxy1, Load: 0.5, Cores: 2, Memory: 1 << 30}, {ID: proxy2, Load: 0.1, Cores: 2, Memory: 1 << 30},
			{ID: baseA, Cores: 2, Memory: 1 << 30, Transports: []string{"mem", "tcp"}}, {ID: phone, Transports: []string{"rtp"}},
		},
		Operators: []Operator{
			mic, speaker, dir,
			op("pcmu-decode", "audio/PCMU;rate=$r;channels=$c", "audio/L16;rate=$r;channels=$c", time.Microsecond, 0.001, 1<<20, both...),
			op("pcmu-encode", "audio/L16;rate=$r;channels=$c", "audio/PCMU;rate=$r;channels=$c", time.Microsecond, 0.001, 1<<20, both...),
			op("pcma-decode", "audio/PCMA;rate=$r;channels=$c", "audio/L16;rate=$r;channels=$c", time.Microsecond, 0.001, 1<<20, both...),
			op("pcma-encode", "audio/L16;rate=$r;channels=$c", "audio/PCMA;rate=$r;channels=$c", time.Microsecond, 0.001, 1<<20, both...),
			op("resample", "audio/L16;rate=$f:4000..192000;channels=$c", "audio/L16;rate=$t:4000..192000;channels=$c", 2*time.Millisecond, 0.01, 1<<20, both...),
			op("speech-to-text", "audio/L16;rate=16000;channels=1", "text/plain;about=$a;grammar=$g;lang=en", 250*time.Millisecond, 0.5, 64<<20, both...),
			op("answer-to-text", "application/xml;about=$a;form=answer;lang=$l", "text/plain;about=$a;lang=$l", time.Millisecond, 0.001, 1<<20, both...),
			op("text-to-speech", "text/plain;about=$a;lang=en", "audio/L16;rate=22050;channels=1", 20*time.Millisecond, 0.1, 32<<20, both...),
			op("upper-case", "text/plain;about=$a;lang=$l", "text/plain;about=$a;lang=$l", time.Millisecond, 0.001, 1<<20, both...),
			op("stereo", "audio/L16;rate=$r;channels=1", "audio/L16;rate=$r;channels=2", time.Millisecond, 0.001, 1<<20, both...),
		},
	}
	return p
}

func demo(t testing.TB) *Catalogue {
	t.Helper()
	c, err := NewCatalogue(demoParts())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func demoRequest() Request {
	return Request{From: "phone/microphone", To: "phone/speaker", Include: []Requirement{{Label: "?map-directions", Any: []string{"map/directions"}}}}
}

// "The APC facility searches through the XML descriptions of the operators, to find valid sequences that could perform
// the computation requested by the user" (section 7.2).
func TestTheExampleOfThePaper(t *testing.T) {
	p, err := demo(t).Plan(context.Background(), demoRequest())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"phone/microphone", "pcmu-decode", "resample", "speech-to-text", "map/directions", "answer-to-text", "text-to-speech", "resample", "pcmu-encode", "phone/speaker"}
	for i, s := range p.Steps {
		t.Log(s.Name, s.Node.ID, s.In, s.Out, s.Cost)
		if i < len(p.Hops) {
			t.Log("   ", p.Hops[i].Transport, p.Hops[i].Latency)
		}
		if i >= len(want) || s.Name != want[i] {
			t.Errorf("step %d is %s", i, s.Name)
		}
	}
	if len(p.Steps) != len(want) || !p.Proven() {
		t.Errorf("%d steps, cost %v, bound %v", len(p.Steps), p.Cost, p.Bound)
	}
	t.Log(p.Latency, p.CPU, p.Memory, p.Quality, p.Examined)
	r := demoRequest()
	r.Bounds.Latency = 100 * time.Millisecond
	_, err = demo(t).Plan(context.Background(), r)
	var no *Refusal
	if !errors.As(err, &no) {
		t.Fatal(err)
	}
	t.Logf("%+v", no)
	parts := demoParts()
	parts.Operators[7] = op("resample", "audio/L16;rate=$f:4000..9000;channels=$c", "audio/L16;rate=$t:4000..9000;channels=$c", 2*time.Millisecond, 0.01, 1<<20, proxy1)
	c, _ := NewCatalogue(parts)
	_, err = c.Plan(context.Background(), demoRequest())
	t.Logf("%+v", err)
}

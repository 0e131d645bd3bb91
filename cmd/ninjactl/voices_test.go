package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/operators"
	"ninja/operators/catalogue"
)

// The planner chooses a voice by language, by voice and engine where somebody wants one, and by quality, price and
// processor time: all built-in operators are there, and a voice elsewhere that is better and is paid for.
func TestVoicesAreChosen(t *testing.T) {
	const proxy, unit = ca.ID("spiffe://test/proxy/p"), ca.ID("spiffe://test/unit/u")
	parts := plan.Parts{Nodes: []plan.Node{{ID: proxy, Cores: 4, Memory: 4 << 30}, {ID: unit, Transports: []string{"rtp", "tcp"}}}}
	add := func(s operators.Spec, node ca.ID, fixed bool) {
		parts.Operators = append(parts.Operators, plan.Operator{Name: s.Name, Spec: s, Kind: operators.KindOperator, Fixed: fixed, Places: []plan.Place{{Node: node}}})
	}
	for _, s := range catalogue.Specs() {
		add(s, proxy, false)
	}
	add(operators.Spec{Name: "speak-paid", Program: "wrap-http", In: operators.MustPattern("text/plain;lang=en"),
		Out:  operators.MustPattern("audio/L16;rate=16000;channels=1;engine=paid;lang=en;voice=ada"),
		Cost: operators.Cost{CPU: 0.001, Latency: operators.Latency(300 * time.Millisecond), Memory: 1 << 20, Price: 0.5, Quality: 0.98}}, proxy, false)
	end := func(name, in, out string) {
		s := operators.Spec{Name: name, Program: name}
		if in != "" {
			s.In = operators.MustPattern(in)
		}
		if out != "" {
			s.Out = operators.MustPattern(out)
		}
		add(s, unit, true)
	}
	for _, lang := range []string{"en", "en-gb", "de", "fr"} {
		end("says-"+lang, "", "text/plain;lang="+lang)
	}
	end("hears", "audio/L16;rate=16000;channels=1", "")
	end("hears-awb", "audio/L16;rate=16000;channels=1;voice=awb", "")
	end("hears-espeak", "audio/L16;channels=1;rate=22050;engine=espeak-ng;lang=en", "")
	end("hears-german", "audio/L16;channels=1;rate=22050;lang=de", "")
	c, err := plan.NewCatalogue(parts)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		from, to, want string
		bounds         plan.Bounds
	}{
		{"says-en", "hears", "speak-rms", plan.Bounds{Price: 0.01, Quality: 0.9}},
		{"says-en", "hears", "speak-paid", plan.Bounds{Quality: 0.95}},
		{"says-en", "hears", "speak-kal16", plan.Bounds{CPU: 0.02, Price: 0.01, Latency: 100 * time.Millisecond}},
		{"says-en", "hears-awb", "speak-awb", plan.Bounds{}},
		{"says-en", "hears-espeak", "speak-espeak", plan.Bounds{}},
		{"says-de", "hears", "speak-espeak-german", plan.Bounds{}},
		{"says-de", "hears-german", "speak-espeak-german", plan.Bounds{}},
		{"says-fr", "hears", "speak-espeak-french", plan.Bounds{}},
		{"says-en-gb", "hears", "speak-espeak-british", plan.Bounds{}},
	} {
		p, err := c.Plan(context.Background(), plan.Request{From: tc.from, To: tc.to, Bounds: tc.bounds})
		if err != nil {
			t.Errorf("%s to %s within %+v: %v", tc.from, tc.to, tc.bounds, err)
			continue
		}
		var names []string
		for _, s := range p.Steps {
			names = append(names, s.Name)
		}
		if chain := strings.Join(names, " "); !strings.Contains(chain+" ", " "+tc.want+" ") {
			t.Errorf("%s to %s within %+v: %s, want %s", tc.from, tc.to, tc.bounds, chain, tc.want)
		}
	}
	if _, err := c.Plan(context.Background(), plan.Request{From: "says-en", To: "hears", Bounds: plan.Bounds{Price: 0.01, Quality: 0.95}}); err == nil {
		t.Error("a voice that is good and costs nothing was found")
	}
}

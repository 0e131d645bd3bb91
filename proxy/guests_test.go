package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/connectors/mem"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/golden"
)

const (
	ann = ca.ID("spiffe://test/user/ann")
	bob = ca.ID("spiffe://test/user/bob")
)

// answers is a program whose behaviour the argument key chooses.
func answers(behaviour map[string]func(string) (string, error)) operators.Factory {
	return func(_ context.Context, env operators.Env) (operators.Operator, error) {
		f, ok := behaviour[env.Args["key"]]
		if !ok {
			return nil, fmt.Errorf("no program %q", env.Args["key"])
		}
		return operators.Each(func(a connectors.ADU) (connectors.ADU, error) {
			out, err := f(string(a.Payload))
			a.Payload = []byte(out)
			return a, err
		}), nil
	}
}

// shouts is the owner's set: capitals, of words that are new each time.
func shouts() *golden.Set {
	return &golden.Set{
		In: connectors.MustType("text/plain;lang=en"), Out: connectors.MustType("text/plain;lang=en;style=shout"), Judge: golden.Exact,
		Fresh: func(w world.World) golden.Sample {
			s := fmt.Sprintf("turn left in %d yards", w.Uint64()%1000)
			return golden.Text(s, strings.ToUpper(s))
		},
	}
}

func shout(name, key string) operators.Spec {
	return operators.Spec{Name: name, Program: "wrap-program", In: operators.MustPattern("text/plain;lang=$l"),
		Out:  operators.MustPattern("text/plain;lang=$l;style=shout"),
		Cost: operators.Cost{Latency: operators.Latency(20 * time.Millisecond), Quality: 1, CPU: 0}, Args: []operators.Arg{{Name: "key", Value: key}}}
}

type hall struct {
	*Guests
	board    *board
	registry *operators.Registry
	fallen   atomic.Bool
}

func newHall(t *testing.T, sets ...*golden.Set) *hall {
	t.Helper()
	h := &hall{board: &board{bodies: make(map[string]string), numbers: make(map[string]map[string]float64)}, registry: new(operators.Registry)}
	h.registry.Add("wrap-program", answers(map[string]func(string) (string, error){
		"shout":  func(s string) (string, error) { return strings.ToUpper(s), nil },
		"same":   func(string) (string, error) { return "HELLO", nil },
		"leaks":  func(s string) (string, error) { return "", errors.New("it gave me " + s) },
		"slow":   func(s string) (string, error) { time.Sleep(time.Second); return strings.ToUpper(s), nil },
		"slower": func(s string) (string, error) { time.Sleep(30 * time.Millisecond); return strings.ToUpper(s), nil },
		"turns": func(s string) (string, error) {
			if h.fallen.Load() {
				return "BUY MORE", nil
			}
			return strings.ToUpper(s), nil
		},
	}))
	var err error
	h.Guests, err = NewGuests(GuestConfig{World: inWorld(), Owner: self, Node: operators.Node{Control: "c", Data: "d"}, Registry: h.registry,
		Programs: []string{"wrap-program"}, Taken: []string{"upper-case"}, Sets: sets, Publisher: h.board, Period: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hall) body(name string) string {
	h.board.mu.Lock()
	defer h.board.mu.Unlock()
	return h.board.bodies[name]
}

// Threat 24 at registration: what lies about itself is refused, in words that carry no samples; what is taken in is
// published with the cost and quality that were found.
func TestGuestsAreExamined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, shouts())
		offers, refused, told := 0, 0, 0
		for _, c := range []struct {
			spec operators.Spec
			want string
		}{
			{shout("always-same", "same"), "different requests had the same answer"},
			{shout("leaks", "leaks"), "not passed on"},
			{shout("slow", "slow"), "latency 1s where 20ms is declared"},
			{shout("missing", "rm -rf"), "not passed on"},
			{shout("upper-case", "shout"), "of its own"},
			{func() operators.Spec { s := shout("x", "shout"); s.Program = "sh"; return s }(), "may name [wrap-program]"},
			{func() operators.Spec { s := shout("x", "shout"); s.Out = operators.Pattern{}; return s }(), "in and an out"},
		} {
			_, _, _, err := h.Offer(t.Context(), ann, c.spec)
			offers++
			if err != nil {
				refused++
			}
			if err != nil && strings.Contains(err.Error(), "yards") {
				told++
			}
			if err == nil || !errors.Is(err, ErrGuest) || !strings.Contains(err.Error(), c.want) || told > 0 {
				t.Errorf("%s: %v, want %q", c.spec.Name, err, c.want)
			}
		}
		if len(h.board.bodies) != 0 || len(h.List()) != 0 || len(h.registry.Keys()) != 1 {
			t.Errorf("after refusals: %v, %v, %v", h.board.bodies, h.List(), h.registry.Keys())
		}
		t.Logf("PROVE %d bad offers, the operator that always says the same among them: %d refused, %d published, %d told samples", offers, refused, len(h.board.bodies), told)
		as, _, leave, err := h.Offer(t.Context(), ann, shout("slower", "slower"))
		if err != nil {
			t.Fatal(err)
		}
		if as.Cost.Latency != operators.Latency(30*time.Millisecond) || as.Cost.Quality != 1 || as.Cost.CPU < leastCPU || as.Examinations != 1 {
			t.Errorf("published with %+v", as)
		}
		d, err := operators.ParseDescription([]byte(h.body("operator.slower")))
		if err != nil || d.Operators[0].Program != "guest/slower" || len(d.Operators[0].Args) != 0 || d.Operators[0].Cost != as.Cost {
			t.Errorf("published %+v, %v", d, err)
		}
		if n := h.board.numbers["operator.slower"]; n["quality"] != 1 || n["latency"] != 0.03 {
			t.Errorf("numbers %v", n)
		}
		if _, _, _, err := h.Offer(t.Context(), bob, shout("slower", "shout")); err == nil || !strings.Contains(err.Error(), "another name") {
			t.Errorf("the same name: %v", err)
		}
		leave()
		if h.body("operator.slower") != "" || len(h.registry.Keys()) != 1 {
			t.Error("it has not left")
		}
	})
}

// Threat 24 in service: one that turns bad is withdrawn, its running instances end, and its author learns why.
func TestGuestsAreExaminedInService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, shouts())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Run(ctx) }()
		_, gone, _, err := h.Offer(ctx, ann, shout("turns", "turns"))
		if err != nil {
			t.Fatal(err)
		}
		op, err := h.registry.Make(ctx, "guest/turns", operators.Env{World: inWorld()})
		if err != nil {
			t.Fatal(err)
		}
		in, from := mem.Pair(4)
		to, out := mem.Pair(4)
		ran := make(chan error, 1)
		go func() { ran <- op.Run(ctx, from, to) }()
		if err := in.Write(ctx, connectors.ADU{Payload: []byte("left")}); err != nil {
			t.Fatal(err)
		}
		if a, err := out.Read(ctx); err != nil || string(a.Payload) != "LEFT" {
			t.Errorf("%q %v", a.Payload, err)
		}
		time.Sleep(10 * time.Minute)
		if l := h.List(); len(l) != 1 || l[0].Examinations < 5 || l[0].State != "published" {
			t.Errorf("after ten minutes: %+v", l)
		}
		h.fallen.Store(true)
		at := time.Now()
		<-gone
		after := time.Since(at)
		if after > 2*time.Minute {
			t.Errorf("found out after %v", after)
		}
		t.Logf("PROVE an operator that turned bad in service was withdrawn %v later, at a mean of a minute between examinations", after.Round(time.Second))
		if err := <-ran; err == nil || !strings.Contains(err.Error(), "withdrawn while it ran") {
			t.Errorf("the running instance ended with %v", err)
		}
		if _, err := h.registry.Make(ctx, "guest/turns", operators.Env{}); err == nil {
			t.Error("a withdrawn operator is made")
		}
		if l := h.List(); len(l) != 1 || l[0].State != "withdrawn" || !strings.Contains(l[0].Text, "same answer") {
			t.Errorf("%+v", l)
		}
		if h.body("operator.turns") != "" {
			t.Error("it is published still")
		}
		h.fallen.Store(false) // mended
		if _, _, _, err := h.Offer(ctx, ann, shout("turns", "turns")); err != nil {
			t.Errorf("mended: %v", err)
		}
		cancel()
		if err := <-done; err != nil || h.body("operator.turns") != "" || len(h.List()) != 0 {
			t.Errorf("at the end %v, %v", err, h.List())
		}
		for _, c := range []interface{ Close() error }{in, from, to, out} {
			c.Close()
		}
	})
}

// What nobody can examine is believed less; what there is room for is bounded, and so are guesses at samples.
func TestGuestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t)
		as, _, _, err := h.Offer(t.Context(), ann, shout("cheap", "same"))
		if err != nil || as.Cost.Quality != unexamined || as.Cost.CPU < leastCPU || as.Cost.Memory < leastMemory || !strings.Contains(as.Text, "unexamined") {
			t.Errorf("%+v %v", as, err)
		}
		for i := range maxOfAnAuthor {
			_, _, _, err = h.Offer(t.Context(), ann, shout(fmt.Sprint("more", i), "same"))
		}
		if err == nil || !strings.Contains(err.Error(), "as many as one may have") {
			t.Errorf("%v", err)
		}
		for i := range maxGuests {
			author := ca.ID(fmt.Sprint("spiffe://test/user/u", i/8))
			_, _, _, err = h.Offer(t.Context(), author, shout(fmt.Sprint("other", i), "same"))
		}
		if err == nil || !strings.Contains(err.Error(), "as many as it takes") {
			t.Errorf("%v", err)
		}
		strict := newHall(t, shouts())
		for range maxRefusals {
			if _, _, _, err := strict.Offer(t.Context(), bob, shout("x", "same")); err == nil {
				t.Error("a liar is taken in")
			}
		}
		if _, _, _, err := strict.Offer(t.Context(), bob, shout("x", "shout")); err == nil || !strings.Contains(err.Error(), "try again later") {
			t.Errorf("after many refusals: %v", err)
		}
		time.Sleep(refusalTime + time.Second)
		if _, _, _, err := strict.Offer(t.Context(), bob, shout("x", "shout")); err != nil {
			t.Errorf("later: %v", err)
		}
	})
}

// Whatever an author sends, it is a description or an error, and nothing else happens.
func FuzzReadOperator(f *testing.F) {
	f.Add([]byte(`<operator xmlns="urn:ninja:service:1" name="shout" program="wrap-program"><in>text/plain;lang=$l</in><out>text/plain;lang=$l;style=shout</out><cost cpu="0.01" latency="5ms" memory="1"/><arg name="key" value="shout"/></operator>`))
	f.Add([]byte(`<service xmlns="urn:ninja:service:1" kind="operator" name="x"/>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadOperator(b)
		if err == nil && (s.Name == "" || s.Program == "" || s.In.IsZero() && s.Out.IsZero()) {
			t.Errorf("%+v", s)
		}
	})
}

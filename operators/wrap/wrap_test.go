package wrap

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ninja/connectors"
	"ninja/connectors/mem"
	"ninja/internal/world"
	"ninja/operators"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counted is a network that counts the connections it is asked for.
type counted struct {
	world.Network
	dials *atomic.Int64
}

func (c counted) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c.dials.Add(1)
	return c.Network.Dial(ctx, network, address)
}

// rig makes operators of a wrapper and keeps their notes.
type rig struct {
	registry operators.Registry
	world    world.World
	dials    atomic.Int64
	notes    chan string
}

func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{world: world.Real(), notes: make(chan string, 1000)}
	r.world.Net = counted{r.world.Net, &r.dials}
	w.Register(&r.registry)
	return r
}

func (r *rig) make(program string, args map[string]string) (operators.Operator, error) {
	return r.registry.Make(context.Background(), program, operators.Env{
		World: r.world, Args: args, In: connectors.MustType("text/plain;lang=en"), Out: connectors.MustType("text/html;lang=en"),
		Note: func(_, text string) {
			select {
			case r.notes <- text:
			default:
			}
		},
	})
}

// run gives an operator requests and returns its answers, and how it ended.
func (r *rig) run(t testing.TB, program string, args map[string]string, requests ...string) ([]connectors.ADU, error) {
	t.Helper()
	op, err := r.make(program, args)
	if err != nil {
		t.Fatal(err)
	}
	in, from := mem.Pair(len(requests) + 1)
	to, out := mem.Pair(len(requests) + 1)
	for i, s := range requests {
		a := connectors.ADU{Payload: []byte(s), MediaTime: time.Duration(i+1) * time.Second, Mark: connectors.EndOfDocument}
		if err := in.Write(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	in.Close()
	err = op.Run(t.Context(), from, to)
	to.Close()
	var answers []connectors.ADU
	for {
		a, err := out.Read(t.Context())
		if err != nil {
			break
		}
		answers = append(answers, a)
	}
	return answers, err
}

func payloads(answers []connectors.ADU) string {
	var all []string
	for _, a := range answers {
		all = append(all, string(a.Payload))
	}
	return strings.Join(all, "|")
}

func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// "Each in at most 20 lines of XML": the three descriptions are read, and checked, as they are in the documentation.
func TestTwentyLines(t *testing.T) {
	for _, file := range []string{"program.xml", "http.xml", "grpc.xml"} {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "\n"); n > 20 {
			t.Errorf("%s has %d lines", file, n)
		}
		d, err := operators.ParseDescription(b)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		r := newRig(t, Config{Programs: map[string]Program{"sort": {Path: "/usr/bin/sort"}}})
		args := map[string]string{}
		for _, a := range d.Operators[0].Args {
			args[a.Name] = a.Value
		}
		op, err := r.make(d.Operators[0].Program, args)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		op.(interface{ Close() error }).Close()
	}
}

func TestArgumentsAreChecked(t *testing.T) {
	r := newRig(t, Config{Programs: map[string]Program{"sort": {Path: "/usr/bin/sort"}}})
	for _, c := range []struct {
		program string
		args    map[string]string
		want    string
	}{
		{ProgramKey, nil, "argument key is wanted"},
		{ProgramKey, map[string]string{"key": "/bin/sh"}, "no program"},
		{ProgramKey, map[string]string{"key": "sort", "args": "-o/etc/passwd"}, "not known"},
		{HTTPKey, map[string]string{"url": "file:///etc/passwd"}, "scheme"},
		{HTTPKey, map[string]string{"url": "http://user:secret@example.com/"}, "without a user"},
		{HTTPKey, map[string]string{"url": "http:127.0.0.1"}, "want http"},
		{GRPCKey, map[string]string{"address": "example.com", "method": "/a.B/C"}, "HOST:PORT"},
		{GRPCKey, map[string]string{"address": "example.com:1", "method": "a.B.C"}, "PACKAGE.SERVICE/METHOD"},
		{GRPCKey, map[string]string{"address": "example.com:1", "method": "/a.B/C", "message": "xml"}, "bytes, string or raw"},
		{GRPCKey, map[string]string{"address": "example.com:1", "method": "/a.B/C", "tls": "maybe"}, "yes or no"},
	} {
		if _, err := r.make(c.program, c.args); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s %v: %v, want %q", c.program, c.args, err, c.want)
		}
	}
	for _, p := range []Program{{Path: "sort"}, {}, {Path: "/bin/cat", Mode: "shell"}, {Path: "/bin/cat", CPU: -1}} {
		if _, err := New(Config{Programs: map[string]Program{"x": p}}); err == nil {
			t.Errorf("%+v is allowed", p)
		}
	}
}

package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/connectors/rtp"
	"ninja/connectors/tcp"
	"ninja/connectors/udp"
	"ninja/internal/world"
	"ninja/operators"
)

// The events of a hop go to an operator that takes them, and past one that does not.
func TestEventsGoUpstream(t *testing.T) {
	told := make(chan string, 10)
	for _, takes := range []bool{false, true} {
		s := newScene(t)
		n := s.host("a", func(c *Config) {
			c.Registry.Add("hears", func(context.Context, operators.Env) (operators.Operator, error) {
				return operators.Func(func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
					e := <-out.Events()
					told <- "source: " + e.Text
					<-ctx.Done()
					return ctx.Err()
				}), nil
			})
			c.Registry.Add("between", func(context.Context, operators.Env) (operators.Operator, error) {
				return operators.Func(func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
					if takes {
						e := <-out.Events()
						told <- "between: " + e.Text
						return in.Signal(connectors.Event{Kind: connectors.Flush, Text: "passed on"})
					}
					<-ctx.Done()
					return ctx.Err()
				}), nil
			})
			c.Registry.Add("flushes", func(context.Context, operators.Env) (operators.Operator, error) {
				return operators.Func(func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
					for ctx.Err() == nil { // the one between may not have called Events yet: what came before is passed by
						if takes && len(told) > 0 {
							break
						}
						in.Signal(connectors.Event{Kind: connectors.Flush, Text: "barge-in"})
						world.Sleep(ctx, time.Millisecond)
					}
					<-ctx.Done()
					return ctx.Err()
				}), nil
			})
		})
		session := s.open(n)
		_, err := session.Prepare(t.Context(), Assignment{Path: "p", Epoch: 1, Stages: []Stage{
			step("1", "hears", nil, within("a")), step("2", "between", within("a"), within("b")), step("3", "flushes", within("b"), nil),
		}})
		must(t, err)
		must(t, session.Start(t.Context()))
		first := <-told
		if want := "source: barge-in"; !takes && first != want {
			t.Fatalf("told %q, want %q", first, want)
		}
		for takes && !strings.HasPrefix(first, "between: barge-in") {
			first = <-told
		}
		must(t, session.Close(t.Context()))
		for len(told) > 0 {
			<-told
		}
	}
}

// Over real hops between processes, with the numbers that the hops measure themselves.
func TestPathOverTheNetwork(t *testing.T) {
	for _, scheme := range []string{"tcp", "udp", "rtp"} {
		t.Run(scheme, func(t *testing.T) {
			pathOver(t, scheme, connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real()))
		})
		t.Run(scheme+" on trunks", func(t *testing.T) {
			pathOver(t, scheme, connectorstest.Trunked(t, "127.0.0.1:0", world.Real(), world.Real()))
		})
	}
}

func pathOver(t *testing.T, scheme string, ends []connectorstest.Process) {
	s := newScene(t)
	nodes := make([]node, 2)
	for i, e := range ends {
		nodes[i] = s.host(e.Identity.ID().Name(), func(c *Config) {
			c.Transports = []connectors.Transport{
				tcp.New(tcp.Config{Hops: e.Hops, Identity: e.Identity, World: e.World}),
				udp.New(udp.Config{Hops: e.Hops, Identity: e.Identity, World: e.World}),
				rtp.New(rtp.Config{Hops: e.Hops, Identity: e.Identity, World: e.World}),
			}
		})
	}
	l16 := connectors.MustType("audio/L16;channels=1;rate=8000")
	// The hosts' own identities are those of the scene, the hops' those of the processes.
	hop := func(n int) *HopEnd {
		return &HopEnd{Hop: "2", Transport: scheme, Type: l16, Peer: ends[n].Identity.ID()}
	}
	first, second := s.open(nodes[0]), s.open(nodes[1])
	ctx := t.Context()
	_, err := first.Prepare(ctx, Assignment{Path: "p", Epoch: 1, Stages: []Stage{
		step("source", "talk", nil, within("1")), step("upper", "upper", within("1"), hop(1)),
	}})
	must(t, err)
	addresses, err := second.Prepare(ctx, Assignment{Path: "p", Epoch: 1, Stages: []Stage{step("sink", "sink", hop(0), nil)}})
	must(t, err)
	wrong := map[string]string{"2": strings.Replace(addresses["2"], "://", "://127.0.0.1:1/", 1)}
	if err := first.Connect(ctx, wrong); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), `hop "2"`) {
		t.Fatalf("a wrong address: %v", err)
	}
	must(t, first.Connect(ctx, addresses))
	must(t, second.Start(ctx))
	must(t, first.Start(ctx))
	for range 5 {
		if got := <-s.sunk; got != "x!" {
			t.Fatalf("got %q", got)
		}
	}
	for until(t, second, Heartbeat).Stages[0].In.Link == 0 {
	}
	must(t, first.Close(ctx))
	// The source is torn down, which its sink sees as the end of the stream.
	if end := until(t, second, Ended); end.Stages[0].In.ADUs < 5 {
		t.Fatalf("measured %+v", end.Stages[0])
	}
	must(t, second.Close(ctx))
}

func TestUnreachableNeighbour(t *testing.T) {
	s := newScene(t)
	n := s.host("a", func(c *Config) { c.SetupTimeout = 50 * time.Millisecond })
	session := s.open(n)
	addresses, err := session.Prepare(t.Context(), Assignment{Path: "p", Epoch: 1, Stages: []Stage{
		step("upper", "upper", wireTo("in", "spiffe://test/proxy/b"), wireTo("out", "spiffe://test/proxy/c")),
	}})
	must(t, err)
	nowhere := "wire://10.0.0.9:7/00000000000000000000000000000000"
	err = session.Connect(t.Context(), map[string]string{"out": nowhere})
	if err == nil || !strings.Contains(err.Error(), "spiffe://test/proxy/c") || !strings.Contains(err.Error(), nowhere) {
		t.Fatalf("got %v", err)
	}
	must(t, session.Connect(t.Context(), map[string]string{"out": addresses["in"]})) // to itself: somebody listens
	must(t, session.Close(t.Context()))
	_, err = session.Prepare(t.Context(), talker("q", 1))
	if !errors.Is(err, errDetached) {
		t.Fatalf("a closed session: %v", err)
	}
	session = s.open(n)
	_, err = session.Prepare(t.Context(), Assignment{Path: "p", Epoch: 2, Stages: []Stage{
		step("sink", "sink", wireTo("in", "spiffe://test/proxy/b"), nil),
	}})
	must(t, err)
	must(t, session.Start(t.Context()))
	f := untilFault(t, session)
	if f.Hop != "in" || f.Neighbour != "spiffe://test/proxy/b" || !strings.Contains(f.Text, "no sender came") {
		t.Fatalf("fault %+v", f)
	}
}

func TestDataIsFetchedAndChecked(t *testing.T) {
	grammar := []byte("#JSGF V1.0;")
	sum := sha256.Sum256(grammar)
	ref := "spiffe://test/base/b#map@sha256:" + hex.EncodeToString(sum[:])
	served := grammar
	s := newScene(t)
	got := make(chan []byte, 1)
	n := s.host("a", func(c *Config) {
		c.Fetch = func(_ context.Context, r string, from DataSource) ([]byte, error) {
			if r != ref || from.Address != "10.0.0.5:7001" || from.Peer != "spiffe://test/base/b" {
				return nil, errors.New("fetched from the wrong place")
			}
			return served, nil
		}
		c.Registry.Add("learned", func(ctx context.Context, env operators.Env) (operators.Operator, error) {
			b, err := env.Data(ctx, ref)
			if err == nil {
				got <- b
			}
			return operators.Each(nil), err
		})
	})
	session := s.open(n)
	a := talker("p", 1)
	a.Stages[1].Program = "learned"
	if _, err := session.Prepare(t.Context(), a); err == nil || !strings.Contains(err.Error(), "where to fetch it") {
		t.Fatalf("no source: %v", err)
	}
	a.Data = map[string]DataSource{ref: {Address: "10.0.0.5:7001", Peer: "spiffe://test/base/b"}}
	_, err := session.Prepare(t.Context(), a)
	must(t, err)
	if string(<-got) != string(grammar) {
		t.Fatal("other bytes")
	}
	must(t, session.Close(t.Context()))
	served = []byte("#JSGF V2.0;")
	a.Epoch = 2
	again := s.open(n)
	if _, err := again.Prepare(t.Context(), a); err != nil || string(<-got) != string(grammar) { // it is kept
		t.Fatal(err)
	}
	must(t, again.Close(t.Context()))
	n.fetched.kept = nil
	a.Epoch = 3
	if _, err := s.open(n).Prepare(t.Context(), a); err == nil || !strings.Contains(err.Error(), "do not have that hash") {
		t.Fatalf("other bytes than those of the hash: %v", err)
	}
}

// held is an operator that does not heed its context.
type held struct {
	release <-chan struct{}
	closed  chan<- struct{}
}

func (h held) Run(context.Context, connectors.Reader, connectors.Writer) error {
	<-h.release
	return nil
}

func (h held) Close() error { h.closed <- struct{}{}; return nil }

func TestTearDownIsBounded(t *testing.T) {
	s := newScene(t)
	release, closed := make(chan struct{}), make(chan struct{}, 2)
	n := s.host("a", func(c *Config) {
		c.StopTimeout = 50 * time.Millisecond
		c.Registry.Add("held", func(context.Context, operators.Env) (operators.Operator, error) {
			return held{release, closed}, nil
		})
	})
	for _, start := range []bool{false, true} {
		session := s.open(n)
		a := talker("p", 1)
		a.Stages[1].Program = "held"
		_, err := session.Prepare(t.Context(), a)
		must(t, err)
		if start {
			must(t, session.Start(t.Context()))
		}
		must(t, session.Close(t.Context()))
		if len(n.Paths()) != 0 {
			t.Fatal("the path is still there")
		}
		if !start {
			<-closed // an operator that never ran is closed too
		}
	}
	close(release)
	<-closed // and one that ends late
}

package udp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/internal/world"
	"ninja/internal/world/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	ms   = time.Millisecond
	seed = 20261121
)

func TestConformance(t *testing.T) {
	connectorstest.Run(t, func(t *testing.T) connectorstest.Ends {
		return ends(connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real()), Config{})
	})
}

// Delay, jitter, duplicates and datagrams out of order do not show; only loss would.
func TestConformanceSimulated(t *testing.T) {
	connectorstest.RunSimulated(t, func(t *testing.T) connectorstest.Ends {
		sim := world.NewSim(seed, world.Link{Delay: 20 * ms, Jitter: 20 * ms, Duplicate: 0.1, Reorder: 0.1})
		return ends(connectorstest.Processes(t, ":7700", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"), sim.Host("10.0.0.3")), Config{})
	})
}

// The same on real sockets, through the relay.
func TestConformanceRelayed(t *testing.T) {
	connectorstest.Run(t, func(t *testing.T) connectorstest.Ends {
		link := world.Link{Delay: 5 * ms, Jitter: 5 * ms, Duplicate: 0.1, Reorder: 0.1}
		return ends(connectorstest.Processes(t, "127.0.0.1:0", connectorstest.Relayed(t, 3, relay.Faults{Link: link})...),
			Config{Reorder: 500 * ms}) // a busy machine is not a loss
	})
}

// On a trunk a hop means what it means with a socket of its own.
func TestConformanceTrunk(t *testing.T) {
	connectorstest.Run(t, func(t *testing.T) connectorstest.Ends {
		return ends(connectorstest.Trunked(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real()), Config{})
	})
}

func TestConformanceTrunkSimulated(t *testing.T) {
	connectorstest.RunSimulated(t, func(t *testing.T) connectorstest.Ends {
		sim := world.NewSim(seed, world.Link{Delay: 20 * ms, Jitter: 20 * ms, Duplicate: 0.1, Reorder: 0.1})
		return ends(connectorstest.Trunked(t, ":7700", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"), sim.Host("10.0.0.3")), Config{})
	})
}

func TestConformanceTrunkRelayed(t *testing.T) {
	connectorstest.Run(t, func(t *testing.T) connectorstest.Ends {
		link := world.Link{Delay: 5 * ms, Jitter: 5 * ms, Duplicate: 0.1, Reorder: 0.1}
		return ends(connectorstest.Trunked(t, "127.0.0.1:0", connectorstest.Relayed(t, 3, relay.Faults{Link: link})...),
			Config{Reorder: 500 * ms}) // a busy machine is not a loss
	})
}

// An end that has trunks and one that has none, as of the version before, understand each other in both directions.
func TestConformanceMixed(t *testing.T) {
	for _, way := range [][3]int{{0, 1, 2}, {1, 0, 2}} {
		connectorstest.Run(t, func(t *testing.T) connectorstest.Ends {
			p := connectorstest.Mixed(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real())
			return ends([]connectorstest.Process{p[way[0]], p[way[1]], p[way[2]]}, Config{})
		})
	}
}

// ends joins process 1 to process 0; process 2 is the stranger.
func ends(p []connectorstest.Process, cfg Config) connectorstest.Ends {
	transport := func(p connectorstest.Process) connectors.Transport {
		cfg.Hops, cfg.Identity, cfg.World = p.Hops, p.Identity, p.World
		return New(cfg)
	}
	return connectorstest.Ends{
		Listen: transport(p[0]), Dial: transport(p[1]), Stranger: transport(p[2]),
		Receiver: string(p[0].Identity.ID()), Sender: string(p[1].Identity.ID()),
		Type: connectors.MustType("application/octet-stream"), Stamped: p[0].Hops.Carrier() != nil && p[1].Hops.Carrier() != nil,
		ADU: func(n int) connectors.ADU {
			return connectors.ADU{
				Payload: binary.BigEndian.AppendUint32(nil, uint32(n)), MediaTime: time.Duration(n) * ms,
				Mark: connectors.Mark(n % 3),
			}
		},
	}
}

// join makes a hop between two hosts of a simulated world.
func join(t *testing.T, usual world.Link) (*world.Sim, connectors.Writer, connectors.Reader) {
	t.Helper()
	sim := world.NewSim(seed, usual)
	e := ends(connectorstest.Processes(t, ":7700", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"), sim.Host("10.0.0.3")), Config{})
	w, r := pair(t, e)
	return sim, w, r
}

// pair makes a hop.
func pair(t *testing.T, e connectorstest.Ends) (connectors.Writer, connectors.Reader) {
	t.Helper()
	h := connectors.Hop{Path: "path", Name: "a->b", Type: e.Type, Peer: e.Sender}
	p, err := e.Listen.Listen(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	h.Peer = e.Receiver
	w, err := e.Dial.Dial(t.Context(), p.Address(), h)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return w, r
}

// document is the n-th ADU of a stream of mixed sizes, from nothing to many fragments.
func document(n int) connectors.ADU {
	size := []int{0, 1, chunk, chunk + 1, 10 * chunk, 100_000}[n%6]
	a := connectors.ADU{Payload: bytes.Repeat([]byte{byte(n)}, size), MediaTime: time.Duration(n) * ms}
	if n%50 == 49 {
		a.Mark = connectors.EndOfDocument
	}
	return a
}

// On a link with loss, duplicates, jitter and reordering an ADU comes whole or not at all, in order and once; every mark
// and the end come; what did not is counted. The sender never stalls for good, whatever was lost.
func TestBadLink(t *testing.T) {
	const n = 300
	for name, link := range map[string]world.Link{
		"clean":  {Delay: 5 * ms},
		"usual":  {Delay: 20 * ms, Jitter: 20 * ms, Loss: 0.01, Duplicate: 0.05, Reorder: 0.05},
		"broken": {Delay: 20 * ms, Loss: 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Logf("seed %d", seed)
				_, w, r := join(t, link)
				defer r.Close()
				result := make(chan error, 1)
				go func() {
					var errs []error
					for i := range n {
						errs = append(errs, w.Write(t.Context(), document(i)))
					}
					result <- errors.Join(append(errs, w.Close())...)
				}()
				got, marks := receive(t, r)
				if err := <-result; err != nil {
					t.Error(err)
				}
				s := r.(connectors.Measured).Stats()
				t.Logf("%d whole, %+v", got, s)
				if uint64(got)+s.Lost != n || marks != n/50 || name == "clean" && s.Lost > 0 || name != "clean" && s.Lost == 0 {
					t.Errorf("%d came whole, %d lost, %d marks; want %d together and %d marks", got, s.Lost, marks, n, n/50)
				}
			})
		})
	}
}

// The same with real sockets, where the kernel may lose something too.
func TestBadRealLink(t *testing.T) {
	faults := relay.Faults{Link: world.Link{Delay: 5 * ms, Jitter: 5 * ms, Loss: 0.02, Duplicate: 0.05, Reorder: 0.05}}
	e := ends(connectorstest.Processes(t, "127.0.0.1:0", connectorstest.Relayed(t, 3, faults)...), Config{})
	w, r := pair(t, e)
	defer r.Close()
	const n = 200
	result := make(chan error, 1)
	go func() {
		var errs []error
		for i := range n {
			errs = append(errs, w.Write(t.Context(), document(i)))
		}
		result <- errors.Join(append(errs, w.Close())...)
	}()
	got, marks := receive(t, r)
	if err := <-result; err != nil {
		t.Error(err)
	}
	if s := r.(connectors.Measured).Stats(); uint64(got)+s.Lost != n || marks != n/50 || s.Lost == 0 {
		t.Errorf("%d came whole, %d lost, %d marks; want %d together and %d marks", got, s.Lost, marks, n, n/50)
	}
}

// receive reads to the end and checks what comes against what was sent.
func receive(t *testing.T, r connectors.Reader) (whole, marks int) {
	last := uint64(0)
	for {
		a, err := r.Read(t.Context())
		if err == io.EOF {
			return whole, marks
		}
		if err != nil {
			t.Fatal(err)
		}
		if a.Mark != 0 {
			marks++
		}
		want := document(int(a.Seq) - 1)
		switch {
		case bytes.Equal(a.Payload, want.Payload) && a.MediaTime == want.MediaTime && a.Seq > last:
			whole++
			last = a.Seq
		case len(a.Payload) == 0 && a.Mark != 0: // the mark of what was lost
		default:
			t.Fatalf("after %d: ADU %d of %d bytes", last, a.Seq, len(a.Payload))
		}
	}
}

// What is lost at the end of a burst is given up though nothing follows, and its mark comes.
func TestLostTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, w, r := join(t, world.Link{Delay: 5 * ms})
		defer r.Close()
		defer w.Close()
		sim.SetLink("10.0.0.2", "10.0.0.1", world.Link{Delay: 5 * ms, Loss: 1})
		if err := w.Write(t.Context(), connectors.ADU{Payload: []byte("lost"), Mark: connectors.EndOfDocument}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		a, err := r.Read(t.Context())
		if err != nil || a.Mark != connectors.EndOfDocument || len(a.Payload) > 0 {
			t.Errorf("%+v, %v", a, err)
		}
		if took := time.Since(begin); took > 100*ms {
			t.Errorf("the mark took %v", took)
		}
	})
}

// Everything that is under way is lost, more than the sender may have under way: it gets credit again.
func TestAllCreditLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, w, r := join(t, world.Link{Delay: 5 * ms})
		defer r.Close()
		sim.SetLink("10.0.0.2", "10.0.0.1", world.Link{Delay: 5 * ms, Loss: 1})
		time.AfterFunc(time.Second, func() { sim.SetLink("10.0.0.2", "10.0.0.1", world.Link{Delay: 5 * ms}) })
		result := make(chan error, 1)
		go func() {
			big := connectors.ADU{Payload: make([]byte, connectors.MaxPayload)}
			result <- errors.Join(w.Write(t.Context(), big), w.Write(t.Context(), big), w.Write(t.Context(), big), w.Close())
		}()
		n := 0
		for {
			a, err := r.Read(t.Context())
			if err == io.EOF {
				break
			}
			if err != nil || len(a.Payload) != connectors.MaxPayload {
				t.Fatalf("%d bytes, %v", len(a.Payload), err)
			}
			n++
		}
		if err := <-result; err != nil {
			t.Error(err)
		}
		if s := r.(connectors.Measured).Stats(); n == 0 || n+int(s.Lost) != 3 {
			t.Errorf("%d came, %d lost", n, s.Lost)
		}
	})
}

// A flush ends the wait of a sender without credit; what it was writing is dropped and not counted as lost.
func TestFlushWhileBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, r := join(t, world.Link{Delay: 5 * ms})
		defer r.Close()
		result := make(chan error, 1)
		go func() { result <- w.Write(t.Context(), connectors.ADU{Payload: make([]byte, connectors.MaxPayload)}) }()
		time.Sleep(time.Second)
		if err := r.Signal(connectors.Event{Kind: connectors.Flush}); err != nil {
			t.Fatal(err)
		}
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		go func() { result <- errors.Join(w.Write(t.Context(), connectors.ADU{Payload: []byte("now")}), w.Close()) }()
		a, err := r.Read(t.Context())
		if err != nil || string(a.Payload) != "now" {
			t.Errorf("%d bytes, %v", len(a.Payload), err)
		}
		if err := <-result; err != nil {
			t.Error(err)
		}
		if s := r.(connectors.Measured).Stats(); s.Lost != 0 || s.Late != 0 {
			t.Errorf("%+v: what is dropped by wish is not lost", s)
		}
	})
}

// What others send to the receiver's port is neither delivered nor answered, not even what was captured.
func TestStrangeDatagrams(t *testing.T) {
	e := ends(connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real()), Config{})
	w, r := pair(t, e)
	defer w.Close()
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.Write(ctx, connectors.ADU{Payload: []byte("one")}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(ctx); err != nil {
		t.Fatal(err)
	}
	captured := bytes.Clone(w.(*writer).sealer.sealed)
	other, err := world.Real().Net.Dial(ctx, "udp", r.(*reader).inbox.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, b := range [][]byte{captured, []byte("hello"), make([]byte, 1500)} {
		if _, err := other.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.(*writer).conn.Write(captured); err != nil { // again, from the right address
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, 100*ms)
	defer stop()
	if a, err := r.Read(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v: delivered", a.Payload, err)
	}
	if n := r.(*reader).inbox.Strangers(); n != 4 {
		t.Errorf("%d strange datagrams counted, want 4", n)
	}
}

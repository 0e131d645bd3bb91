package rtp

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/internal/world"
	"ninja/internal/world/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const l16 = "audio/L16;channels=1;rate=16000"

func TestConformance(t *testing.T) {
	connectorstest.Run(t, func(t *testing.T) connectorstest.Ends {
		return ends(connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real()), Config{})
	})
}

// Delay, jitter, duplicates and packets out of order do not show; only loss would.
func TestConformanceSimulated(t *testing.T) {
	connectorstest.RunSimulated(t, func(t *testing.T) connectorstest.Ends {
		sim := world.NewSim(seed, world.Link{Delay: 20 * ms, Jitter: 20 * ms, Duplicate: 0.1, Reorder: 0.1})
		return ends(connectorstest.Processes(t, ":7700", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"), sim.Host("10.0.0.3")), Config{})
	})
}

// A playout changes when ADUs come, not what a hop means.
func TestConformancePlayedOut(t *testing.T) {
	connectorstest.RunSimulated(t, func(t *testing.T) connectorstest.Ends {
		sim := world.NewSim(seed, world.Link{Delay: 20 * ms, Jitter: 2 * ms, Duplicate: 0.1})
		p := connectorstest.Processes(t, ":7700", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"), sim.Host("10.0.0.3"))
		return ends(p, Config{Playout: 30 * ms, PlayoutMost: 100 * ms, Conceal: Repeat})
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
		Type: connectors.MustType(l16), Media: true, Stamped: true,
		ADU: func(n int) connectors.ADU { // 2 ms each
			b := make([]byte, 64)
			binary.BigEndian.PutUint32(b, uint32(n))
			return connectors.ADU{Payload: b, MediaTime: time.Duration(n) * 2 * time.Millisecond, Mark: connectors.Mark(n % 3)}
		},
	}
}

// join makes a hop of the type between two processes.
func join(t *testing.T, typ string) (connectors.Writer, connectors.Reader) {
	t.Helper()
	e := ends(connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real()), Config{})
	h := connectors.Hop{Path: "path", Name: "tts->speaker", Type: connectors.MustType(typ), Peer: e.Sender}
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
	t.Cleanup(func() { w.Close(); r.Close() })
	return w, r
}

// A text-to-speech engine gives much audio at once: it is cut into packets, leaves at the media's own pace, and its mark
// comes with the last packet.
func TestLongADU(t *testing.T) {
	w, r := join(t, "audio/PCMU;channels=1;rate=8000")
	audio := make([]byte, 8000/2) // 500 ms
	for i := range audio {
		audio[i] = byte(i * 7)
	}
	begin := time.Now()
	sent := make(chan error, 1)
	go func() {
		err := w.Write(t.Context(), connectors.ADU{Payload: audio, Mark: connectors.EndOfUtterance})
		sent <- errors.Join(err, w.Close())
	}()
	var got []byte
	for {
		a, err := r.Read(t.Context())
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := time.Duration(len(got)) * time.Second / 8000; a.MediaTime != want {
			t.Errorf("media time %v, want %v", a.MediaTime, want)
		}
		if len(a.Payload) > maxPayload {
			t.Errorf("packet of %d bytes", len(a.Payload))
		}
		got = append(got, a.Payload...)
		if last := len(got) == len(audio); last != (a.Mark == connectors.EndOfUtterance) {
			t.Errorf("mark %d after %d of %d bytes", a.Mark, len(got), len(audio))
		}
	}
	if string(got) != string(audio) {
		t.Errorf("%d bytes came, want %d", len(got), len(audio))
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	// The last of four packets begins at 450 ms and may leave 60 ms early.
	if took := time.Since(begin); took < 390*time.Millisecond {
		t.Errorf("500 ms of audio went in %v", took)
	}
}

// A flush drops the rest of what is being written, and what comes next goes at once.
func TestFlushWhileWriting(t *testing.T) {
	w, r := join(t, l16)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	written := make(chan error, 1)
	go func() {
		written <- w.Write(ctx, connectors.ADU{Payload: make([]byte, 32000*5)}) // 5 s
	}()
	if _, err := r.Read(ctx); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := r.Signal(connectors.Event{Kind: connectors.Flush}); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if err := w.Write(ctx, connectors.ADU{Payload: []byte{1, 2}, MediaTime: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	a, err := r.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Payload) != 2 {
		t.Errorf("%d bytes from before the flush", len(a.Payload))
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("silent after %v, want well below 100 ms on an idle machine", took)
	}
}

func TestOtherTypesAreRefused(t *testing.T) {
	for _, typ := range []string{"text/plain", "audio/L16;channels=1", "audio/L16;rate=0", "audio/PCMU;rate=x"} {
		if err := Carries(connectors.MustType(typ)); err == nil {
			t.Errorf("%s is said to be carried", typ)
		}
	}
}

// What others send to the receiver's port is neither delivered nor answered, not even a genuine packet from another
// address than the first one's.
func TestStrangeDatagrams(t *testing.T) {
	w, r := join(t, l16)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	to := r.(*reader).inbox.Addr().String()
	other, err := world.Real().Net.Dial(ctx, "udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := w.Write(ctx, connectors.ADU{Payload: []byte{1, 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(ctx); err != nil {
		t.Fatal(err)
	}
	s := w.(*writer)
	s.mu.Lock()
	genuine, err := s.sealer.seal(packet{position: 1, time: 1, payload: []byte{6, 6}})
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{genuine, []byte("hello"), make([]byte, 1500), {}} {
		if _, err := other.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	short, stop := context.WithTimeout(ctx, 100*ms)
	defer stop()
	if a, err := r.Read(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v: delivered", a.Payload, err)
	}
	if n := r.(*reader).inbox.Strangers(); n != 4 {
		t.Errorf("%d strange datagrams counted, want 4", n)
	}
	other.SetReadDeadline(time.Now().Add(50 * ms))
	if n, err := other.Read(make([]byte, 10)); err == nil {
		t.Errorf("answered with %d bytes", n)
	}
	if err := w.Write(ctx, connectors.ADU{Payload: []byte{2, 2}, MediaTime: ms}); err != nil {
		t.Fatal(err)
	}
	a, err := r.Read(ctx)
	if err != nil || a.Payload[0] != 2 {
		t.Errorf("%v, %v", a.Payload, err)
	}
}

// With AtExit only the hop to a listener has a playout.
func TestPlayoutAtExit(t *testing.T) {
	p := connectorstest.Trunked(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real())
	e := ends(p, Config{Playout: 20 * ms, PlayoutMost: 100 * ms, AtExit: true})
	for _, exit := range []bool{false, true} {
		h := connectors.Hop{Path: "path", Name: "tts->speaker", Type: e.Type, Peer: e.Sender, Exit: exit}
		pending, err := e.Listen.Listen(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		h.Peer = e.Receiver
		w, err := e.Dial.Dial(t.Context(), pending.Address(), h)
		if err != nil {
			t.Fatal(err)
		}
		r, err := pending.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if on := r.(*reader).buffer.playout.on(); on != exit {
			t.Errorf("exit %v: a playout %v", exit, on)
		}
		r.Close()
		w.Close()
	}
}

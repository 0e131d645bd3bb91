package tcp

import (
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ninja/ca"
	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/internal/world"
	"ninja/internal/world/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	connectorstest.Run(t, func(t *testing.T) connectorstest.Ends {
		return ends(connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real()))
	})
}

// ends joins process 1 to process 0; process 2 is the stranger.
func ends(p []connectorstest.Process) connectorstest.Ends {
	transport := func(p connectorstest.Process) connectors.Transport {
		return New(Config{Hops: p.Hops, Identity: p.Identity, World: p.World})
	}
	return connectorstest.Ends{
		Listen: transport(p[0]), Dial: transport(p[1]), Stranger: transport(p[2]),
		Receiver: string(p[0].Identity.ID()), Sender: string(p[1].Identity.ID()),
		Type: connectors.MustType("application/octet-stream"), Stamped: true,
		ADU: func(n int) connectors.ADU {
			return connectors.ADU{
				Payload: binary.BigEndian.AppendUint32(nil, uint32(n)), MediaTime: time.Duration(n) * time.Millisecond,
				Mark: connectors.Mark(n % 3),
			}
		},
	}
}

// On a slow and uneven link nothing changes but the time.
func TestConformanceSimulated(t *testing.T) {
	connectorstest.RunSimulated(t, func(t *testing.T) connectorstest.Ends {
		sim := world.NewSim(1, world.Link{Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond})
		return ends(connectorstest.Processes(t, ":7700", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"), sim.Host("10.0.0.3")))
	})
}

// The same on real sockets, through the relay.
func TestConformanceRelayed(t *testing.T) {
	connectorstest.Run(t, func(t *testing.T) connectorstest.Ends {
		link := world.Link{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond}
		return ends(connectorstest.Processes(t, "127.0.0.1:0", connectorstest.Relayed(t, 3, relay.Faults{Link: link})...))
	})
}

// A hop ends when the certificate that opened it does; until then it lives, though nothing flows.
func TestEndsWithTheCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := world.NewSim(1, world.Link{Delay: 20 * time.Millisecond})
		e := ends(connectorstest.Processes(t, ":7700", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"), sim.Host("10.0.0.3")))
		h := connectors.Hop{Type: e.Type, Peer: e.Sender}
		p, err := e.Listen.Listen(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		h.Peer = e.Receiver
		w, err := e.Dial.Dial(t.Context(), p.Address(), h)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		r, err := p.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		begin := time.Now()
		_, err = r.Read(t.Context())
		took := time.Since(begin)
		if err == nil || took < ca.LeafLife-time.Minute || took > ca.LeafLife {
			t.Errorf("ended after %v: %v", took, err)
		}
	})
}

// A hop with a peer whom the authority bans ends at once, with the reason.
func TestEndsWithABan(t *testing.T) {
	processes := connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real())
	e := ends(processes)
	h := connectors.Hop{Type: e.Type, Peer: e.Sender}
	p, err := e.Listen.Listen(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	h.Peer = e.Receiver
	w, err := e.Dial.Dial(t.Context(), p.Address(), h)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := p.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	receiver := processes[0].Identity
	if err := receiver.Adopt(ca.State{Roots: receiver.Roots(), Banned: []ca.ID{ca.ID(e.Sender)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(t.Context()); !errors.Is(err, ca.ErrBanned) {
		t.Errorf("read from a banned peer: %v", err)
	}
}

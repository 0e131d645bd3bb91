package host

import (
	"context"
	"fmt"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/connectors/rtp"
	"ninja/internal/world"
	"ninja/internal/world/relay"
)

// segment runs a source of 20 ms L16, nodes-2 relays and a listener, each on a node of its own, over links of 10 ms and
// the jitter, and returns the listener's session.
func segment(t *testing.T, nodes int, jitter time.Duration) (listener *Session, stop func()) {
	s := newScene(t)
	link := world.Link{Delay: 10 * time.Millisecond, Jitter: jitter}
	ends := connectorstest.Trunked(t, "127.0.0.1:0", connectorstest.Relayed(t, nodes, relay.Faults{Link: link})...)
	l16 := connectors.MustType("audio/L16;channels=1;rate=8000")
	ctx := t.Context()
	sessions := make([]*Session, nodes)
	var addresses map[string]string
	for i := nodes - 1; i >= 0; i-- {
		e := ends[i]
		n := s.host(fmt.Sprint("n", i), func(c *Config) {
			c.Transports = []connectors.Transport{rtp.New(rtp.Config{
				Hops: e.Hops, Identity: e.Identity, World: e.World,
				Playout: 20 * time.Millisecond, PlayoutMost: 200 * time.Millisecond, AtExit: true, Conceal: rtp.Repeat,
			})}
		})
		st := Stage{ID: fmt.Sprint("s", i), Program: "upper"}
		if i > 0 {
			st.In = &HopEnd{Hop: fmt.Sprint(i), Transport: "rtp", Type: l16, Peer: ends[i-1].Identity.ID()}
		} else {
			st.Program = "speech"
		}
		if i < nodes-1 {
			st.Out = &HopEnd{Hop: fmt.Sprint(i + 1), Transport: "rtp", Type: l16, Peer: ends[i+1].Identity.ID()}
		} else {
			st.Program = "sink"
		}
		if i > 0 && i < nodes-1 {
			st.Program = "pass"
		}
		sessions[i] = s.open(n)
		got, err := sessions[i].Prepare(ctx, Assignment{Path: "p", Epoch: 1, Stages: []Stage{st}})
		must(t, err)
		if addresses != nil {
			must(t, sessions[i].Connect(ctx, addresses))
		}
		addresses = got
	}
	for i := nodes - 1; i >= 0; i-- {
		must(t, sessions[i].Start(ctx))
	}
	return sessions[nodes-1], func() {
		for _, each := range sessions {
			must(t, each.Close(ctx))
		}
	}
}

// speak writes 20 ms of audio every 20 ms.
func speak(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
	begin := time.Now()
	for at := time.Duration(0); ; at += 20 * time.Millisecond {
		if err := world.Sleep(ctx, time.Until(begin.Add(at))); err != nil {
			return err
		}
		if err := out.Write(ctx, connectors.ADU{Payload: make([]byte, 320), MediaTime: at}); err != nil {
			return err
		}
	}
}

// "One playout buffer per media segment": over four hops the listener's age is that of the links and of one buffer, not of
// four; and the stamps say so end to end.
func TestOnePlayoutASegment(t *testing.T) {
	const nodes, delay, jitter = 5, 10 * time.Millisecond, 10 * time.Millisecond
	listener, stop := segment(t, nodes, jitter)
	defer stop()
	var age time.Duration
	for range 400 {
		if s := until(t, listener, Heartbeat).Stages[0]; s.Age > 0 && s.In.ADUs > 110 { // three stamps
			age = s.Age
			break
		}
	}
	// Each link has its delay and up to the jitter, and the one buffer its most at most; four buffers would have more.
	least, most := (nodes-1)*delay, (nodes-1)*(delay+jitter)+200*time.Millisecond+time.Second // of a busy machine
	t.Logf("the listener's audio is %v old", age)
	if age < least || age > most {
		t.Errorf("over %d hops audio is %v old, want %v to %v", nodes-1, age, least, most)
	}
}

// The playout belongs where media leaves the path: at the last hop from another node, though stages follow inside this one.
func TestExits(t *testing.T) {
	out := func(hop string) *HopEnd { return &HopEnd{Hop: hop, Transport: "rtp"} }
	p := &path{}
	for _, spec := range []Stage{
		step("relay", "x", out("1"), out("2")),
		step("before the relay", "x", out("3"), within("4")), step("relays", "x", within("4"), out("5")),
		step("before the listener", "x", out("6"), within("7")), step("between", "x", within("7"), within("8")),
		step("listener", "x", within("8"), nil),
		step("listener alone", "x", out("9"), nil),
	} {
		p.stages = append(p.stages, &stage{path: p, spec: spec})
	}
	for i, want := range []bool{false, false, false, true, true, true, true} {
		if got := p.exits(p.stages[i]); got != want {
			t.Errorf("%s: %v", p.stages[i].spec.ID, got)
		}
	}
}

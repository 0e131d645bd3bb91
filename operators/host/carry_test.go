package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/connectors/rtp"
	"ninja/connectors/tcp"
	"ninja/connectors/udp"
	"ninja/internal/world"
	"ninja/internal/world/relay"
	"ninja/operators"
)

// heard is what a listener has heard of a numbered stream.
type heard struct {
	adus, instances    int
	last, seq          uint64 // the last number, the last Seq
	lost, twice, outOf uint64 // numbers that are missing or came again, Seqs that do not follow
	counted            uint64 // by the counting stage, in the last ADU
	longest            time.Duration
	at                 time.Time
}

// ear is what a listener writes it into.
type ear struct {
	mu    sync.Mutex
	heard heard
}

func (e *ear) take(a connectors.ADU) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h, n, now := &e.heard, binary.BigEndian.Uint64(a.Payload), time.Now()
	switch {
	case n <= h.last:
		h.twice++
	case n > h.last+1:
		h.lost += n - h.last - 1
	}
	if a.Seq != h.seq+1 {
		h.outOf++
	}
	if h.adus > 0 {
		h.longest = max(h.longest, now.Sub(h.at))
	}
	h.at, h.last, h.seq = now, max(n, h.last), a.Seq
	h.counted = binary.BigEndian.Uint64(a.Payload[8:])
	h.adus++
}

func (e *ear) snapshot() heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard
}

// numbers adds a source of numbered 20 ms audio, a stage that passes on, one that counts what it has seen, and a listener.
func numbers(r *operators.Registry, period time.Duration, into *ear) {
	add := func(key string, run operators.Func) {
		r.Add(key, func(context.Context, operators.Env) (operators.Operator, error) { return run, nil })
	}
	add("numbers", func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
		begin := time.Now()
		for n := uint64(1); ; n++ {
			at := time.Duration(n) * period
			if err := world.Sleep(ctx, time.Until(begin.Add(at))); err != nil {
				return err
			}
			a := connectors.ADU{Payload: make([]byte, period/time.Millisecond*16), MediaTime: at}
			binary.BigEndian.PutUint64(a.Payload, n)
			if err := out.Write(ctx, a); err != nil {
				return err
			}
		}
	})
	add("counts", func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
		seen := uint64(0)
		return operators.Each(func(a connectors.ADU) (connectors.ADU, error) {
			seen++
			binary.BigEndian.PutUint64(a.Payload[8:], seen)
			return a, nil
		}).Run(ctx, in, out)
	})
	r.Add("listens", func(context.Context, operators.Env) (operators.Operator, error) {
		into.mu.Lock()
		into.heard.instances++
		into.mu.Unlock()
		return operators.Func(func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
			for {
				a, err := in.Read(ctx)
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				into.take(a)
			}
		}), nil
	})
}

// road is a path of a source, a middle that moves, a counting stage and a listener, over real sockets.
type road struct {
	t      *testing.T
	s      *scene
	scheme string
	ends   []connectorstest.Process // source, counting stage, listener, and the nodes of the middle
	nodes  []node
	heard  *ear
	epoch  uint32
	drain  time.Duration
}

const middles = 3 // index of the first node of the middle

func newRoad(t *testing.T, scheme string, period time.Duration, ends []connectorstest.Process) *road {
	r := &road{t: t, s: newScene(t), scheme: scheme, ends: ends, heard: &ear{}, drain: 2 * time.Second}
	for _, e := range ends {
		r.nodes = append(r.nodes, r.s.host(e.Identity.ID().Name(), func(c *Config) {
			numbers(c.Registry, period, r.heard)
			if testing.Verbose() {
				c.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
			}
			c.Transports = []connectors.Transport{
				tcp.New(tcp.Config{Hops: e.Hops, Identity: e.Identity, World: e.World}),
				udp.New(udp.Config{Hops: e.Hops, Identity: e.Identity, World: e.World}),
				rtp.New(rtp.Config{Hops: e.Hops, Identity: e.Identity, World: e.World, AtExit: true}),
			}
		}))
	}
	return r
}

// lap is one epoch of a road.
type lap struct {
	at       []int // nodes, in the order of the stages
	sessions []*Session
}

// run makes an epoch whose middle is at a node; after the first one it goes over to it, and the stages that stay are carried.
func (r *road) run(middle int) lap {
	ctx := r.t.Context()
	r.epoch++
	at := []int{0, middle, 1, 2}
	l16 := connectors.MustType("audio/L16;channels=1;rate=8000")
	hop := func(n, peer int) *HopEnd {
		return &HopEnd{Hop: fmt.Sprint(n), Transport: r.scheme, Type: l16, Peer: r.ends[peer].Identity.ID()}
	}
	stages := make([]Stage, len(at))
	for i, program := range []string{"numbers", "pass", "counts", "listens"} {
		stages[i] = Stage{ID: fmt.Sprint(program, r.epoch), Program: program}
		if i > 0 {
			stages[i].In = hop(i-1, at[i-1])
		}
		if i < len(at)-1 {
			stages[i].Out = hop(i, at[i+1])
		}
		if r.epoch > 1 && i != 1 {
			stages[i].Carry = fmt.Sprint(program, r.epoch-1)
		}
	}
	l := lap{at: at}
	addresses := make(map[string]string)
	for i, s := range stages {
		session := r.s.open(r.nodes[at[i]])
		mine, err := session.Prepare(ctx, Assignment{
			Path: "p", Epoch: r.epoch, Beside: r.epoch > 1, Drain: r.drain, Stages: []Stage{s},
		})
		must(r.t, err)
		for hop, address := range mine {
			addresses[hop] = address
		}
		l.sessions = append(l.sessions, session)
	}
	for _, session := range l.sessions {
		must(r.t, session.Connect(ctx, addresses))
	}
	for _, i := range []int{3, 1, 2, 0} { // an order in which hops have their senders before their listeners
		must(r.t, l.sessions[i].Start(ctx))
	}
	return l
}

// leave lets go of an epoch that has been left: where there is nothing of a newer one, it is closed when it has come to its
// end.
func (r *road) leave(l, next lap) {
	for i, session := range l.sessions {
		if l.at[i] == next.at[i] {
			session.Detach()
			continue
		}
		until(r.t, session, Ended)
		must(r.t, session.Close(r.t.Context()))
	}
}

func (r *road) hears(more int) heard {
	begun, late := r.heard.snapshot(), time.Now().Add(20*time.Second)
	for {
		now := r.heard.snapshot()
		if now.adus >= begun.adus+more {
			return now
		}
		if time.Now().After(late) {
			r.t.Fatalf("nothing more came: %+v", now)
		}
		time.Sleep(time.Millisecond)
	}
}

// A planned move is not noticed: the stages that stay keep what they hold, and the listener has one stream.
func TestStagesStay(t *testing.T) {
	w := world.Real()
	for _, scheme := range []string{"tcp", "udp", "rtp"} {
		t.Run(scheme, func(t *testing.T) {
			stagesStay(t, newRoad(t, scheme, 20*time.Millisecond, connectorstest.Processes(t, "127.0.0.1:0", w, w, w, w, w)))
		})
	}
	for _, scheme := range []string{"udp", "rtp"} {
		t.Run(scheme+" on trunks", func(t *testing.T) {
			stagesStay(t, newRoad(t, scheme, 20*time.Millisecond, connectorstest.Trunked(t, "127.0.0.1:0", w, w, w, w, w)))
		})
	}
}

func stagesStay(t *testing.T, r *road) {
	now := r.run(middles)
	r.hears(5)
	for i := range rounds() {
		next := r.run(middles + (i+1)%2)
		r.hears(5)
		r.leave(now, next)
		now = next
	}
	end := r.hears(5)
	for _, session := range now.sessions {
		must(t, session.Close(t.Context()))
	}
	t.Logf("PROVE %s: %d moves: %d ADUs, %d lost, %d twice, %d out of one sequence, the listener was made %d times, the longest pause %v",
		t.Name(), rounds(), end.adus, end.lost, end.twice, end.outOf, end.instances, end.longest)
	if end.lost+end.twice+end.outOf > 0 || end.instances != 1 || end.counted != end.last {
		t.Errorf("%+v", end)
	}
}

// byTarget is a network that leads to some targets through relays.
type byTarget struct {
	world.Network
	relays map[string]*relay.Relay
}

func (n byTarget) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if r := n.relays[address]; r != nil {
		return r.World().Net.Dial(ctx, network, address)
	}
	return n.Network.Dial(ctx, network, address)
}

// A node in the middle is lost, and the path is repaired around it: what the node held is lost and nothing else. The stages
// that stay keep what they hold, and the listener has one stream.
func TestRepairAroundStages(t *testing.T) {
	for _, scheme := range []string{"tcp", "udp", "rtp"} {
		for _, how := range []string{"stops", "falls silent"} {
			t.Run(scheme+" "+how, func(t *testing.T) { repairAround(t, scheme, how == "falls silent") })
		}
	}
}

func repairAround(t *testing.T, scheme string, silent bool) {
	const period = 20 * time.Millisecond
	w, cut := world.Real(), relay.New(relay.Config{})
	t.Cleanup(func() { cut.Close() })
	relays := make(map[string]*relay.Relay)
	source := w
	source.Net = byTarget{w.Net, relays}
	ends := connectorstest.Processes(t, "127.0.0.1:0", source, w, w, cut.World(), w)
	relays[ends[middles].Hops.Addr()] = cut
	r := newRoad(t, scheme, period, ends)
	now := r.run(middles)
	r.hears(10)
	if silent {
		cut.Cut()
	} else {
		r.nodes[middles].stop()
	}
	lost := time.Now()
	if silent {
		time.Sleep(200 * time.Millisecond) // until somebody notices
	} else if f := untilFault(t, now.sessions[2]); f.Hop != "1" || f.Stage != "counts1" {
		t.Fatalf("fault %+v", f)
	}
	r.drain = 300 * time.Millisecond
	next := r.run(middles + 1)
	down := time.Since(lost)
	end := r.hears(20)
	for _, session := range append(next.sessions, now.sessions[0], now.sessions[2], now.sessions[3]) {
		session.Detach()
	}
	t.Logf("PROVE %s: %v from the loss of a node to the new epoch: %d of %d ADUs lost, %d twice, %d out of one sequence, the listener was made %d times, the longest pause %v",
		t.Name(), down.Round(time.Millisecond), end.lost, end.last, end.twice, end.outOf, end.instances, end.longest.Round(time.Millisecond))
	if end.twice+end.outOf > 0 || end.instances != 1 || end.counted != end.last-end.lost || end.lost > uint64(down/period)+5 {
		t.Errorf("%+v", end)
	}
}

package trunk

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"ninja/connectors/hop"
	"ninja/internal/world"
)

// pooled runs a hop server with a Pool on each process, the receiving one first.
func pooled(t testing.TB, p []process) (pools []*Pool, servers []*hop.Server) {
	for _, each := range p {
		pool := NewPool(Config{Identity: each.id, World: each.world})
		t.Cleanup(func() { pool.Close() })
		pools, servers = append(pools, pool), append(servers, serve(t, each, pool))
	}
	return pools, servers
}

// inbox reads what comes on a stream.
func inbox(t testing.TB, q *hop.Queue) chan string {
	t.Helper()
	c := make(chan string, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			d, err := q.Next()
			if err != nil {
				return
			}
			c <- string(d)
		}
	}()
	t.Cleanup(func() { q.Close(); <-done })
	return c
}

func send(t testing.TB, w io.Writer, text string) {
	t.Helper()
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// All streams to a peer share one trunk, which goes when nobody has used it for a while.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := world.NewSim(1, world.Link{Delay: time.Millisecond})
		p := simulated(t, sim)
		pools, servers := pooled(t, p)
		var senders []io.WriteCloser
		var inboxes []chan string
		for n := range uint64(10) {
			q, err := pools[0].Receive(p[1].id.ID(), n, 1)
			if err != nil {
				t.Fatal(err)
			}
			inboxes = append(inboxes, inbox(t, q))
			s, err := pools[1].Send(t.Context(), servers[0].Addr(), p[0].id.ID(), n, 1)
			if err != nil {
				t.Fatal(err)
			}
			senders = append(senders, s)
		}
		if _, err := pools[0].Receive(p[1].id.ID(), 3, 1); err == nil {
			t.Error("a stream is opened twice")
		}
		for n, s := range senders {
			send(t, s, string(rune('a'+n)))
		}
		for n, in := range inboxes {
			if got := <-in; got != string(rune('a'+n)) {
				t.Errorf("stream %d got %q", n, got)
			}
		}
		lines := func() int {
			pools[1].mu.Lock()
			defer pools[1].mu.Unlock()
			return len(pools[1].lines)
		}
		if n := lines(); n != 1 {
			t.Errorf("%d trunks", n)
		}
		for _, s := range senders {
			s.Close()
			s.Close()
		}
		time.Sleep(idle + time.Second)
		if n := lines(); n != 0 {
			t.Errorf("%d trunks that nobody uses", n)
		}
	})
}

// A trunk that breaks is dialled again under new keys, and the streams go on.
func TestRedialled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := world.NewSim(1, world.Link{Delay: time.Millisecond})
		p := simulated(t, sim)
		pools, servers := pooled(t, p)
		q, err := pools[0].Receive(p[1].id.ID(), 7, 1)
		if err != nil {
			t.Fatal(err)
		}
		in := inbox(t, q)
		s, err := pools[1].Send(t.Context(), servers[0].Addr(), p[0].id.ID(), 7, 1)
		if err != nil {
			t.Fatal(err)
		}
		first := s.(*sender).line.out.Load()
		first.session.Abandon(io.ErrUnexpectedEOF)
		time.Sleep(time.Second)
		send(t, s, "after")
		if got := <-in; got != "after" {
			t.Errorf("%q", got)
		}
		if second := s.(*sender).line.out.Load(); second == first {
			t.Error("the trunk that broke is used again")
		}
		s.Close()
	})
}

// A peer reaches its own streams only: another one's it cannot, though it knows their names; nor those of another epoch.
func TestOthersStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := world.NewSim(1, world.Link{Delay: time.Millisecond})
		p := processes(t, ":0", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"), sim.Host("10.0.0.3"))
		pools, servers := pooled(t, p)
		q, err := pools[0].Receive(p[1].id.ID(), 7, 2)
		if err != nil {
			t.Fatal(err)
		}
		in := inbox(t, q)
		for _, from := range []struct {
			pool  *Pool
			epoch uint32
			text  string
		}{{pools[2], 2, "an insider"}, {pools[1], 1, "an old epoch"}, {pools[1], 2, "genuine"}} {
			s, err := from.pool.Send(t.Context(), servers[0].Addr(), p[0].id.ID(), 7, from.epoch)
			if err != nil {
				t.Fatal(err)
			}
			for range 100 {
				send(t, s, from.text)
			}
			defer s.Close()
			time.Sleep(100 * time.Millisecond)
		}
		for range 100 {
			if got := <-in; got != "genuine" {
				t.Fatalf("%s was delivered", got)
			}
		}
	})
}

// A dial that fails is an error of every hop that waits for it, and the next hop tries again.
func TestNoTrunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := world.NewSim(1, world.Link{Delay: time.Millisecond})
		p := simulated(t, sim)
		pool := NewPool(Config{Identity: p[1].id, World: p[1].world})
		defer pool.Close()
		if _, err := pool.Send(t.Context(), "10.0.0.1:9", p[0].id.ID(), 1, 1); err == nil {
			t.Error("nobody is there, and a trunk is made")
		}
		old := serve(t, p[0], nil) // of the version before
		if _, err := pool.Send(t.Context(), old.Addr(), p[0].id.ID(), 1, 1); err == nil {
			t.Error("a peer without trunks takes one")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := pool.Send(ctx, old.Addr(), p[0].id.ID(), 1, 1); err == nil {
			t.Error("a dial that was given up succeeds")
		}
	})
}

// A peer from which no hop receives keeps no trunk here, and never more than the two newest.
func TestUnwanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := world.NewSim(1, world.Link{Delay: time.Millisecond})
		p := simulated(t, sim)
		_, servers := pooled(t, p[:1])
		var outs []*Out
		for range 4 {
			session, conn, err := hop.DialTrunk(t.Context(), p[1].world, p[1].id, servers[0].Addr(), p[0].id.ID())
			if err != nil {
				t.Fatal(err)
			}
			out, err := newOut(session, conn, false)
			if err != nil {
				t.Fatal(err)
			}
			outs = append(outs, out)
			time.Sleep(time.Second)
		}
		alive := func() (n int) {
			for _, o := range outs {
				select {
				case <-o.Done():
				default:
					n++
				}
			}
			return n
		}
		if n := alive(); n != maxServed {
			t.Errorf("%d trunks of one peer", n)
		}
		select {
		case <-outs[3].Done():
			t.Error("the newest had to give way")
		default:
		}
		time.Sleep(3 * idleReceiver)
		if n := alive(); n != 0 {
			t.Errorf("%d trunks that no hop receives from", n)
		}
		for _, o := range outs {
			o.Close()
		}
	})
}

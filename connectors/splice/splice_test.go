package splice_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/connectors/mem"
	"ninja/connectors/rtp"
	"ninja/connectors/splice"
	"ninja/connectors/tcp"
	"ninja/connectors/udp"
	"ninja/internal/world"
)

const (
	switches = 100
	each     = 6 // ADUs between two changes of the sender
	period   = 20 * time.Millisecond
)

// makers make the transport of a scheme.
var makers = map[string]func(connectorstest.Process) connectors.Transport{
	"tcp": func(p connectorstest.Process) connectors.Transport {
		return tcp.New(tcp.Config{Hops: p.Hops, Identity: p.Identity, World: p.World})
	},
	"udp": func(p connectorstest.Process) connectors.Transport {
		return udp.New(udp.Config{Hops: p.Hops, Identity: p.Identity, World: p.World})
	},
	"rtp": func(p connectorstest.Process) connectors.Transport {
		return rtp.New(rtp.Config{Hops: p.Hops, Identity: p.Identity, World: p.World})
	},
}

// A hop whose sender changes a hundred times is one stream to its reader: in order, counted on, nothing twice, and on a
// link without loss nothing missing. What a lossy link loses, the hops count.
func TestOneStream(t *testing.T) {
	links := map[string]world.Link{
		"clean": {Delay: 15 * time.Millisecond},
		"lossy": {Delay: 15 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.05, Duplicate: 0.05, Reorder: 0.05},
	}
	processes := map[string]func(testing.TB, string, ...world.World) []connectorstest.Process{
		"own sockets": connectorstest.Processes, "trunks": connectorstest.Trunked,
	}
	for scheme, transport := range makers {
		for how, link := range links {
			for on, procs := range processes {
				t.Run(scheme+" "+how+" "+on, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						sim := world.NewSim(20261128, link)
						// Every epoch has another sender: two processes take turns.
						p := procs(t, ":7700", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"), sim.Host("10.0.0.3"))
						oneStream(t, p, transport, how == "clean" || scheme == "tcp")
					})
				})
			}
		}
	}
}

func oneStream(t *testing.T, p []connectorstest.Process, transport func(connectorstest.Process) connectors.Transport, whole bool) {
	ctx := t.Context()
	in := transport(p[0])
	join := func(epoch int) (connectors.Writer, connectors.Reader) {
		from := p[1+epoch%2]
		h := connectors.Hop{
			Path: "path", Name: "a->b", Epoch: uint32(epoch + 1),
			Type: connectors.MustType("audio/L16;channels=1;rate=8000"), Peer: string(from.Identity.ID()),
		}
		pending, err := in.Listen(ctx, h)
		must(t, err)
		h.Peer = string(p[0].Identity.ID())
		w, err := transport(from).Dial(ctx, pending.Address(), h)
		must(t, err)
		r, err := pending.Accept(ctx)
		must(t, err)
		return w, r
	}
	w, first := join(0)
	r := splice.New(first)
	defer r.Close()
	go func() {
		n := 0
		for epoch := range switches + 1 {
			if epoch > 0 {
				old, next := w, connectors.Reader(nil)
				w, next = join(epoch)
				for r.Busy() && t.Context().Err() == nil {
					time.Sleep(period)
				}
				must(t, r.Follow(next, 0))
				go old.Close() // what it holds is still under way
			}
			for range each {
				a := connectors.ADU{Payload: make([]byte, 320), MediaTime: time.Duration(n) * period}
				binary.BigEndian.PutUint64(a.Payload, uint64(n))
				must(t, w.Write(ctx, a))
				time.Sleep(period)
				n++
			}
		}
		must(t, w.Close())
	}()
	check(t, r, whole)
}

func check(t *testing.T, r *splice.Reader, whole bool) {
	var seq, got, back, twice uint64
	next := uint64(0)
	seen := make(map[uint64]bool)
	for {
		a, err := r.Read(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		n := binary.BigEndian.Uint64(a.Payload)
		if a.Seq <= seq || n < next {
			back++
		}
		if whole && a.Seq != seq+1 {
			t.Fatalf("ADU %d has number %d after %d", n, a.Seq, seq)
		}
		if seen[n] {
			twice++
		}
		seen[n] = true
		seq, next = a.Seq, n+1
		got++
	}
	const sent = (switches + 1) * each
	lost := sent - got
	t.Logf("PROVE %s: %d ADUs, %d changes of the sender: %d lost, %d by the link's count, %d twice, %d out of order",
		t.Name(), sent, switches, lost, r.Stats().Lost, twice, back)
	if twice > 0 || back > 0 || whole && lost > 0 || !whole && (lost == 0 || lost > r.Stats().Lost) {
		t.Errorf("%d lost, %d counted, %d twice, %d out of order", lost, r.Stats().Lost, twice, back)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		panic(err)
	}
}

// A first sender that dies without a word is given up once the next one sends; one that is silent with no other is not.
func TestSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, in := mem.Pair(0)
		r := splice.New(in)
		must(t, w.Write(t.Context(), connectors.ADU{Payload: []byte("a")}))
		_, err := r.Read(t.Context())
		must(t, err)
		short, cancel := context.WithTimeout(t.Context(), 10*splice.Patience)
		defer cancel()
		if _, err := r.Read(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		next, other := mem.Pair(0)
		must(t, r.Follow(other, 0))
		begun := time.Now()
		time.AfterFunc(time.Second, func() { next.Write(t.Context(), connectors.ADU{Payload: []byte("b")}) })
		a, err := r.Read(t.Context())
		if err != nil || string(a.Payload) != "b" || a.Seq != 2 || time.Since(begun) != time.Second+splice.Patience {
			t.Fatalf("%q %d %v after %v", a.Payload, a.Seq, err, time.Since(begun))
		}
		synctest.Wait() // for the farewell
		if err := w.Write(t.Context(), connectors.ADU{}); !errors.Is(err, connectors.ErrClosed) {
			t.Fatalf("the sender that was given up is told %v", err)
		}
		must(t, r.Close())
	})
}

// A flush drops what was read ahead of the next sender too, and reaches both.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, in := mem.Pair(0)
		next, other := mem.Pair(0)
		r := splice.New(in)
		must(t, r.Follow(other, 0))
		must(t, next.Write(t.Context(), connectors.ADU{Payload: []byte("stale")}))
		synctest.Wait()
		must(t, r.Signal(connectors.Event{Kind: connectors.Flush}))
		for _, each := range []connectors.Writer{w, next} {
			if e := <-each.Events(); e.Kind != connectors.Flush {
				t.Fatal(e)
			}
		}
		must(t, w.Close())
		must(t, next.Write(t.Context(), connectors.ADU{Payload: []byte("fresh")}))
		a, err := r.Read(t.Context())
		if err != nil || string(a.Payload) != "fresh" {
			t.Fatalf("%q %v", a.Payload, err)
		}
		must(t, next.Close())
		for range 2 {
			if _, err := r.Read(t.Context()); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		must(t, r.Close())
	})
}

// Senders that come faster than those before them end take their turns, and there is a bound to how many wait.
func TestManySenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, in := mem.Pair(0)
		r := splice.New(in)
		writers := []connectors.Writer{w}
		for range splice.Senders {
			next, other := mem.Pair(0)
			must(t, r.Follow(other, time.Minute))
			writers = append(writers, next)
		}
		_, other := mem.Pair(0)
		if err := r.Follow(other, 0); !errors.Is(err, splice.ErrBusy) {
			t.Fatal(err)
		}
		for i := len(writers) - 1; i >= 0; i-- { // the last one first
			must(t, writers[i].Write(t.Context(), connectors.ADU{Payload: []byte{byte(i)}}))
			must(t, writers[i].Close())
		}
		for i := range writers {
			a, err := r.Read(t.Context())
			if err != nil || int(a.Payload[0]) != i || a.Seq != uint64(i+1) {
				t.Fatalf("%d: %v %v", i, a, err)
			}
		}
		if _, err := r.Read(t.Context()); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		next, last := mem.Pair(0) // an end is not the last word
		must(t, r.Follow(last, 0))
		must(t, next.Write(t.Context(), connectors.ADU{}))
		if a, err := r.Read(t.Context()); err != nil || a.Seq != uint64(len(writers)+1) {
			t.Fatal(a, err)
		}
		must(t, r.Close())
	})
}

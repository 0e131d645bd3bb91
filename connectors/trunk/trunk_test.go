package trunk

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/internal/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// join makes a trunk between two processes.
func join(t testing.TB, p []connectorstest.Process, oneByOne bool) (*Out, *In) {
	t.Helper()
	h := connectors.Hop{Name: "a->b", Peer: string(p[1].Identity.ID())}
	pending, err := Listen(t.Context(), p[0].Hops, h)
	if err != nil {
		t.Fatal(err)
	}
	h.Peer = string(p[0].Identity.ID())
	out, err := Dial(t.Context(), DialConfig{
		Identity: p[1].Identity, World: p[1].World, Address: pending.Address(), Hop: h, OneByOne: oneByOne,
	})
	if err != nil {
		t.Fatal(err)
	}
	in, err := pending.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out, in
}

// datagram is the n-th of a stream: of many lengths, from nothing to all that fits.
func datagram(stream uint64, n int) []byte {
	size := []int{0, 1, 160, 160, 160, 333, 640, 640, MaxPayload - 1, MaxPayload}[n%10]
	return bytes.Repeat([]byte{byte(stream) ^ byte(n)}, size)
}

type came struct {
	stream uint64
	n      uint32
}

// carry sends n datagrams of each of some streams and returns how often each came. The epoch is the number.
func carry(t *testing.T, out *Out, in *In, n int) map[came]int {
	t.Helper()
	got := make(map[came]int)
	done := make(chan error, 1)
	go func() {
		done <- in.Run(t.Context(), func(stream uint64, epoch uint32, payload []byte) {
			if !bytes.Equal(payload, datagram(stream, int(epoch))) {
				t.Errorf("stream %d, datagram %d: %d bytes", stream, epoch, len(payload))
			}
			got[came{stream, epoch}]++
		})
	}()
	for i := range n {
		for stream := range uint64(5) {
			if err := out.Send(stream<<40, uint32(i), datagram(stream<<40, i)); err != nil {
				t.Fatal(err)
			}
		}
		if i%10 == 9 {
			time.Sleep(2 * time.Millisecond) // a source has a pace
		}
	}
	if err := errors.Join(out.Close(), out.Close()); err != nil {
		t.Error(err)
	}
	if err := out.Send(1, 1, nil); !errors.Is(err, connectors.ErrClosed) {
		t.Errorf("send after close: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	return got
}

// All that is sent comes, once, as it was, of every length, with and without the kernel's help; with it in fewer calls.
func TestCarry(t *testing.T) {
	const n = 200
	calls := make(map[bool]uint64)
	for _, oneByOne := range []bool{false, true} {
		out, in := join(t, connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real()), oneByOne)
		got := carry(t, out, in, n)
		packets, c := out.Stats()
		calls[oneByOne] = c
		arrived, strange := in.Stats()
		if len(got) != 5*n || packets != 5*n || arrived != 5*n || strange != 0 {
			t.Errorf("one by one %v: %d of %d came, %d sent, %d opened, %d strange", oneByOne, len(got), 5*n, packets, arrived, strange)
		}
	}
	if calls[true] != 5*n || calls[false] > calls[true]/3 {
		t.Errorf("%d calls with the kernel's help, %d without", calls[false], calls[true])
	}
}

// On a bad link what comes is as it was and comes once; a datagram waits no longer than a millisecond.
func TestSimulated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := world.Link{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.05, Duplicate: 0.05, Reorder: 0.05}
		sim := world.NewSim(1, link)
		p := connectorstest.Processes(t, ":7700", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"))
		out, in := join(t, p, false)
		got := carry(t, out, in, 200)
		if len(got) < 900 || len(got) > 980 {
			t.Errorf("%d of 1000 came", len(got))
		}
		for c, times := range got {
			if times != 1 {
				t.Errorf("%+v came %d times", c, times)
			}
		}
		sim.SetLink("10.0.0.2", "10.0.0.1", world.Link{})
		out, in = join(t, p, false)
		arrived := make(chan time.Time, 1)
		done := make(chan error, 1)
		go func() { done <- in.Run(t.Context(), func(uint64, uint32, []byte) { arrived <- time.Now() }) }()
		begin := time.Now()
		if err := out.Send(1, 1, []byte("alone")); err != nil {
			t.Fatal(err)
		}
		if took := (<-arrived).Sub(begin); took <= 0 || took > time.Millisecond {
			t.Errorf("waited %v for company", took)
		}
		out.Close()
		<-done
	})
}

// What is not the sending end's is neither delivered nor answered: not nonsense, not what was captured, from there or here.
func TestStrangers(t *testing.T) {
	out, in := join(t, connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real()), false)
	other, err := world.Real().Net.Dial(t.Context(), "udp", in.conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	delivered := make(chan string, 100)
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx, func(_ uint64, _ uint32, b []byte) { delivered <- string(b) }) }()
	if err := out.Send(1, 1, []byte("genuine")); err != nil {
		t.Fatal(err)
	}
	if got := <-delivered; got != "genuine" {
		t.Fatalf("got %q", got)
	}
	out.mu.Lock()
	captured := bytes.Clone(out.sealed[:128])
	out.mu.Unlock()
	for range 3 {
		out.conn.Write(captured)
		other.Write(captured)
		other.Write([]byte("nonsense"))
	}
	if err := out.Send(1, 1, []byte("again")); err != nil {
		t.Fatal(err)
	}
	if got := <-delivered; got != "again" {
		t.Errorf("%q was delivered", got)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, strange := in.Stats(); strange != 9 {
		t.Errorf("%d strange datagrams counted, want 9", strange)
	}
	for range 1000 { // the sending end learns of it
		if err := out.Send(1, 1, nil); err != nil {
			out.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a trunk that nobody reads takes datagrams")
}

func TestTooLong(t *testing.T) {
	out, in := join(t, connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real()), false)
	if err := out.Send(1, 1, make([]byte, MaxPayload+1)); err == nil {
		t.Error("a datagram that does not fit is taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in.Run(ctx, nil)
	out.Close()
}

// FuzzParse reads any header and any control message of the kernel's.
func FuzzParse(f *testing.F) {
	f.Add(append(appendHeader(nil, 1, 2), "hello"...))
	f.Add(segmentControl())
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := segmentSize(b); n < 0 || n > 1<<16 {
			t.Errorf("a size of %d", n)
		}
		if stream, epoch, payload, err := parse(b); err == nil && !bytes.Equal(append(appendHeader(nil, stream, epoch), payload...), b) {
			t.Errorf("%x was read otherwise", b)
		}
	})
}

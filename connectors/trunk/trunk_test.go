package trunk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ninja/ca"
	"ninja/ca/seal"
	"ninja/connectors"
	"ninja/connectors/hop"
	"ninja/internal/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// process is an identity with its surroundings.
type process struct {
	id      *ca.Identity
	world   world.World
	address string // where it listens
}

// receiving is a Carrier that only receives, and hands over what it is given.
type receiving struct {
	in chan *In
}

func (receiving) Receive(ca.ID, uint64, uint32) (*hop.Queue, error) { return nil, errors.New("none") }

func (receiving) Send(context.Context, string, ca.ID, uint64, uint32) (io.WriteCloser, error) {
	return nil, errors.New("none")
}

func (r receiving) Serve(s *hop.Session, conn net.PacketConn) error {
	in, err := newIn(s, conn)
	if err != nil {
		return err
	}
	r.in <- in
	<-s.Done()
	return nil
}

// real makes two processes of this machine.
func real(t testing.TB) []process { return processes(t, "127.0.0.1:0", world.Real(), world.Real()) }

// simulated makes two hosts of the simulation.
func simulated(t testing.TB, sim *world.Sim) []process {
	return processes(t, ":0", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"))
}

func processes(t testing.TB, address string, worlds ...world.World) []process {
	t.Helper()
	authority, err := ca.NewAuthority(worlds[0], "test")
	if err != nil {
		t.Fatal(err)
	}
	var out []process
	for i, w := range worlds {
		id, err := authority.NewIdentity(ca.KindProxy, string(rune('a'+i)))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, process{id, w, address})
	}
	return out
}

// serve runs a hop server with the carrier until the test ends.
func serve(t testing.TB, p process, c hop.Carrier) *hop.Server {
	t.Helper()
	s, err := hop.NewServer(hop.Config{Identity: p.id, World: p.world, Address: p.address, Carrier: c})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return s
}

// join makes a trunk from the second process to the first.
func join(t testing.TB, p []process, oneByOne bool) (*Out, *In) {
	t.Helper()
	r := receiving{in: make(chan *In, 1)}
	s := serve(t, p[0], r)
	session, conn, err := hop.DialTrunk(t.Context(), p[1].world, p[1].id, s.Addr(), p[0].id.ID())
	if err != nil {
		t.Fatal(err)
	}
	out, err := newOut(session, conn, oneByOne)
	if err != nil {
		t.Fatal(err)
	}
	return out, <-r.in
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
			if !bytes.Equal(payload, datagram(stream, int(epoch))) || cap(payload) != len(payload) {
				t.Errorf("stream %d, datagram %d: %d bytes", stream, epoch, len(payload))
			}
			got[came{stream, epoch}]++
		}, nil)
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
		out, in := join(t, real(t), oneByOne)
		got := carry(t, out, in, n)
		packets, c := out.Stats()
		calls[oneByOne] = c
		arrived, strange := in.Stats()
		if len(got) != 5*n || packets != 5*n || arrived != 5*n || strange != 0 {
			t.Errorf("one by one %v: %d of %d came, %d sent, %d opened, %d strange", oneByOne, len(got), 5*n, packets, arrived, strange)
		}
	}
	if calls[true] > 5*n || calls[false] >= calls[true] { // how many less, BenchmarkTrunk says and TestPatience
		t.Errorf("%d calls with the kernel's help, %d without", calls[false], calls[true])
	}
}

// "Waiting at most 1 ms": alone a datagram does not wait at all, among many no longer than a millisecond.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := world.NewSim(1, world.Link{})
		out, in := join(t, simulated(t, sim), false)
		var slowest time.Duration
		begun := make(map[uint32]time.Time)
		var mu sync.Mutex
		done := make(chan error, 1)
		go func() {
			done <- in.Run(t.Context(), func(_ uint64, n uint32, _ []byte) {
				mu.Lock()
				defer mu.Unlock()
				slowest = max(slowest, time.Since(begun[n]))
			}, nil)
		}()
		send := func(n int) {
			mu.Lock()
			begun[uint32(n)] = time.Now()
			mu.Unlock()
			if err := out.Send(1, uint32(n), make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 50 {
			send(n)
			time.Sleep(time.Millisecond)
		}
		mu.Lock()
		if slowest > 0 {
			t.Errorf("alone it waits %v", slowest)
		}
		mu.Unlock()
		for n := 50; n < 550; n++ {
			send(n)
			time.Sleep(100 * time.Microsecond)
		}
		time.Sleep(2 * time.Millisecond)
		mu.Lock()
		if packets, calls := out.Stats(); slowest == 0 || slowest > time.Millisecond || calls > 50+500/5 {
			t.Errorf("among many it waits %v, %d packets in %d calls", slowest, packets, calls)
		}
		mu.Unlock()
		out.Close()
		<-done
	})
}

// On a bad link what comes is as it was and comes once.
func TestSimulated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := world.Link{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.05, Duplicate: 0.05, Reorder: 0.05}
		sim := world.NewSim(1, link)
		out, in := join(t, simulated(t, sim), false)
		got := carry(t, out, in, 200)
		if len(got) < 850 || len(got) > 990 {
			t.Errorf("%d of 1000 came", len(got))
		}
		for c, times := range got {
			if times != 1 {
				t.Errorf("%+v came %d times", c, times)
			}
		}
	})
}

// What is not the sending end's is neither delivered nor answered: not nonsense, not what was captured, from there or here.
func TestStrangers(t *testing.T) {
	out, in := join(t, real(t), false)
	other, err := world.Real().Net.Dial(t.Context(), "udp", in.conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	delivered := make(chan string, 100)
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx, func(_ uint64, _ uint32, b []byte) { delivered <- string(b) }, nil) }()
	if err := out.Send(1, 1, []byte("genuine")); err != nil {
		t.Fatal(err)
	}
	if got := <-delivered; got != "genuine" {
		t.Fatalf("got %q", got)
	}
	out.sending.Lock()
	captured := bytes.Clone(out.sealed[:128])
	out.sending.Unlock()
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

// Threats, row 20, on a trunk: of packets that were changed, re-keyed or captured none is delivered, and they stop no
// genuine one.
func TestInjected(t *testing.T) {
	scale, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE"))
	if err != nil || scale < 1 {
		scale = 1
	}
	key := bytes.Repeat([]byte{1}, seal.KeySize)
	sealer, err1 := seal.NewSealer(key, 7)
	stranger, err2 := seal.NewSealer(bytes.Repeat([]byte{2}, seal.KeySize), 7)
	opener, err3 := seal.NewOpener(key, 7)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	delivered := 0
	in := &In{opener: opener, deliver: func(stream uint64, _ uint32, payload []byte) {
		delivered++
		if stream != 5 || string(payload) != "genuine" {
			t.Errorf("stream %d: %q is delivered", stream, payload)
		}
	}}
	random := rand.New(rand.NewPCG(5, 6))
	from := netip.MustParseAddrPort("10.0.0.1:1")
	var last []byte
	bundle, evil := appendFrame(nil, 5, 1, []byte("genuine")), appendFrame(nil, 5, 1, []byte("injected"))
	rounds, injected := 1000*scale, uint64(0)
	for n := range rounds {
		d, err := sealer.Seal(nil, kindBundle, bundle)
		if err != nil {
			t.Fatal(err)
		}
		for range 9 {
			bad := bytes.Clone(d)
			bad[random.IntN(len(bad))] ^= 1 << random.IntN(8)
			in.take(bad, from)
		}
		other, err := stranger.Seal(nil, kindBundle, evil)
		if err != nil {
			t.Fatal(err)
		}
		in.take(other, from)
		injected += 10
		if last != nil {
			in.take(last, from)
			injected++
		}
		in.take(d, from)
		last = d
		if delivered != n+1 {
			t.Fatalf("%d delivered of %d genuine", delivered, n+1)
		}
	}
	if _, strange := in.Stats(); strange != injected {
		t.Errorf("%d of %d injected are counted", strange, injected)
	}
	t.Logf("PROVE trunk: %d injected datagrams, 0 delivered; %d genuine ones among them, 0 refused", injected, rounds)
}

func TestTooLong(t *testing.T) {
	out, in := join(t, real(t), false)
	if err := out.Send(1, 1, make([]byte, MaxPayload+1)); err == nil {
		t.Error("a datagram that does not fit is taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in.Run(ctx, nil, nil)
	out.Close()
}

// FuzzParse reads any bundle and any control message of the kernel's. What is read is said back in the same bytes.
func FuzzParse(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, 1, 2, []byte("hello")), 1<<40, 3, nil))
	f.Add(append(appendFrame(nil, 1, 2, []byte("hello")), 0, 0, 0))
	f.Add(segmentControl())
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := segmentSize(b); n < 0 || n > 1<<16 {
			t.Errorf("a size of %d", n)
		}
		var again []byte
		for rest, ok := b, true; ok; {
			var stream uint64
			var epoch uint32
			var payload []byte
			if stream, epoch, payload, rest, ok, _ = parseFrame(rest); ok {
				again = appendFrame(again, stream, epoch, payload)
			}
		}
		if !bytes.HasPrefix(b, again) {
			t.Errorf("%x was read as %x", b, again)
		}
	})
}

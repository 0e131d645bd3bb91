package announce

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ninja/ca"
	"ninja/internal/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scale multiplies the counts of the proofs: 1 in make test.
func scale() int {
	n, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// wire is a network in memory for datagrams: what is written arrives once and at once, unless its fields say otherwise.
type wire struct {
	mu     sync.Mutex
	port   uint16
	socks  map[*sock]bool
	tap    func(d []byte, from, to netip.AddrPort) // sees everything that is sent
	drop   func(d []byte, to netip.AddrPort) bool
	copies int                  // of every datagram beyond the first
	delay  func() time.Duration // of each copy; so datagrams overtake each other
}

func newWire() *wire { return &wire{port: 40000, socks: map[*sock]bool{}} }

// world is a host on the wire.
func (w *wire) world() world.World { return world.World{Now: time.Now, Rand: rand.Reader, Net: w} }

type sock struct {
	wire   *wire
	local  netip.AddrPort
	group  netip.AddrPort
	in     chan letter
	closed chan struct{}
	once   sync.Once
}

type letter struct {
	data []byte
	from netip.AddrPort
}

func (w *wire) open(local, group netip.AddrPort) *sock {
	w.mu.Lock()
	defer w.mu.Unlock()
	if local.Port() == 0 {
		w.port++
		local = netip.AddrPortFrom(local.Addr(), w.port)
	}
	s := &sock{wire: w, local: local, group: group, in: make(chan letter, 1000), closed: make(chan struct{})}
	w.socks[s] = true
	return s
}

func (w *wire) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, errors.New("no streams")
}
func (w *wire) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("no streams")
}
func (w *wire) ListenPacket(_ context.Context, _, address string) (net.PacketConn, error) {
	if address == ":0" {
		address = "127.0.0.1:0"
	}
	a, err := netip.ParseAddrPort(address)
	return w.open(a, netip.AddrPort{}), err
}
func (w *wire) ListenMulticast(_ context.Context, group netip.AddrPort, via netip.Addr) (net.PacketConn, error) {
	return w.open(netip.AddrPortFrom(via, group.Port()), group), nil
}

// send delivers d to the sockets that are at, or joined to, the address.
func (w *wire) send(d []byte, from, to netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tap != nil {
		w.tap(d, from, to)
	}
	if w.drop != nil && w.drop(d, to) {
		return
	}
	for s := range w.socks {
		if s.group == to || s.group == (netip.AddrPort{}) && s.local == to {
			for range 1 + w.copies {
				w.deliver(s, letter{slices.Clone(d), from})
			}
		}
	}
}

func (w *wire) deliver(s *sock, l letter) {
	put := func() {
		select {
		case s.in <- l:
		default:
		}
	}
	if w.delay == nil {
		put()
		return
	}
	time.AfterFunc(w.delay(), put)
}

func (s *sock) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case l := <-s.in:
		return copy(p, l.data), net.UDPAddrFromAddrPort(l.from), nil
	case <-s.closed:
		return 0, nil, net.ErrClosed
	}
}
func (s *sock) WriteTo(p []byte, to net.Addr) (int, error) {
	s.wire.send(p, s.local, addrPort(to))
	return len(p), nil
}
func (s *sock) Close() error {
	s.once.Do(func() {
		s.wire.mu.Lock()
		delete(s.wire.socks, s)
		s.wire.mu.Unlock()
		close(s.closed)
	})
	return nil
}
func (s *sock) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(s.local) }
func (s *sock) SetDeadline(time.Time) error      { return nil }
func (s *sock) SetReadDeadline(time.Time) error  { return nil }
func (s *sock) SetWriteDeadline(time.Time) error { return nil }

// shelf is a Sink that remembers what lives.
type shelf struct {
	mu     sync.Mutex
	bodies map[string]Body
	until  map[string]time.Time
	puts   int
	hates  string // the name whose bodies are refused
	hated  int
}

func newShelf() *shelf { return &shelf{bodies: map[string]Body{}, until: map[string]time.Time{}} }

func (s *shelf) Put(b Body) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hates == b.Name {
		s.hated++
		return refuse(ReasonMalformed, "line 3: an attribute twice")
	}
	if before, ok := s.bodies[b.ID()]; ok && before.Version > b.Version {
		return refuse(ReasonReplay, "older than what is held")
	}
	s.puts++
	s.bodies[b.ID()], s.until[b.ID()] = b, time.Now().Add(b.Lifetime)
	return nil
}

func (s *shelf) Refresh(owner ca.ID, lifetime time.Duration, pairs []Pair) (unknown []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range pairs {
		id := string(owner) + "#" + p.Name
		b, ok := s.bodies[id]
		if !ok || b.Version != p.Version {
			unknown = append(unknown, p.Name)
			continue
		}
		b.Numbers = p.Numbers
		s.bodies[id], s.until[id] = b, time.Now().Add(lifetime)
	}
	return unknown
}

func (s *shelf) Withdraw(owner ca.ID, name string, version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := string(owner) + "#" + name
	if b, ok := s.bodies[id]; ok && b.Version <= version {
		delete(s.bodies, id)
		delete(s.until, id)
	}
}

// live counts what has not expired.
func (s *shelf) live() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, at := range s.until {
		if time.Now().Before(at) {
			n++
		}
	}
	return n
}

func (s *shelf) get(id string) (Body, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.bodies[id]
	return b, ok
}

// quiet keeps the expected complaints out of the tests' output.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func authority(t testing.TB, w world.World) *ca.Authority {
	t.Helper()
	a, err := ca.NewAuthority(w, "test")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func identity(t testing.TB, a *ca.Authority, kind, name string) *ca.Identity {
	t.Helper()
	id, err := a.NewIdentity(kind, name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// serverUnderTest is a server that runs until stop.
type serverUnderTest struct {
	*shelf
	announcer *ServerAnnouncer
	receiver  *Receiver
	stop      func()
}

const testPeriod = 1024 * time.Millisecond

var testUDP = netip.MustParseAddrPort("127.0.0.1:7703")

func startServer(t testing.TB, w world.World, id *ca.Identity, change func(*ServerAnnouncerConfig)) *serverUnderTest {
	t.Helper()
	return startServerWith(t, w, id, change, nil)
}

func startServerWith(t testing.TB, w world.World, id *ca.Identity, change func(*ServerAnnouncerConfig), receive func(*ReceiverConfig)) *serverUnderTest {
	t.Helper()
	cfg := ServerAnnouncerConfig{
		Identity: id, World: w, Log: quiet(), Addresses: []string{"127.0.0.1:7700"}, UDP: testUDP, Period: testPeriod,
		CA: []string{"127.0.0.1:7710"}, Capability: []string{"127.0.0.1:7711"},
	}
	if change != nil {
		change(&cfg)
	}
	announcer, err := NewServerAnnouncer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &serverUnderTest{shelf: newShelf(), announcer: announcer}
	received := ReceiverConfig{Identity: id, World: w, Log: quiet(), Announcer: announcer, Sink: s.shelf}
	if receive != nil {
		receive(&received)
	}
	s.receiver, err = NewReceiver(received)
	if err != nil {
		t.Fatal(err)
	}
	s.stop = start(s.receiver.Run, announcer.Run)
	return s
}

// start runs until the returned function is called, which waits.
func start(runs ...func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range runs {
		running.Go(func() {
			if err := run(ctx); !errors.Is(err, context.Canceled) {
				panic(fmt.Sprint("ended early: ", err))
			}
		})
	}
	return func() { cancel(); running.Wait() }
}

func startAnnouncer(t testing.TB, w world.World, id *ca.Identity, change func(*Config)) (*Announcer, func()) {
	t.Helper()
	cfg := Config{Identity: id, World: w, Log: quiet(), Period: testPeriod}
	if change != nil {
		change(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a, start(a.Run)
}

func publish(t testing.TB, a *Announcer, name, description string) {
	t.Helper()
	if err := a.Publish(name, []byte(description)); err != nil {
		t.Fatal(err)
	}
}

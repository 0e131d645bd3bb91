package announce

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"ninja/ca"
	"ninja/internal/world"
)

// told is a Sink that says when a body and when a refresh came.
type told struct {
	*shelf
	put       chan Body
	refreshed chan bool
}

func (s told) Refresh(owner ca.ID, lifetime time.Duration, pairs []Pair) []string {
	unknown := s.shelf.Refresh(owner, lifetime, pairs)
	select {
	case s.refreshed <- true:
	default:
	}
	return unknown
}

// unused is a Stream that nothing should be left to.
type unused struct{ t *testing.T }

func (s unused) Send(context.Context, []Body, []Pair, []Pair) ([]string, error) {
	s.t.Error("the stream was used though datagrams and replies pass")
	return nil, nil
}

func (s told) Put(b Body) error {
	err := s.shelf.Put(b)
	select {
	case s.put <- b:
	default:
	}
	return err
}

// freePort is a UDP port that nobody uses now.
func freePort(t testing.TB) uint16 {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return addrPort(c.LocalAddr()).Port()
}

// The same over the operating system's multicast, on the loopback interface.
func TestRealMulticast(t *testing.T) {
	w := world.Real()
	domain := authority(t, w)
	id, owner := identity(t, domain, ca.KindSDS, "one"), identity(t, domain, ca.KindUnit, "u")
	group := func(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), freePort(t)) }
	servers, services := group("239.255.88.1"), group("239.255.88.2")
	udp := netip.AddrPortFrom(Loopback, freePort(t))
	serve := func() (told, func()) {
		announcer, err := NewServerAnnouncer(ServerAnnouncerConfig{
			Identity: id, World: w, Servers: servers, Services: services, UDP: udp,
			Addresses: []string{"127.0.0.1:7700"}, Period: 512 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		sink := told{newShelf(), make(chan Body, 1), make(chan bool)}
		receiver, err := NewReceiver(ReceiverConfig{Identity: id, World: w, Announcer: announcer, Sink: sink})
		if err != nil {
			t.Fatal(err)
		}
		return sink, start(announcer.Run, receiver.Run)
	}
	wait := func(sink told) {
		t.Helper()
		select {
		case b := <-sink.put:
			if b.Name != "s" || b.Owner != owner.ID() {
				t.Fatalf("%+v", b)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing came")
		}
	}
	sink, stop := serve()
	a, stopAnnouncer := startAnnouncer(t, w, owner, func(c *Config) {
		c.Servers, c.Stream, c.Period = servers, unused{t}, time.Minute
	})
	defer stopAnnouncer()
	publish(t, a, "s", document)
	wait(sink)
	for range 8 { // replies come back, or the announcer would use its stream by now
		<-sink.refreshed
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if info, err := Listen(ctx, ListenConfig{Identity: owner, World: w, Servers: servers}); err != nil || info.UDP != udp {
		t.Fatal(info, err)
	}
	stop()
	sink, stop = serve()
	defer stop()
	wait(sink)
}

package announce

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ninja/ca"
	"ninja/ca/seal"
	"ninja/internal/world"
)

const document = `<service xmlns="urn:test"><kind>printer</kind><floor>3</floor></service>`

// "Providers periodically broadcast service descriptions to a multicast channel, using the address and broadcast rate
// defined by the server announcement messages" (ninja-architecture, 6.1).
func TestAnnounceAndListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newWire()
		w := net.world()
		net.tap = func(d []byte, from, to netip.AddrPort) {
			if len(d) > seal.MaxDatagram {
				t.Errorf("a datagram of %d bytes", len(d))
			}
		}
		domain := authority(t, w)
		server := startServer(t, w, identity(t, domain, ca.KindSDS, "one"), nil)
		defer server.stop()
		owner := identity(t, domain, ca.KindUnit, "printer")
		a, stop := startAnnouncer(t, w, owner, nil)
		defer stop()
		publish(t, a, "print", document)
		time.Sleep(2 * testPeriod)
		got, ok := server.get(string(owner.ID()) + "#print")
		if !ok || string(got.Description) != document || got.Lifetime != LifetimePeriods*testPeriod {
			t.Fatalf("after two periods the server holds %+v; it refused %v", got, server.receiver.Stats().Refused)
		}
		if _, err := got.Verify(owner); err != nil {
			t.Fatal(err)
		}
		info, ok := a.Server()
		if !ok || info.Addresses[0] != "127.0.0.1:7700" || info.CA[0] != "127.0.0.1:7710" || info.Capability[0] != "127.0.0.1:7711" {
			t.Fatalf("the service follows %+v", info)
		}
		// Named numbers come with the refresh, and a refresh is not a body.
		a.SetNumbers("print", map[string]float64{"load": 0.5})
		time.Sleep(2 * testPeriod)
		if got, _ = server.get(got.ID()); got.Numbers["load"] != 0.5 {
			t.Fatalf("numbers %v", got.Numbers)
		}
		time.Sleep(20 * testPeriod)
		if server.live() != 1 {
			t.Fatal("a service that announces itself has expired")
		}
		a.Withdraw("print")
		time.Sleep(10 * time.Millisecond)
		if server.live() != 0 {
			t.Fatal("a withdrawn service lives")
		}
		publish(t, a, "print", document+" ")
		time.Sleep(10 * time.Millisecond)
		if server.live() != 1 {
			t.Fatal("a service published again does not live at once")
		}
		stop()
		time.Sleep((LifetimePeriods + 1) * testPeriod)
		if server.live() != 0 {
			t.Fatal("a dead service lives")
		}
	})
}

// "Because servers keep a cache of announcement service descriptions, a restarted server restores its data by listening
// to the channel" (ninja-architecture, 6.1); ours within three periods.
func TestRefillAfterRestart(t *testing.T) {
	for _, lossOf := range []int{0, 5, 20} { // percent
		t.Run(fmt.Sprintf("loss=%d%%", lossOf), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const senders, each = 10, 5
				net := newWire()
				w := net.world()
				periods := 3
				if lossOf > 0 { // and what is not lost comes twice, late and out of order
					net.drop = func([]byte, netip.AddrPort) bool { return int(w.Uint64()%100) < lossOf }
					// A sender's key block and certificates both have to come through, every third period a chance of
					// two thirds at 20 %: after 40 periods one sender in ten million is still missing.
					periods = 40
					net.copies, net.delay = 1, func() time.Duration { return time.Duration(w.Uint64() % 50e6) }
				}
				domain := authority(t, w)
				id := identity(t, domain, ca.KindSDS, "one")
				server := startServer(t, w, id, nil)
				for n := range senders {
					a, stop := startAnnouncer(t, w, identity(t, domain, ca.KindUnit, fmt.Sprint("u", n)), nil)
					defer stop()
					for m := range each {
						publish(t, a, fmt.Sprint("s", m), document)
					}
				}
				time.Sleep(time.Duration(2*periods) * testPeriod)
				if n := server.live(); n != senders*each {
					t.Errorf("%d services live before the restart, not %d", n, senders*each)
				}
				server.stop()
				time.Sleep(testPeriod / 3)
				server = startServer(t, w, id, nil)
				defer server.stop()
				time.Sleep(time.Duration(periods) * testPeriod)
				if n := server.live(); n != senders*each {
					t.Errorf("%d services live %d periods after the restart, not %d; refused %v", n, periods, senders*each, server.receiver.Stats().Refused)
				}
			})
		})
	}
}

// Networks without multicast: the same bytes by unicast, to a server that is asked for its announcement.
func TestFixedServerByUnicast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newWire()
		w := net.world()
		domain := authority(t, w)
		id := identity(t, domain, ca.KindSDS, "one")
		noMulticast := func(c *ServerAnnouncerConfig) { c.NoMulticast = true }
		server := startServer(t, w, id, noMulticast)
		a, stop := startAnnouncer(t, w, identity(t, domain, ca.KindUnit, "u"), func(c *Config) {
			c.NoMulticast, c.Server = true, testUDP
		})
		defer stop()
		publish(t, a, "s", document)
		time.Sleep(2 * testPeriod)
		if server.live() != 1 {
			t.Fatalf("refused %v", server.receiver.Stats().Refused)
		}
		server.stop()
		server = startServer(t, w, id, noMulticast)
		defer server.stop()
		time.Sleep(5 * testPeriod)
		if server.live() != 1 {
			t.Fatalf("after a restart; refused %v", server.receiver.Stats().Refused)
		}
		// A client finds the server the same way; one that asks where nobody is says where it asked.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		client := ListenConfig{Identity: identity(t, domain, ca.KindUser, "ann"), World: w, Log: quiet(), Server: testUDP}
		if info, err := Listen(ctx, client); err != nil || info.ID != id.ID() {
			t.Errorf("%+v, %v", info, err)
		}
		client.Server = netip.MustParseAddrPort("127.0.0.1:9")
		if _, err := Listen(ctx, client); err == nil || !strings.Contains(err.Error(), "127.0.0.1:9") {
			t.Error(err)
		}
	})
}

// toShelf is a Stream straight into a Sink, with the checks that a server makes.
type toShelf struct {
	mu    sync.Mutex
	shelf *shelf
	owner ca.ID
	id    *ca.Identity
	sent  int
}

func (s *toShelf) Send(_ context.Context, bodies []Body, pairs, withdrawn []Pair) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	for _, b := range bodies {
		if _, err := b.Verify(s.id); err != nil {
			return nil, err
		}
		b.Lifetime = LifetimePeriods * testPeriod
		if err := s.shelf.Put(b); err != nil {
			return nil, err
		}
	}
	for _, p := range withdrawn {
		s.shelf.Withdraw(s.owner, p.Name, p.Version)
	}
	return s.shelf.Refresh(s.owner, LifetimePeriods*testPeriod, pairs), nil
}

// No UDP at all: everything goes by the stream, and after a restart of the server again.
func TestStreamAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world.World{Now: time.Now, Rand: newWire().world().Rand}
		domain := authority(t, w)
		owner := identity(t, domain, ca.KindUnit, "u")
		stream := &toShelf{shelf: newShelf(), owner: owner.ID(), id: identity(t, domain, ca.KindSDS, "one")}
		a, stop := startAnnouncer(t, w, owner, func(c *Config) {
			c.NoMulticast, c.Stream = true, stream
		})
		defer stop()
		publish(t, a, "s", document)
		publish(t, a, "gone", document)
		time.Sleep(20 * testPeriod)
		if n := stream.shelf.live(); n != 2 || stream.shelf.puts != 2 {
			t.Fatalf("%d live after %d puts", n, stream.shelf.puts)
		}
		a.Withdraw("gone")
		time.Sleep(testPeriod)
		if n := stream.shelf.live(); n != 1 {
			t.Fatalf("%d live after a withdrawal", n)
		}
		stream.mu.Lock()
		stream.shelf = newShelf()
		stream.mu.Unlock()
		time.Sleep(2 * testPeriod)
		if n := stream.shelf.live(); n != 1 {
			t.Fatalf("%d live after a restart", n)
		}
	})
}

// What does not fit into a datagram goes by the stream; what fits does not.
func TestLargeDescriptionsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newWire()
		w := net.world()
		domain := authority(t, w)
		id := identity(t, domain, ca.KindSDS, "one")
		server := startServer(t, w, id, nil)
		defer server.stop()
		owner := identity(t, domain, ca.KindUnit, "u")
		stream := &toShelf{shelf: server.shelf, owner: owner.ID(), id: id}
		a, stop := startAnnouncer(t, w, owner, func(c *Config) { c.Stream = stream })
		defer stop()
		noise := make([]byte, 4000)
		w.Fill(noise)
		publish(t, a, "large", fmt.Sprintf("<large>%x</large>", noise))
		publish(t, a, "small", document)
		time.Sleep(20 * testPeriod)
		if n := server.live(); n != 2 {
			t.Fatalf("%d live", n)
		}
		stop()
		if stream.sent == 0 || stream.sent > 25 {
			t.Fatalf("the stream was used %d times in 20 periods", stream.sent)
		}
	})
}

// Where replies cannot come back (a packet filter), the stream takes over.
func TestStreamWhenUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newWire()
		w := net.world()
		net.drop = func(d []byte, to netip.AddrPort) bool {
			return to.Addr().IsMulticast() && to.Port() == DefaultServices.Port()
		}
		domain := authority(t, w)
		id := identity(t, domain, ca.KindSDS, "one")
		server := startServer(t, w, id, nil)
		defer server.stop()
		owner := identity(t, domain, ca.KindUnit, "u")
		a, stop := startAnnouncer(t, w, owner, func(c *Config) {
			c.Stream = &toShelf{shelf: server.shelf, owner: owner.ID(), id: id}
		})
		defer stop()
		publish(t, a, "s", document)
		time.Sleep(5 * testPeriod)
		if server.live() != 1 {
			t.Fatal("nothing came by the stream")
		}
	})
}

// Datagrams stop passing while services live, at any moment of the period: the stream takes over before anybody expires.
func TestDatagramsStopPassing(t *testing.T) {
	for part := range 8 {
		synctest.Test(t, func(t *testing.T) {
			net := newWire()
			w := net.world()
			domain := authority(t, w)
			id := identity(t, domain, ca.KindSDS, "one")
			server := startServer(t, w, id, nil)
			defer server.stop()
			owner := identity(t, domain, ca.KindUnit, "u")
			stream := &toShelf{shelf: server.shelf, owner: owner.ID(), id: id}
			a, stop := startAnnouncer(t, w, owner, func(c *Config) { c.Stream = stream })
			defer stop()
			publish(t, a, "s", document)
			time.Sleep(8*testPeriod + time.Duration(part)*3*testPeriod/8)
			stream.mu.Lock()
			if stream.sent > 0 {
				t.Errorf("the stream was used %d times though datagrams pass", stream.sent)
			}
			stream.mu.Unlock()
			net.mu.Lock()
			net.drop = func(_ []byte, to netip.AddrPort) bool { return to != DefaultServers } // the server is still heard
			net.mu.Unlock()
			for range 12 * 16 {
				time.Sleep(testPeriod / 16)
				if server.live() != 1 {
					t.Fatal("the service expired before the stream took over")
				}
			}
		})
	}
}

// A service follows the most specific server, and the next one when that is gone.
func TestMostSpecificServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newWire()
		w := net.world()
		domain := authority(t, w)
		wide := startServer(t, w, identity(t, domain, ca.KindSDS, "a-wide"), nil)
		defer wide.stop()
		narrow := startServer(t, w, identity(t, domain, ca.KindSDS, "narrow"), func(c *ServerAnnouncerConfig) {
			c.Extent.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			c.UDP = netip.MustParseAddrPort("127.0.0.1:7704")
		})
		elsewhere := startServer(t, w, identity(t, domain, ca.KindSDS, "elsewhere"), func(c *ServerAnnouncerConfig) {
			c.Extent.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
			c.UDP = netip.MustParseAddrPort("127.0.0.1:7705")
		})
		defer elsewhere.stop()
		a, stop := startAnnouncer(t, w, identity(t, domain, ca.KindUnit, "u"), nil)
		defer stop()
		publish(t, a, "s", document)
		time.Sleep(4 * testPeriod)
		if narrow.live() != 1 || elsewhere.live() != 0 {
			t.Fatalf("live: narrow %d, elsewhere %d", narrow.live(), elsewhere.live())
		}
		narrow.stop()
		time.Sleep(10 * testPeriod)
		if wide.live() != 1 {
			t.Fatal("the wide server does not stand in")
		}
	})
}

func TestListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newWire()
		w := net.world()
		domain := authority(t, w)
		client := identity(t, domain, ca.KindUser, "me")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := Listen(ctx, ListenConfig{Identity: client, World: w, Log: quiet()}); err == nil {
			t.Fatal("heard a server where there is none")
		}
		server := startServer(t, w, identity(t, domain, ca.KindSDS, "one"), nil)
		defer server.stop()
		ctx, cancel = context.WithTimeout(context.Background(), 4*testPeriod)
		defer cancel()
		info, err := Listen(ctx, ListenConfig{Identity: client, World: w, Log: quiet()})
		if err != nil || info.ID.Name() != "one" || info.Domain() != "test" {
			t.Fatalf("%+v, %v", info, err)
		}
	})
}

// A description that the server refuses is not sent again and again; its owner is told why, the others live, and a
// corrected one is taken. By datagrams and by the stream.
func TestRefusedDescription(t *testing.T) {
	for _, byStream := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			net := newWire()
			w := net.world()
			domain := authority(t, w)
			id := identity(t, domain, ca.KindSDS, "one")
			server := startServer(t, w, id, nil)
			defer server.stop()
			server.shelf.mu.Lock()
			server.shelf.hates = "bad"
			server.shelf.mu.Unlock()
			owner := identity(t, domain, ca.KindUnit, "u")
			var log strings.Builder
			a, stop := startAnnouncer(t, w, owner, func(c *Config) {
				c.Log = slog.New(slog.NewTextHandler(&log, nil))
				if byStream {
					c.NoMulticast, c.Stream = true, &toShelf{shelf: server.shelf, owner: owner.ID(), id: id}
				}
			})
			defer stop()
			publish(t, a, "good", document)
			publish(t, a, "bad", document)
			time.Sleep(20 * testPeriod)
			server.shelf.mu.Lock()
			tried := server.shelf.hated
			server.shelf.hates = ""
			server.shelf.mu.Unlock()
			if server.live() != 1 || tried == 0 || tried > 3 {
				t.Errorf("%d live; the bad one came %d times", server.live(), tried)
			}
			publish(t, a, "bad", document+" ")
			time.Sleep(2 * testPeriod)
			if server.live() != 2 {
				t.Errorf("%d live after the correction", server.live())
			}
			stop()
			if n := strings.Count(log.String(), "line 3"); n != 1 {
				t.Errorf("the owner was told %d times:\n%s", n, log.String())
			}
		})
	}
}

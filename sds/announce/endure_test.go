package announce

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ninja/ca"
	"ninja/ca/seal"
	"ninja/internal/world"
)

// Threats, row 5: the server's clock jumps back an hour: nothing is replayed, nothing live is dropped.
func TestClockJumpsBack(t *testing.T) {
	r := settled(t)
	real := r.now
	back := r.now.Add(-time.Hour).Round(0)
	for _, d := range r.toServer {
		reply, _, _ := r.hearing.handle(d, senderAt, back)
		if len(reply.datagram) > 0 {
			t.Fatal("a replay was answered")
		}
	}
	if n := r.hearing.sweep(back); n != 1 {
		t.Fatalf("%d epochs live after the jump", n)
	}
	before := r.sink.until[string(r.owner.ID())+"#print"]
	r.now = real.Add(testPeriod)
	out, _, _ := r.sender.due(r.now)
	for _, d := range out {
		if _, _, err := r.hearing.handle(d, senderAt, back.Add(testPeriod)); err != nil {
			t.Fatal(err)
		}
	}
	if len(out) == 0 || !r.sink.until[string(r.owner.ID())+"#print"].After(before) {
		t.Fatal("a refresh after the jump did not count")
	}
	// What the server now says of itself is refused for its time, and services keep to what they know.
	late, err := r.announcer.datagrams(back, false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.directory.handle(late[0], r.now)
	wantReason(t, err, ReasonSkew)
	if r.directory.choose(senderAt.Addr(), ca.KindUnit, r.server.ID(), r.now.Add(time.Hour)) == nil {
		t.Fatal("the present server was given up")
	}
}

// An epoch that has ended stays so, though the clock goes back and makes its expiry and its certificates good again; so
// does one that its sender's newer ones pushed out.
func TestEndedEpochsStayEnded(t *testing.T) {
	r := settled(t)
	recorded := slices.Clone(r.toServer)
	if n := r.hearing.sweep(r.now.Add(2 * time.Hour)); n != 0 {
		t.Fatalf("%d epochs live too long", n)
	}
	before := r.state()
	for _, d := range recorded {
		r.give(d)
	}
	if after := r.state(); after != before {
		t.Fatalf("replays changed\n%s\nto\n%s", before, after)
	}
	r = settled(t)
	recorded = slices.Clone(r.toServer)
	for n := range 3 * epochsPerSender { // the service restarts again and again
		r.now = r.now.Add(time.Second)
		r.sender = newSender(r.owner, r.world, time.Hour, r.now)
		r.announceServer()
		r.run(testPeriod)
		if got := len(r.hearing.epochs); got != min(n+2, epochsPerSender) {
			t.Fatalf("%d epochs after %d restarts", got, n+1)
		}
	}
	for _, d := range recorded {
		if err := r.give(d); err == nil && kindOf(d) != kindKeyBlock && kindOf(d) != kindHello {
			t.Fatal("a record of an epoch that was pushed out is taken")
		}
	}
	if h := r.sender.present.handle; r.hearing.epochs[h] == nil {
		t.Fatal("replays pushed out the live epoch")
	}
}

// Epochs, sealing keys and certificates are replaced again and again; nobody expires, nothing old stays.
func TestTurnover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newWire()
		w := net.world()
		domain := authority(t, w)
		server := startServer(t, w, identity(t, domain, ca.KindSDS, "one"), func(c *ServerAnnouncerConfig) {
			c.KeyLife = 40 * testPeriod
		})
		defer server.stop()
		owner := identity(t, domain, ca.KindUnit, "u")
		a, stop := startAnnouncer(t, w, owner, func(c *Config) { c.EpochLife = 20 * testPeriod })
		defer stop()
		publish(t, a, "s", document)
		time.Sleep(3 * testPeriod)
		handles, keys := map[uint64]bool{}, map[[32]byte]bool{}
		for i := range 400 {
			if i%100 == 50 {
				chain, err := domain.Issue(owner.ID(), owner.Public(), time.Hour)
				if err == nil {
					a.mu.Lock()
					err = owner.Renew(chain, domain.Roots())
					a.mu.Unlock()
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(testPeriod)
			if server.live() != 1 {
				t.Fatalf("expired in period %d; refused %v", i, server.receiver.Stats().Refused)
			}
			a.mu.Lock()
			handles[a.sender.present.handle] = true
			a.mu.Unlock()
			keys[server.announcer.keys.now().hash] = true
		}
		if len(handles) < 15 || len(keys) < 9 {
			t.Errorf("%d epochs and %d sealing keys in 400 periods", len(handles), len(keys))
		}
		if s := server.receiver.Stats(); s.Epochs > epochsPerSender {
			t.Errorf("%d epochs are held", s.Epochs)
		}
		b, _ := server.get(string(owner.ID()) + "#s")
		if !slices.EqualFunc(b.Chain, owner.Chain(), slices.Equal[[]byte]) {
			t.Error("the server holds the body with an old certificate")
		}
		if s := server.receiver.Stats(); s.Refused[ReasonSignature] > 0 || s.Refused[ReasonUnknown] > 0 {
			t.Errorf("refused %v", s.Refused)
		}
	})
}

// Threats, rows 12 to 14: strangers flood both ports with everything they can make; what lives keeps living, a
// newcomer gets in, no byte is gained by asking, and the receiver runs on.
func TestFloodOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newWire()
		w := net.world()
		domain := authority(t, w)
		id := identity(t, domain, ca.KindSDS, "one")
		server := startServer(t, w, id, nil)
		defer server.stop()
		for n := range 5 {
			a, stop := startAnnouncer(t, w, identity(t, domain, ca.KindUnit, fmt.Sprint("u", n)), nil)
			defer stop()
			publish(t, a, "s", document)
		}
		time.Sleep(3 * testPeriod)
		var in, out int
		attacker := netip.MustParseAddrPort("127.0.0.1:6666")
		net.mu.Lock()
		net.tap = func(d []byte, from, to netip.AddrPort) {
			if to == attacker {
				out += len(d)
			}
		}
		net.mu.Unlock()
		source := rand.New(rand.NewPCG(9, 10))
		flood := func(periods int) {
			for range periods * 40 {
				for range 4 * scale() {
					to := []netip.AddrPort{DefaultServices, testUDP, DefaultServers}[source.IntN(3)]
					for _, d := range strangersDatagrams(source, server.announcer) {
						in += len(d) // by this goroutine only; out is the tap's, under the wire's lock
						net.send(d, attacker, to)
					}
				}
				time.Sleep(testPeriod / 40)
			}
		}
		flood(2 * LifetimePeriods)
		if server.live() != 5 {
			t.Fatalf("%d of 5 live in the flood", server.live())
		}
		owner := identity(t, domain, ca.KindUnit, "new")
		a, stop := startAnnouncer(t, w, owner, func(c *Config) {
			c.Stream = &toShelf{shelf: server.shelf, owner: owner.ID(), id: id}
		})
		defer stop()
		publish(t, a, "s", document)
		flood(LifetimePeriods)
		if server.live() != 6 {
			t.Fatalf("%d of 6 live in the flood with a newcomer", server.live())
		}
		net.mu.Lock()
		defer net.mu.Unlock()
		if out > in {
			t.Fatalf("the attacker sent %d bytes and got %d", in, out)
		}
		if s := server.receiver.Stats(); s.Refused[ReasonSignature] == 0 {
			t.Errorf("no forged first contact got as far as the lane: refused %v", s.Refused)
		}
	})
}

// What anybody can send counts for nothing when the period is estimated: neither strangers' halves nor what was heard
// before can make services announce themselves less often.
func TestForgedTrafficDoesNotCount(t *testing.T) {
	r := settled(t)
	before := r.hearing.heard.Load()
	if before == 0 {
		t.Fatal("genuine datagrams do not count")
	}
	source := rand.New(rand.NewPCG(11, 12))
	for range 2000 {
		for _, d := range strangersDatagrams(source, r.announcer) {
			r.hearing.handle(d, senderAt, r.now)
		}
		r.hearing.handle(r.toServer[source.IntN(len(r.toServer))], senderAt, r.now)
	}
	if now := r.hearing.heard.Load(); now != before {
		t.Errorf("%d bytes of what anybody can send count", now-before)
	}
	r.run(testPeriod)
	if now := r.hearing.heard.Load(); now == before {
		t.Error("genuine datagrams no longer count")
	}
}

// strangersDatagrams are something that anybody can make.
func strangersDatagrams(r *rand.Rand, a *ServerAnnouncer) [][]byte {
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	switch r.IntN(6) {
	case 0: // first contact that looks right and is not
		d := append(appendPrefix(nil, kindKeyBlock), noise(keyBlockSize-prefixSize)...)
		hash := a.keys.now().hash
		copy(d[prefixSize:], hash[:keyIDSize])
		copy(d[prefixSize+keyIDSize+8:], appendMillis(nil, time.Now().Add(time.Hour)))
		hi := append(appendPrefix(nil, kindHello), d[prefixSize+keyIDSize:prefixSize+keyIDSize+8]...)
		return [][]byte{d, append(hi, noise(1024-len(hi))...)}
	case 1:
		return [][]byte{append(appendPrefix(nil, byte(r.IntN(9))), noise(128-prefixSize)...)}
	case 2:
		return [][]byte{makeSolicit(byte(r.IntN(4)))[:prefixSize+1+r.IntN(seal.MaxDatagram-prefixSize)]}
	case 3:
		return [][]byte{append(appendPrefix(nil, kindServer), noise(300)...)}
	case 4:
		return [][]byte{append(append(appendPrefix(nil, kindBlob), blobChain), noise(700)...)}
	}
	return [][]byte{noise(1 + r.IntN(1500))}
}

// One datagram that makes the store panic does not stop the receiver.
func TestOneBadDatagram(t *testing.T) {
	calls := 0
	guard(quiet(), func() { calls++; panic("bad") })
	guard(quiet(), func() { calls++ })
	if calls != 2 {
		t.Fatal("stopped")
	}
}

func TestLaneDropsAtRandom(t *testing.T) {
	w := world.Real()
	l := newLane(8, w.Uint64)
	now := time.Now()
	for i := range 1000 {
		l.add(laneKey{handle: uint64(i)}, kindKeyBlock, []byte{1}, now)
		if len(l.order) > 8 || len(l.waiting) != len(l.order) {
			t.Fatalf("%d in order, %d waiting", len(l.order), len(l.waiting))
		}
	}
	if l.next(now, time.Second) != nil {
		t.Fatal("half a stranger came out")
	}
	last := l.order[len(l.order)-1].key
	if !l.add(last, kindHello, []byte{2}, now) {
		t.Fatal("a whole one is not seen")
	}
	if s := l.next(now, time.Second); s == nil || s.key != last {
		t.Fatal("the whole one did not come out")
	}
	if l.next(now.Add(2*time.Second), time.Second); len(l.order) != 0 {
		t.Fatal("halves wait for ever")
	}
}

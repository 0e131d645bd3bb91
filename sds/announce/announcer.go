package announce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ninja/ca"
	"ninja/internal/world"
)

// Config configures an Announcer.
type Config struct {
	Identity *ca.Identity // whose services they are; needed
	World    world.World  // needed
	Log      *slog.Logger // nil: slog.Default
	// Servers is the channel to find a server on; zero: DefaultServers.
	Servers netip.AddrPort
	// Via is the address of the interface to use, and the place for which the most specific server is chosen; zero:
	// Loopback, or any where a Server is asked without multicast.
	Via netip.Addr
	// NoMulticast listens to no channel. Then Server is asked, or nobody and only the Stream is used.
	NoMulticast bool
	// Server is the unicast UDP address of a fixed server, which is asked for its announcement; zero: none.
	Server netip.AddrPort
	// Stream brings what does not fit into datagrams, and everything while no server replies to datagrams; nil: nothing does.
	Stream Stream
	// Period is how often everything is refreshed through the stream while no server says how often; zero: DefaultPeriod.
	Period time.Duration
	// EpochLife is for how long one key seals; zero: one hour.
	EpochLife time.Duration
}

// Announcer announces the services of one identity. It finds the responsible server by listening, publishes bodies,
// refreshes them every period, and withdraws. It may be used by several goroutines.
type Announcer struct {
	cfg    Config
	wake   chan struct{} // the sender has something new
	stream chan struct{} // the stream has something new

	mu        sync.Mutex
	sender    *sender
	directory *directory
	fixed     ca.ID // who answered at cfg.Server
	unheard   bool  // the server has not replied for too long, when the sender looked last
	version   uint64
	gripes    *gripes
}

// New makes an Announcer.
func New(cfg Config) (*Announcer, error) {
	if cfg.Identity == nil || cfg.World.Now == nil {
		return nil, errors.New("announce services: Identity and World are needed")
	}
	if cfg.NoMulticast && !cfg.Server.IsValid() && cfg.Stream == nil {
		return nil, errors.New("announce services: without multicast, the address of a Server or a Stream is needed")
	}
	cfg.Log = orDefaultLog(cfg.Log)
	setDefault(&cfg.Servers, DefaultServers)
	if !cfg.NoMulticast {
		setDefault(&cfg.Via, Loopback)
	}
	setDefault(&cfg.Period, DefaultPeriod)
	setDefault(&cfg.EpochLife, KeyLife)
	return &Announcer{
		cfg: cfg, wake: make(chan struct{}, 1), stream: make(chan struct{}, 1),
		sender:    newSender(cfg.Identity, cfg.World, cfg.EpochLife, cfg.World.Now()),
		directory: newDirectory(cfg.Identity),
		gripes:    newGripes(cfg.Log),
	}, nil
}

// Publish announces the description as the service name of the identity, in place of what was published under the name.
// The same bytes again are no change. Versions follow the clock, so that they grow over restarts.
func (a *Announcer) Publish(name string, description []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sender.same(name, description) {
		return nil
	}
	now := a.cfg.World.Now()
	a.version = max(a.version+1, uint64(now.UnixMilli()))
	b := Sign(a.cfg.Identity, name, a.version, slices.Clone(description))
	if err := b.check(); err != nil {
		return fmt.Errorf("publish %q: %w", name, err)
	}
	if before := a.sender.services[name]; before != nil {
		b.Numbers = before.body.Numbers
	}
	a.sender.publish(b, now)
	poke(a.wake)
	poke(a.stream)
	return nil
}

// SetNumbers sets the named numbers of a published service; the next refresh tells them. A name that is not published
// and numbers over the bounds are passed over: they are advice.
func (a *Announcer) SetNumbers(name string, n map[string]float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := CheckNumbers(n); err != nil {
		a.cfg.Log.Warn("numbers not announced", "service", name, "error", err)
		return
	}
	if v := a.sender.services[name]; v != nil {
		v.body.Numbers = maps.Clone(n)
	}
}

// Withdraw ends a service.
func (a *Announcer) Withdraw(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sender.withdraw(name, a.cfg.World.Now())
	poke(a.wake)
	poke(a.stream)
}

// Server is the server that is followed now; false when none was heard yet.
func (a *Announcer) Server() (ServerInfo, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sender.server == nil {
		return ServerInfo{}, false
	}
	return a.sender.server.info, true
}

// poke wakes who waits for c, now or when it next does.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run announces until ctx ends, whose error it returns; other errors say that a socket could not be opened. What was
// published simply expires afterwards; withdraw it first to end it at once.
func (a *Announcer) Run(ctx context.Context) error {
	channel, unicast, err := a.open(ctx)
	if err != nil {
		return fmt.Errorf("announce services of %s: %w", a.cfg.Identity.ID(), err)
	}
	var running sync.WaitGroup
	for _, conn := range []net.PacketConn{channel, unicast} {
		if conn != nil {
			running.Go(func() { readLoop(conn, a.cfg.Log, a.take) })
		}
	}
	if a.cfg.Stream != nil {
		running.Go(func() { a.runStream(ctx) })
	}
	if unicast != nil {
		if a.cfg.Server.IsValid() {
			running.Go(func() { a.solicit(ctx, unicast) })
		}
		a.runSender(ctx, channel, unicast)
	}
	<-ctx.Done()
	for _, conn := range []net.PacketConn{channel, unicast} {
		if conn != nil {
			conn.Close()
		}
	}
	running.Wait()
	return ctx.Err()
}

// open makes the sockets: of the server channel, through which multicast also leaves, and the one that hears replies.
// Without datagrams both are nil.
func (a *Announcer) open(ctx context.Context) (channel, unicast net.PacketConn, err error) {
	if a.cfg.NoMulticast && !a.cfg.Server.IsValid() {
		return nil, nil, nil
	}
	if unicast, err = a.cfg.World.Net.ListenPacket(ctx, "udp", anyPort(a.cfg.Via)); err != nil {
		return nil, nil, err
	}
	if a.cfg.NoMulticast {
		return nil, unicast, nil
	}
	a.mu.Lock()
	a.sender.replyTo = addrPort(unicast.LocalAddr())
	a.mu.Unlock()
	if channel, err = a.cfg.World.Net.ListenMulticast(ctx, a.cfg.Servers, a.cfg.Via); err != nil {
		unicast.Close()
	}
	return channel, unicast, err
}

// take handles a datagram of either socket: from a server to all, or a reply to us.
func (a *Announcer) take(d []byte, from netip.AddrPort) {
	now := a.cfg.World.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if kindOf(d) == kindReply {
		a.takeReply(d, now)
		return
	}
	server, err := a.directory.handle(d, now)
	var refused *Refused
	if errors.As(err, &refused) {
		a.gripes.about(refused, now)
	}
	if server == nil {
		return
	}
	if from == a.cfg.Server {
		a.fixed = server.info.ID
	}
	a.choose(now)
}

func (a *Announcer) takeReply(d []byte, now time.Time) {
	refusals, err := a.sender.reply(d, now)
	var refused *Refused
	if errors.As(err, &refused) {
		a.gripes.about(refused, now)
	}
	for _, f := range refusals {
		a.logRefusal(f)
	}
	poke(a.wake)
}

// choose follows the server that is best now.
func (a *Announcer) choose(now time.Time) {
	var present ca.ID
	if a.sender.server != nil {
		present = a.sender.server.info.ID
	}
	best := a.directory.choose(a.cfg.Via, a.cfg.Identity.ID(), present, now)
	if a.fixed != "" {
		best = a.directory.servers[a.fixed]
	}
	if best == nil || best.key == nil {
		return
	}
	before := a.sender.present
	if err := a.sender.follow(best, now); err != nil {
		a.cfg.Log.Error("cannot announce to the server", "server", string(best.info.ID), "error", err)
	}
	if a.sender.present != before {
		a.cfg.Log.Info("following server", "server", string(best.info.ID), "incarnation", best.info.Incarnation, "period", best.info.Period)
		poke(a.stream)
	}
	poke(a.wake)
}

// Pacing of datagrams: sockets of servers hold some 150 of the longest.
const (
	burst      = 16
	burstPause = 10 * time.Millisecond
)

// runSender sends what is due until ctx ends.
func (a *Announcer) runSender(ctx context.Context, channel, unicast net.PacketConn) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-a.wake:
		}
		out, conn, to, wait := a.due(channel, unicast)
		for i, d := range out {
			if conn == nil {
				break // the server takes no datagrams where we can send them: the stream does it
			}
			if _, err := conn.WriteTo(d, net.UDPAddrFromAddrPort(to)); err != nil {
				a.cfg.Log.Warn("announcement not sent; sent again next period", "to", to, "error", err)
				break
			}
			if i%burst == burst-1 && world.Sleep(ctx, burstPause) != nil {
				return
			}
		}
		timer.Reset(wait)
	}
}

// due asks the sender what to send, and says by which socket, where to, and when to ask again.
func (a *Announcer) due(channel, unicast net.PacketConn) (out [][]byte, conn net.PacketConn, to netip.AddrPort, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.World.Now()
	out, next, err := a.sender.due(now)
	if err != nil {
		a.cfg.Log.Error("announcement not made; tried again next period", "error", err)
	}
	if unheard := a.sender.unheard(now, a.firstWait()); unheard != a.unheard {
		if a.unheard = unheard; unheard {
			poke(a.stream) // at once, or services may expire before its turn
		}
	}
	if server := a.sender.server; server != nil {
		switch {
		case a.cfg.Server.IsValid():
			conn, to = unicast, a.cfg.Server
		case channel != nil && server.info.Channel.IsValid():
			conn, to = channel, server.info.Channel
		case server.info.UDP.IsValid():
			conn, to = unicast, server.info.UDP
		}
	}
	return out, conn, to, max(next.Sub(now), time.Millisecond)
}

// solicit asks a fixed server for its announcement and what it names, until it is known and every period after.
func (a *Announcer) solicit(ctx context.Context, conn net.PacketConn) {
	retry := 100 * time.Millisecond
	for n := 0; ; n++ {
		for _, what := range []byte{blobChain, blobAnnouncement, blobKey} {
			if _, known := a.Server(); known && what != blobAnnouncement && n%DefaultKeyEvery != 0 {
				continue
			}
			if _, err := conn.WriteTo(makeSolicit(what), net.UDPAddrFromAddrPort(a.cfg.Server)); err != nil {
				a.cfg.Log.Warn("server not asked; tried again", "server", a.cfg.Server, "error", err)
			}
			if world.Sleep(ctx, 5*time.Millisecond) != nil { // each is of use only after the one before
				return
			}
		}
		wait := a.cfg.World.Jitter(retry)
		if s, ok := a.Server(); ok {
			wait = s.Period
		} else {
			retry = min(2*retry, a.cfg.Period)
		}
		if world.Sleep(ctx, wait) != nil {
			return
		}
	}
}

// logRefusal tells the owner why a description is refused, once.
func (a *Announcer) logRefusal(f refusal) {
	if a.sender.noteRefusal(f) {
		a.cfg.Log.Warn("the server refuses a description", "service", f.name, "version", f.version, "reason", string(f.reason), "detail", f.detail)
	}
}

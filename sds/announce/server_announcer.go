package announce

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"ninja/ca"
	"ninja/internal/world"
)

// Defaults of the channels: administratively scoped groups (RFC 2365).
var (
	// DefaultServers is the well-known channel of server announcements.
	DefaultServers = netip.MustParseAddrPort("239.255.77.1:7701")
	// DefaultServices is the channel of service announcements.
	DefaultServices = netip.MustParseAddrPort("239.255.77.2:7702")
	// Loopback is the interface that channels are joined through when none is named.
	Loopback = netip.MustParseAddr("127.0.0.1")
)

// Defaults of times.
const (
	// DefaultPeriod is how often a service announces itself when nothing else is wanted.
	DefaultPeriod = 4096 * time.Millisecond
	// DefaultKeyEvery is in every which period key and certificates travel.
	DefaultKeyEvery = 3
	// KeyLife is for how long a sealing key is used before it is replaced and destroyed.
	KeyLife = time.Hour
	// MaxSkew is how far the clocks of two hosts may differ.
	MaxSkew = time.Minute
)

// ServerAnnouncerConfig configures a ServerAnnouncer.
type ServerAnnouncerConfig struct {
	Identity *ca.Identity // of the kind sds; needed
	World    world.World  // needed
	Log      *slog.Logger // nil: slog.Default
	// Servers is the channel of server announcements; zero: DefaultServers. Services is the channel that services are
	// told to use; zero: DefaultServices.
	Servers, Services netip.AddrPort
	// Via is the address of the interface to send through; zero: Loopback.
	Via netip.Addr
	// NoMulticast announces on no channel: only who asks at UDP learns of the server.
	NoMulticast bool
	Extent      Extent   // zero: everything
	Addresses   []string // of the gRPC service; needed
	// UDP is where the Receiver takes datagrams by unicast; zero: nowhere.
	UDP            netip.AddrPort
	CA, Capability []string // nil: not announced
	// Period is how often services shall announce themselves; zero: DefaultPeriod. It is rounded by RoundPeriod.
	Period time.Duration
	// Every is how often the server announces itself; zero: Period.
	Every time.Duration
	// KeyEvery is in every which announcement key and certificates travel; zero: DefaultKeyEvery. The first three
	// announcements of an incarnation and the first after a change bring them too.
	KeyEvery int
	// KeyLife is the life of a sealing key; zero: KeyLife.
	KeyLife time.Duration
}

// ServerAnnouncer announces an SDS server on the well-known channel and holds its sealing keys, which its Receiver uses.
type ServerAnnouncer struct {
	cfg         ServerAnnouncerConfig
	incarnation uint64
	keys        sealingKeys

	mu       sync.Mutex
	period   time.Duration   // wanted now
	longer   time.Duration   // wanted before, while some may still follow it
	shrunk   time.Time       // when period became shorter than longer
	sequence uint64          // of the last announcement
	latest   map[byte][]byte // the latest datagrams, by what they are, for solicitations
}

// NewServerAnnouncer makes the announcer of a new incarnation, with a sealing key made for it.
func NewServerAnnouncer(cfg ServerAnnouncerConfig) (*ServerAnnouncer, error) {
	if cfg.Identity == nil || cfg.World.Now == nil || len(cfg.Addresses) == 0 {
		return nil, errors.New("announce a server: Identity, World and Addresses are needed")
	}
	if kind := cfg.Identity.ID().Kind(); kind != ca.KindSDS {
		return nil, fmt.Errorf("announce a server as %s: only the kind %s may, not %s", cfg.Identity.ID(), ca.KindSDS, kind)
	}
	cfg.Log = orDefaultLog(cfg.Log)
	setDefault(&cfg.Servers, DefaultServers)
	setDefault(&cfg.Services, DefaultServices)
	setDefault(&cfg.Via, Loopback)
	setDefault(&cfg.Period, DefaultPeriod)
	cfg.Period = RoundPeriod(cfg.Period)
	setDefault(&cfg.Every, cfg.Period)
	setDefault(&cfg.KeyEvery, DefaultKeyEvery)
	setDefault(&cfg.KeyLife, KeyLife)
	if cfg.NoMulticast {
		cfg.Services = netip.AddrPort{}
	}
	a := &ServerAnnouncer{cfg: cfg, incarnation: uint64(cfg.World.Now().UnixMilli()), period: cfg.Period, longer: cfg.Period}
	if err := a.keys.rotate(); err != nil {
		return nil, fmt.Errorf("make a sealing key: %w", err)
	}
	_, err := a.datagrams(cfg.World.Now(), true) // so that what cannot be announced fails here
	return a, err
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func orDefaultLog(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.Default()
	}
	return log
}

// binding is what epochs of this incarnation belong to.
func (a *ServerAnnouncer) binding() binding {
	return binding{server: a.cfg.Identity.ID(), incarnation: a.incarnation}
}

// Incarnation is the number of this start of the server.
func (a *ServerAnnouncer) Incarnation() uint64 { return a.incarnation }

// SetPeriod changes how often services shall announce themselves from the next announcement on.
func (a *ServerAnnouncer) SetPeriod(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d = RoundPeriod(d)
	if d < a.period {
		a.longer, a.shrunk = max(a.period, a.longerNow()), a.cfg.World.Now()
	}
	a.period = d
}

// Period is how often services are asked to announce themselves.
func (a *ServerAnnouncer) Period() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.period
}

// lifetime is for how long a service lives without being heard: LifetimePeriods of the longest period that a service
// may still follow, which is the sender's own or the one wanted before.
func (a *ServerAnnouncer) lifetime(sender uint8) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return LifetimePeriods * max(a.period, a.longerNow(), min(periodOf(sender), 4*a.period))
}

// longerNow forgets the longer period when everybody must have heard of the shorter one.
func (a *ServerAnnouncer) longerNow() time.Duration {
	if a.longer > a.period && a.cfg.World.Now().Sub(a.shrunk) > LifetimePeriods*a.longer {
		a.longer = a.period
	}
	return a.longer
}

// datagrams makes the next announcement and, if wanted, what it names by hash.
func (a *ServerAnnouncer) datagrams(now time.Time, withKeys bool) ([][]byte, error) {
	id, key := a.cfg.Identity, a.keys.now()
	chain := appendChain(nil, id.Chain())
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sequence++
	info := ServerInfo{
		ID: id.ID(), Extent: a.cfg.Extent, Addresses: a.cfg.Addresses, UDP: a.cfg.UDP, Channel: a.cfg.Services,
		Incarnation: a.incarnation, Sequence: a.sequence, Time: now, Lifetime: LifetimePeriods * a.cfg.Every,
		Period: a.period, CA: a.cfg.CA, Capability: a.cfg.Capability,
		KeyHash: key.hash, ChainHash: sha256.Sum256(chain),
	}
	announcement, err := signAnnouncement(id, info)
	if err != nil {
		return nil, err
	}
	chainBlob, err := makeBlob(blobChain, chain)
	if err != nil {
		return nil, err
	}
	keyBlob, err := makeBlob(blobKey, key.public)
	if err != nil {
		return nil, err
	}
	a.latest = map[byte][]byte{blobAnnouncement: announcement, blobChain: chainBlob, blobKey: keyBlob}
	if !withKeys {
		return [][]byte{announcement}, nil
	}
	return [][]byte{chainBlob, announcement, keyBlob}, nil // each is of use only after the one before
}

// answer is the datagram that a solicitation asks for, unless it is longer than the question; nil: none.
func (a *ServerAnnouncer) answer(solicit []byte) []byte {
	if kindOf(solicit) != kindSolicit || len(solicit) <= prefixSize {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.latest[solicit[prefixSize]]
	if len(d) > len(solicit) {
		return nil
	}
	return d
}

// Run announces until ctx ends, whose error it returns.
func (a *ServerAnnouncer) Run(ctx context.Context) error {
	var conn net.PacketConn
	if !a.cfg.NoMulticast {
		var err error
		if conn, err = a.cfg.World.Net.ListenMulticast(ctx, a.cfg.Servers, a.cfg.Via); err != nil {
			return fmt.Errorf("announce server %s: %w", a.cfg.Identity.ID(), err)
		}
		var reader sync.WaitGroup
		reader.Go(func() { // what others send to the channel must not fill the socket
			readLoop(conn, a.cfg.Log, func([]byte, netip.AddrPort) {})
		})
		defer reader.Wait()
		defer conn.Close()
	}
	born := time.Now()
	var lastChain [32]byte
	for n := 0; ; n++ {
		rotated := a.turnKeys(&born)
		chain := sha256.Sum256(appendChain(nil, a.cfg.Identity.Chain()))
		withKeys := n < 3 || n%a.cfg.KeyEvery == 0 || rotated || chain != lastChain
		lastChain = chain
		a.send(conn, withKeys)
		// A little early at random, so that servers do not fall into step.
		early := time.Duration(a.cfg.World.Uint64() % uint64(a.cfg.Every/8+1))
		if err := world.Sleep(ctx, a.cfg.Every-early); err != nil {
			return err
		}
	}
}

// turnKeys replaces the sealing key when its time has come, and destroys the one before when nobody can still use it.
func (a *ServerAnnouncer) turnKeys(born *time.Time) (rotated bool) {
	age := time.Since(*born)
	if age > time.Duration(4*a.cfg.KeyEvery)*a.cfg.Every {
		a.keys.retire()
	}
	if age < a.cfg.KeyLife {
		return false
	}
	if err := a.keys.rotate(); err != nil {
		a.cfg.Log.Error("sealing key not replaced; the present one stays in use", "error", err)
		return false
	}
	*born = time.Now()
	return true
}

// send makes the next announcement and sends it, where there is a channel.
func (a *ServerAnnouncer) send(conn net.PacketConn, withKeys bool) {
	datagrams, err := a.datagrams(a.cfg.World.Now(), withKeys)
	if err != nil {
		a.cfg.Log.Error("server not announced", "error", err)
	}
	for _, d := range datagrams {
		if conn == nil {
			return
		}
		if _, err := conn.WriteTo(d, net.UDPAddrFromAddrPort(a.cfg.Servers)); err != nil {
			a.cfg.Log.Warn("server announcement not sent; tried again next period", "to", a.cfg.Servers, "error", err)
			return
		}
	}
}

package announce

import (
	"context"
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

// ListenConfig configures Listen.
type ListenConfig struct {
	Identity *ca.Identity // who looks for a server; needed
	World    world.World  // needed
	Log      *slog.Logger // nil: slog.Default
	// Servers is the channel to listen to; zero: DefaultServers.
	Servers netip.AddrPort
	// Via is the address of the interface to listen on; zero: Loopback, or any when a Server is asked.
	Via netip.Addr
	// Server is the unicast UDP address of a fixed server, which is asked instead, where there is no multicast; zero: none.
	Server netip.AddrPort
}

// asks is how long Listen waits for a fixed server's answers before it asks again.
const asks = 200 * time.Millisecond

// Listen waits for the announcement of a server that covers this host and returns the first: it is how a client finds its
// server. When ctx ends first, the error says what was heard and not believed, if anything was.
func Listen(ctx context.Context, cfg ListenConfig) (ServerInfo, error) {
	if cfg.Identity == nil || cfg.World.Now == nil {
		return ServerInfo{}, errors.New("listen for a server: Identity and World are needed")
	}
	cfg.Log = orDefaultLog(cfg.Log)
	conn, where, err := cfg.open(ctx)
	if err != nil {
		return ServerInfo{}, fmt.Errorf("listen for a server: %w", err)
	}
	asking, stop := context.WithCancel(ctx)
	directory, found := newDirectory(cfg.Identity), make(chan ServerInfo, 1)
	var mu sync.Mutex
	var doubt error
	var reader sync.WaitGroup
	reader.Go(func() {
		readLoop(conn, cfg.Log, func(d []byte, _ netip.AddrPort) {
			server, err := directory.handle(d, cfg.World.Now())
			if err != nil {
				mu.Lock()
				doubt = err
				mu.Unlock()
			}
			if server == nil {
				return
			}
			// A fixed server is asked whatever its extent.
			if _, ok := server.info.Extent.Covers(cfg.Via, cfg.Identity.ID()); ok || cfg.Server.IsValid() {
				select {
				case found <- server.info:
				default:
				}
			}
		})
	})
	if cfg.Server.IsValid() {
		reader.Go(func() { cfg.ask(asking, conn) })
	}
	defer reader.Wait()
	defer stop()
	defer conn.Close()
	select {
	case s := <-found:
		return s, nil
	case <-ctx.Done():
	}
	mu.Lock()
	defer mu.Unlock()
	if doubt != nil {
		return ServerInfo{}, fmt.Errorf("no server was heard on %v: %w (heard last: %w)", where, ctx.Err(), doubt)
	}
	return ServerInfo{}, fmt.Errorf("no server was heard on %v: %w; is ninjad with the role sds running?", where, ctx.Err())
}

// open opens the socket that servers are heard on.
func (cfg *ListenConfig) open(ctx context.Context) (conn net.PacketConn, where netip.AddrPort, err error) {
	if cfg.Server.IsValid() {
		conn, err = cfg.World.Net.ListenPacket(ctx, "udp", anyPort(cfg.Via))
		return conn, cfg.Server, err
	}
	setDefault(&cfg.Servers, DefaultServers)
	setDefault(&cfg.Via, Loopback)
	conn, err = cfg.World.Net.ListenMulticast(ctx, cfg.Servers, cfg.Via)
	return conn, cfg.Servers, err
}

// anyPort is a free port at an address, or at all addresses when that is zero.
func anyPort(at netip.Addr) string {
	if !at.IsValid() {
		return ":0"
	}
	return netip.AddrPortFrom(at, 0).String()
}

// ask asks the fixed server until ctx ends: for its certificates, then for its announcement.
func (cfg *ListenConfig) ask(ctx context.Context, conn net.PacketConn) {
	for {
		for _, what := range []byte{blobChain, blobAnnouncement} {
			if _, err := conn.WriteTo(makeSolicit(what), net.UDPAddrFromAddrPort(cfg.Server)); err != nil {
				cfg.Log.Debug("server not asked; tried again", "server", cfg.Server, "error", err)
			}
			if world.Sleep(ctx, 5*time.Millisecond) != nil {
				return
			}
		}
		if world.Sleep(ctx, cfg.World.Jitter(asks)) != nil {
			return
		}
	}
}

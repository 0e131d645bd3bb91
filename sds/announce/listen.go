package announce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

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
	// Via is the address of the interface to listen on; zero: Loopback.
	Via netip.Addr
}

// Listen waits for the announcement of a server that covers this host and returns the first: it is how a client finds its
// server. When ctx ends first, the error says what was heard and not believed, if anything was.
func Listen(ctx context.Context, cfg ListenConfig) (ServerInfo, error) {
	if cfg.Identity == nil || cfg.World.Now == nil {
		return ServerInfo{}, errors.New("listen for a server: Identity and World are needed")
	}
	cfg.Log = orDefaultLog(cfg.Log)
	setDefault(&cfg.Servers, DefaultServers)
	setDefault(&cfg.Via, Loopback)
	conn, err := cfg.World.Net.ListenMulticast(ctx, cfg.Servers, cfg.Via)
	if err != nil {
		return ServerInfo{}, fmt.Errorf("listen for a server: %w", err)
	}
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
			if _, ok := server.info.Extent.Covers(cfg.Via, cfg.Identity.ID().Kind()); ok {
				select {
				case found <- server.info:
				default:
				}
			}
		})
	})
	defer reader.Wait()
	defer conn.Close()
	select {
	case s := <-found:
		return s, nil
	case <-ctx.Done():
	}
	mu.Lock()
	defer mu.Unlock()
	if doubt != nil {
		return ServerInfo{}, fmt.Errorf("no server was heard on %v: %w (heard last: %w)", cfg.Servers, ctx.Err(), doubt)
	}
	return ServerInfo{}, fmt.Errorf("no server was heard on %v: %w; is ninjad with the role sds running?", cfg.Servers, ctx.Err())
}

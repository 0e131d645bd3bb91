package dnssd

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"ninja/internal/world"
)

// ImporterConfig configures an Importer.
type ImporterConfig struct {
	// World is the importer's network. Required.
	World world.World
	// Via is the address of the interface to listen on. Required.
	Via netip.Addr
	// Types are the service types to import, as in "_ipp._tcp". Required.
	Types []string
	// Kinds name the kind of the descriptions of a type; one that is missing is the type's name: "ipp" for "_ipp._tcp".
	Kinds map[string]string
	// Publish and Withdraw take what appears, changes and goes, as an announce.Announcer does. Required.
	Publish  func(name string, description []byte) error
	Withdraw func(name string)
	// MaxServices bounds what is imported; 0 is 256.
	MaxServices int
	// Log is told what comes and goes; nil is slog.Default().
	Log *slog.Logger
}

// Importer publishes what announces itself by multicast DNS.
type Importer struct {
	cfg   ImporterConfig
	state *imported
}

// NewImporter makes an Importer.
func NewImporter(cfg ImporterConfig) (*Importer, error) {
	if cfg.World.Net == nil || !cfg.Via.Is4() || len(cfg.Types) == 0 || cfg.Publish == nil || cfg.Withdraw == nil {
		return nil, errors.New("DNS-SD import: a world, an IPv4 address of the interface, types, and where to publish are required")
	}
	for _, t := range cfg.Types {
		if err := CheckType(t); err != nil {
			return nil, err
		}
	}
	if cfg.MaxServices == 0 {
		cfg.MaxServices = 256
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Importer{cfg: cfg, state: newImported(cfg.Types, cfg.Kinds, cfg.MaxServices)}, nil
}

// Waits between questions: doubled from the first to the most (RFC 6762, 5.2).
const (
	askFirst = time.Second
	askMost  = time.Minute
	askSoon  = 100 * time.Millisecond // less than look
	look     = 500 * time.Millisecond // how often what was heard becomes descriptions
)

// Run imports until ctx ends, then withdraws what it published.
func (im *Importer) Run(ctx context.Context) error {
	s, err := listen(ctx, im.cfg.World, im.cfg.Via)
	if err != nil {
		return err
	}
	defer s.close()
	defer func() {
		for _, name := range im.state.all() {
			im.cfg.Withdraw(name)
		}
	}()
	tick := time.NewTicker(look)
	defer tick.Stop()
	wait := askFirst
	// The first question is not asked by all hosts of a link at the moment when it comes up.
	ask := time.NewTimer(im.cfg.World.Jitter(100 * time.Millisecond))
	defer ask.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.ended:
			return errors.New("DNS-SD import: the socket was closed")
		case m := <-s.heard:
			im.state.take(m, time.Now())
		case <-ask.C:
			questions, known := im.state.questions(time.Now())
			s.send(im.cfg.Log, pack(false, questions, known))
			ask.Reset(wait)
			wait = min(2*wait, askMost)
		case <-tick.C:
			if im.publish() { // something new may lack its address: ask soon
				wait = askFirst
				ask.Reset(askSoon)
			}
		}
	}
}

// publish hands over what has changed and says whether there is a service that lacks something.
func (im *Importer) publish() (lacking bool) {
	changed, gone, lacking := im.state.look(time.Now())
	for _, name := range gone {
		im.cfg.Withdraw(name)
		im.cfg.Log.Info("service left the link", "name", name)
	}
	for _, c := range changed {
		if err := im.cfg.Publish(c.name, c.description); err != nil {
			im.cfg.Log.Warn("service on the link not published", "name", c.name, "error", err)
			continue
		}
		im.cfg.Log.Info("service on the link published", "name", c.name)
	}
	return lacking
}

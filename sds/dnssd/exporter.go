package dnssd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/index"
)

// Finder finds services; *sds.Client is one.
type Finder interface {
	Query(ctx context.Context, q sds.Query) ([]sds.Found, error)
}

// Rule chooses services to show.
type Rule struct {
	// Query says which; it must ask for something. Whoever is on the link sees them: let the door's principal find no more.
	Query sds.Query
	// Type is the service type that they are shown as, as in "_http._tcp". Required.
	Type string
	// Address is the place in a description that holds IPv4:PORT, as in "node/@control" (see index.Select). Required.
	Address string
}

// ExporterConfig configures an Exporter.
type ExporterConfig struct {
	// World is the exporter's network. Required.
	World world.World
	// Via is the address of the interface to show services on. Required.
	Via netip.Addr
	// Finder asks the SDS. Required.
	Finder Finder
	// Rules choose what is shown. Required.
	Rules []Rule
	// Period is how often the SDS is asked; 0 is 5 s. What has not been found for a minute, because the SDS is away, goes.
	Period time.Duration
	// MaxServices bounds what is shown; 0 is 256.
	MaxServices int
	// Log is told of services left out; nil is slog.Default().
	Log *slog.Logger
}

// Exporter answers for chosen services in multicast DNS.
type Exporter struct {
	cfg       ExporterConfig
	addresses []*index.Selector // of the rules
	state     *exported
}

// NewExporter makes an Exporter.
func NewExporter(cfg ExporterConfig) (*Exporter, error) {
	if cfg.World.Net == nil || !cfg.Via.Is4() || cfg.Finder == nil || len(cfg.Rules) == 0 {
		return nil, errors.New("DNS-SD export: a world, an IPv4 address of the interface, a finder and rules are required")
	}
	x := &Exporter{cfg: cfg}
	for _, r := range cfg.Rules {
		if err := CheckType(r.Type); err != nil {
			return nil, err
		}
		if len(r.Query.Template) == 0 && r.Query.XPath == "" && r.Query.By == "" {
			return nil, fmt.Errorf("DNS-SD export as %s: a rule that chooses everything: name a template, an XPath or an owner", r.Type)
		}
		at, err := index.Select(r.Address, nil)
		if err != nil {
			return nil, fmt.Errorf("DNS-SD export as %s: address: %w", r.Type, err)
		}
		x.addresses = append(x.addresses, at)
	}
	if cfg.Period == 0 {
		x.cfg.Period = 5 * time.Second
	}
	if cfg.MaxServices == 0 {
		x.cfg.MaxServices = 256
	}
	if cfg.Log == nil {
		x.cfg.Log = slog.Default()
	}
	x.state = newExported()
	return x, nil
}

// Times of the exporter.
const (
	askTimeout = 10 * time.Second
	holdFound  = time.Minute           // how long what was found last is shown while the SDS cannot be asked
	shared     = 70 * time.Millisecond // answers wait half to three halves of it, so that hosts do not speak at once
	again      = time.Second           // a new service is announced twice (RFC 6762, 8.3)
)

// Run shows services until ctx ends, then takes leave of them.
func (x *Exporter) Run(ctx context.Context) error {
	s, err := listen(ctx, x.cfg.World, x.cfg.Via)
	if err != nil {
		return err
	}
	defer s.close()
	found, asked := make(chan []shown), make(chan struct{})
	asking, stop := context.WithCancel(ctx)
	defer func() { stop(); <-asked }()
	go func() { defer close(asked); x.ask(asking, found) }()
	answer, announce := time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	defer answer.Stop()
	defer announce.Stop()
	for {
		select {
		case <-ctx.Done():
			s.send(x.cfg.Log, pack(true, nil, x.state.set(nil)))
			return nil
		case <-s.ended:
			return errors.New("DNS-SD export: the socket was closed")
		case services := <-found:
			if farewells := x.state.set(services); len(farewells) > 0 {
				s.send(x.cfg.Log, pack(true, nil, farewells))
			}
			if x.state.fresh() {
				announce.Reset(0)
			}
		case <-announce.C:
			records, more := x.state.announce(time.Now())
			s.send(x.cfg.Log, pack(true, nil, records))
			if more {
				announce.Reset(again)
			}
		case m := <-s.heard:
			if x.state.take(m) {
				answer.Reset(x.cfg.World.Jitter(shared))
			}
		case <-answer.C:
			if records := x.state.answer(time.Now()); len(records) > 0 {
				s.send(x.cfg.Log, pack(true, nil, records))
			}
		}
	}
}

// ask asks the SDS every period and hands over what is to be shown.
func (x *Exporter) ask(ctx context.Context, found chan<- []shown) {
	last := time.Now()
	for {
		services, err := x.find(ctx)
		if err == nil {
			last = time.Now()
		} else if ctx.Err() == nil {
			x.cfg.Log.Warn("services to show not found", "error", err)
		}
		if err == nil || time.Since(last) > holdFound {
			select {
			case found <- services:
			case <-ctx.Done():
				return
			}
		}
		if world.Sleep(ctx, x.cfg.World.Jitter(x.cfg.Period)) != nil {
			return
		}
	}
}

// find carries out the rules. On error there are none.
func (x *Exporter) find(ctx context.Context) ([]shown, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var all []shown
	for i, r := range x.cfg.Rules {
		q := r.Query
		q.Limit = x.cfg.MaxServices
		found, err := x.cfg.Finder.Query(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			one, ok, err := show(f, r.Type, x.addresses[i])
			if err != nil {
				x.cfg.Log.Info("service not shown on the link", "service", f.ID, "error", err)
			} else if ok && len(all) < x.cfg.MaxServices {
				all = append(all, one)
			}
		}
	}
	return all, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/dnssd"
	"ninja/sds/httpsd"
)

// door is a node that answers nobody: a principal of its own that publishes and finds.
func (d *daemon) door(ctx context.Context, role doorRole) (*node, error) {
	id, err := d.identity(ctx, ca.KindBase, serviceRole{Name: role.Name, Join: role.Join})
	if err != nil {
		return nil, err
	}
	n := &node{d: d, id: id, name: role.Name, log: d.log.With("role", role.Name)}
	info, err := n.meet(ctx)
	if err != nil {
		return nil, err
	}
	n.rights, err = capability.NewClient(capability.ClientConfig{World: d.world, Identity: id, Address: info.Capability[0]})
	if err != nil {
		return nil, err
	}
	n.finder, err = n.find(info.Addresses[0])
	return n, err
}

// startDNSSD opens the door to multicast DNS.
func (d *daemon) startDNSSD(ctx context.Context) error {
	role := *d.cfg.Roles.DNSSD
	n, err := d.door(ctx, role.doorRole)
	if err != nil {
		return err
	}
	via := netip.MustParseAddr(role.Via)
	if len(role.Import) > 0 {
		if err := n.importFrom(via, role); err != nil {
			return err
		}
	}
	if len(role.Export) == 0 {
		return nil
	}
	var rules []dnssd.Rule
	for _, r := range role.Export {
		q, err := r.query()
		if err != nil {
			return err
		}
		rules = append(rules, dnssd.Rule{Query: q, Type: r.Type, Address: r.Address})
	}
	x, err := dnssd.NewExporter(dnssd.ExporterConfig{World: d.world, Via: via, Finder: n.finder, Rules: rules, Log: n.log})
	if err == nil {
		d.keep(n.log, "DNS-SD export", x.Run)
	}
	return err
}

// importFrom publishes what is on the link, in the door's name.
func (n *node) importFrom(via netip.Addr, role dnssdRole) error {
	entries, err := parseACL(role.ACL)
	if err != nil {
		return err
	}
	if err := n.announce(n.finder); err != nil {
		return err
	}
	cfg := dnssd.ImporterConfig{World: n.d.world, Via: via, Kinds: make(map[string]string), Log: n.log}
	for _, r := range role.Import {
		cfg.Types = append(cfg.Types, r.Type)
		if r.Kind != "" {
			cfg.Kinds[r.Type] = r.Kind
		}
	}
	opened := &opened{node: n, entries: entries, wanted: make(map[string]bool), wake: make(chan struct{}, 1)}
	cfg.Publish = func(name string, description []byte) error {
		opened.want(name, true)
		return n.announcer.Publish(name, description)
	}
	cfg.Withdraw = func(name string) {
		opened.want(name, false)
		n.announcer.Withdraw(name)
	}
	im, err := dnssd.NewImporter(cfg)
	if err != nil {
		return err
	}
	n.d.keep(n.log, "ACLs of imported services", opened.run)
	n.d.keep(n.log, "DNS-SD import", im.Run)
	return nil
}

// opened gives the ACL of the configuration to what is imported, and takes it away when that is gone: names on a link
// come and go, and must not pile up at the capability manager. The link is not kept waiting while the manager is away;
// meanwhile only the door itself finds what is new.
type opened struct {
	*node
	entries []capability.Entry
	wake    chan struct{}

	mu     sync.Mutex
	wanted map[string]bool // what is still to be done: give, or take away
}

// maxWanted bounds what waits for the manager; beyond it, ACLs of services that are gone stay.
const maxWanted = 4096

func (o *opened) want(name string, open bool) {
	o.mu.Lock()
	if open || len(o.wanted) < maxWanted {
		o.wanted[name] = open
	}
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *opened) run(ctx context.Context) error {
	wait := 50 * time.Millisecond
	for {
		name, open, some := o.next()
		if !some {
			select {
			case <-o.wake:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		if err := o.do(ctx, name, open); err != nil && ctx.Err() == nil {
			o.log.Warn("the ACL of an imported service is not set; tried again", "service", name, "error", err)
			o.mu.Lock()
			if _, newer := o.wanted[name]; !newer {
				o.wanted[name] = open
			}
			o.mu.Unlock()
			if world.Sleep(ctx, o.d.world.Jitter(wait)) != nil {
				return nil
			}
			wait = min(2*wait, 10*time.Second)
			continue
		}
		wait = 50 * time.Millisecond
	}
}

func (o *opened) next() (name string, open, some bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, open := range o.wanted {
		delete(o.wanted, name)
		return name, open, true
	}
	return "", false, false
}

func (o *opened) do(ctx context.Context, name string, open bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	id := capability.ServiceID(o.id.ID(), name)
	if !open || len(o.entries) == 0 {
		return o.rights.DeleteACL(ctx, id)
	}
	_, err := o.rights.SetACL(ctx, id, o.entries)
	return err
}

// startHTTPSD opens the door for Prometheus.
func (d *daemon) startHTTPSD(ctx context.Context) error {
	role := *d.cfg.Roles.HTTPSD
	n, err := d.door(ctx, role.doorRole)
	if err != nil {
		return err
	}
	q, err := role.query()
	if err != nil {
		return err
	}
	allow, err := role.networks()
	if err != nil {
		return err
	}
	h, err := httpsd.New(httpsd.Config{Finder: n.finder, Query: q, Address: role.Address, Path: role.Path, Allow: allow, Log: n.log})
	if err != nil {
		return err
	}
	l, err := d.world.Net.Listen(ctx, "tcp", role.Listen)
	if err != nil {
		return fmt.Errorf("listen for Prometheus: %w", err)
	}
	d.ready["httpsd"] = l.Addr().String()
	d.keep(n.log, "HTTP service discovery", func(ctx context.Context) error { return serveHTTP(ctx, l, h) })
	return nil
}

// serveHTTP answers until ctx ends.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// parseOwner reads the ID of an owner; "" is anybody.
func parseOwner(text string) (ca.ID, error) {
	if text == "" {
		return "", nil
	}
	id, err := ca.ParseID(text)
	if err != nil {
		return "", fmt.Errorf("by: %w", err)
	}
	return id, nil
}

var _ dnssd.Finder = (*sds.Client)(nil)

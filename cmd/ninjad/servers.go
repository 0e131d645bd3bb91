package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"ninja/apc"
	"ninja/base/dds"
	"ninja/ca"
	"ninja/capability"
	"ninja/operators"
	"ninja/operators/host"
	"ninja/sds"
	"ninja/sds/announce"
)

// startCapability plays the capability manager.
func (d *daemon) startCapability(ctx context.Context) error {
	role := *d.cfg.Roles.Capability
	id, err := d.identity(ctx, ca.KindCapability, role)
	if err != nil {
		return err
	}
	n, err := d.newNode(ctx, id, role)
	if err != nil {
		return err
	}
	tables, err := dds.Open(d.dir("rights.db"))
	if err != nil {
		return err
	}
	audit, err := d.audit("capability")
	if err != nil {
		return errors.Join(err, tables.Close())
	}
	manager, err := capability.NewManager(ctx, capability.ManagerConfig{Identity: id, Store: tables, Audit: audit, Log: n.log})
	if err != nil {
		return errors.Join(err, tables.Close())
	}
	manager.Register(n.server)
	routing, err := capability.NewRouting(ctx, id, tables, manager)
	if err != nil {
		return errors.Join(err, tables.Close())
	}
	routing.Register(n.server)
	n.serve()
	d.keep(n.log, "tables", func(ctx context.Context) error {
		<-ctx.Done()
		return tables.Close()
	})
	return nil
}

// audit opens the append-only log of what a role granted and denied, in a directory of its own within the state.
func (d *daemon) audit(role string) (*ca.AuditLog, error) {
	audit, err := ca.OpenAuditLog(d.dir("audit-" + role))
	if err != nil {
		return nil, err
	}
	d.keep(d.log, "audit log", func(ctx context.Context) error {
		<-ctx.Done()
		return audit.Close()
	})
	return audit, nil
}

// startSDS plays an SDS server: the store, what fills it, and what announces it.
func (d *daemon) startSDS(ctx context.Context) error {
	role := *d.cfg.Roles.SDS
	id, err := d.identity(ctx, ca.KindSDS, role.serviceRole)
	if err != nil {
		return err
	}
	full := make(chan struct{})
	n, err := d.newNodeFor(ctx, id, role.serviceRole, role.connects, slices.Concat(sds.ServerOptions(), linksAlone(), whenFull(full))...)
	if err != nil {
		return err
	}
	authority, manager := role.CA, role.Capability
	if authority == "" {
		authority = d.ready[ca.KindCA]
	}
	if manager == "" {
		manager = d.ready[ca.KindCapability]
	}
	if authority == "" || manager == "" {
		return errors.New("play the roles ca and capability here too, or name where they are: roles.sds.ca, roles.sds.capability")
	}
	d.manager = manager
	if err := n.follow(manager); err != nil {
		return err
	}
	schemas, err := d.schemas(role)
	if err != nil {
		return err
	}
	registrar, err := registrar(id.ID().Domain(), role.Registrars)
	if err != nil {
		return err
	}
	server, err := sds.NewServer(sds.Config{
		Identity: id, World: d.world, Verifier: n.verifier, Foreign: n.verifier.VerifyAny, ACLs: n.follower, Schemas: schemas, Registrar: registrar, Log: n.log,
	})
	if err != nil {
		return err
	}
	extent, err := role.extent()
	if err != nil {
		return err
	}
	announcer, err := announce.NewServerAnnouncer(announce.ServerAnnouncerConfig{
		Identity: id, World: d.world, Log: n.log, Servers: d.group(), Services: addrPort(role.Channel), Via: d.via(), UDP: addrPort(role.UDP),
		NoMulticast: d.cfg.Discovery.Group == noGroup,
		Extent:      extent, Addresses: []string{n.address()}, CA: []string{authority}, Capability: []string{manager},
		Period: role.Period, Every: time.Second,
	})
	if err != nil {
		return err
	}
	receiver, err := announce.NewReceiver(announce.ReceiverConfig{
		Identity: id, World: d.world, Log: n.log, Announcer: announcer, Sink: server, Budget: max(role.Budget, 0), MaxPeriod: role.MaxPeriod,
	})
	if err != nil {
		return err
	}
	d.health.watchSDS(server, receiver)
	server.Register(n.server)
	filled, err := n.joinHierarchies(role, extent, server, authority, manager)
	if err != nil {
		return err
	}
	d.keep(n.log, "store", server.Run)
	d.keep(n.log, "announcements", receiver.Run)
	d.keep(n.log, "server announcements", func(ctx context.Context) error {
		filled(ctx) // who is drawn here finds what is found elsewhere in the family
		close(full)
		return announcer.Run(ctx)
	})
	n.serve()
	return nil
}

func (r *sdsRole) extent() (announce.Extent, error) {
	e := announce.Extent{Kinds: r.Kinds}
	for _, text := range r.Networks {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return e, fmt.Errorf("roles.sds.networks: %w", err)
		}
		e.Networks = append(e.Networks, p)
	}
	var err error
	if e.Owners, err = announce.ParseOwners(r.Owners); err != nil {
		return e, fmt.Errorf("roles.sds.owners: %w", err)
	}
	return e, nil
}

// startAPC plays the path creator.
func (d *daemon) startAPC(ctx context.Context) error {
	role := *d.cfg.Roles.APC
	id, err := d.identity(ctx, ca.KindAPC, role)
	if err != nil {
		return err
	}
	n, err := d.newNode(ctx, id, role)
	if err != nil {
		return err
	}
	info, err := n.meet(ctx)
	if err != nil {
		return err
	}
	if err := n.follow(info.Capability[0]); err != nil {
		return err
	}
	finder, err := n.find(info.Addresses[0])
	if err != nil {
		return err
	}
	dialer := host.NewDialer(id, d.world, n.log)
	audit, err := d.audit("apc")
	if err != nil {
		return err
	}
	creator, err := apc.New(apc.Config{
		World: d.world, Log: n.log, Self: id, Find: finder, Audit: audit,
		// Each view has a connection of its own: it connects with the capability of those who ask for it.
		Follow: func(ctx context.Context, token func(context.Context) ([]byte, error), q sds.Query, f func(sds.WatchEvent)) error {
			client, err := sds.Dial(sds.ClientConfig{Identity: id, World: d.world, Address: info.Addresses[0], Capability: token, Log: n.log})
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Watch(ctx, q, f)
		},
		Open: func(ctx context.Context, address string, node ca.ID) (apc.Session, error) {
			s, err := dialer.Open(ctx, address, node)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
		Claims: func(token []byte) (capability.Claims, error) { return n.verifier.Verify(token, id.Public()) },
	})
	if err != nil {
		return err
	}
	creator.Register(n.server)
	d.keep(n.log, "creator", creator.Run)
	n.serve()
	if err := n.allow(ctx, role.Name, []string{"everyone: find, use"}); err != nil {
		return err
	}
	if err := n.announce(finder); err != nil {
		return err
	}
	self := operators.Description{Kind: apc.Kind, Name: role.Name, Summary: "path creator", Node: &operators.Node{Control: n.address(), Data: n.address()}}
	b, err := self.Marshal()
	if err != nil {
		return err
	}
	return n.announcer.Publish(role.Name, b)
}

package main

import (
	"context"
	"slices"

	"ninja/apc"
	"ninja/base"
	"ninja/ca"
	"ninja/examples/directions"
	"ninja/examples/timeofday"
	"ninja/operators"
	"ninja/operators/catalogue"
	"ninja/operators/speech"
	"ninja/proxy"
	"ninja/sds"
	"ninja/units"
)

// startProxy plays an active proxy.
func (d *daemon) startProxy(ctx context.Context) error {
	role := *d.cfg.Roles.Proxy
	n, err := d.member(ctx, ca.KindProxy, role.serviceRole)
	if err != nil {
		return err
	}
	specs := slices.DeleteFunc(catalogue.Specs(), func(s operators.Spec) bool { return slices.Contains(role.Without, s.Name) })
	catalogue.RegisterWith(n.registry, speech.Programs{Warm: true})
	node := n.element()
	node.Cores, node.Memory, node.Region = role.Cores, role.Memory, role.Region
	if node.External, err = role.outside(); err != nil {
		return err
	}
	if err := n.speakOutside(&role); err != nil {
		return err
	}
	p, err := proxy.New(proxy.Config{Owner: n.id.ID(), Node: node, Specs: specs, Publisher: n.announcer, Runtime: n.host, Prober: n.prober()})
	if err != nil {
		return err
	}
	for _, name := range p.Names() {
		if err := n.allow(ctx, name, role.ACL); err != nil {
			return err
		}
	}
	guests, err := d.guests(n, node, specs, role)
	if err != nil {
		return err
	}
	n.serve()
	d.keep(n.log, "proxy", p.Run)
	d.keep(n.log, "guests", guests.Run)
	return d.ownGuests(ctx, n, guests, role)
}

// prober measures how far the regions of other proxies are.
func (n *node) prober() *proxy.Prober {
	return &proxy.Prober{World: n.d.world, Log: n.log, Peers: func(ctx context.Context) ([]proxy.Peer, error) {
		found, err := n.finder.Query(ctx, sds.Query{Template: apc.Template(operators.KindProxy, ""), Limit: maxPeers})
		if err != nil {
			return nil, err
		}
		var peers []proxy.Peer
		for _, f := range found {
			d, err := operators.ParseDescription(f.Description)
			if err == nil && d.Node != nil && f.Owner.Kind() == ca.KindProxy {
				peers = append(peers, proxy.Peer{ID: f.Owner, Region: d.Node.Region, Address: d.Node.Control})
			}
		}
		return peers, nil
	}}
}

// maxPeers bounds what a proxy asks about other proxies.
const maxPeers = 500

// member makes a node that takes part in paths and publishes.
func (d *daemon) member(ctx context.Context, kind string, role serviceRole) (*node, error) {
	id, err := d.identity(ctx, kind, role)
	if err != nil {
		return nil, err
	}
	n, err := d.newNode(ctx, id, role)
	if err != nil {
		return nil, err
	}
	if err := n.carry(); err != nil {
		return nil, err
	}
	return n, n.join(ctx)
}

// components are the services that are built into the daemon.
func components() map[string]base.Component {
	return map[string]base.Component{
		"map-directions": directions.Component,
		"time-of-day":    timeofday.Component,
	}
}

// startBase plays a base node.
func (d *daemon) startBase(ctx context.Context) error {
	role := *d.cfg.Roles.Base
	n, err := d.member(ctx, ca.KindBase, role.serviceRole)
	if err != nil {
		return err
	}
	element := n.element()
	element.Region = role.Region
	b, err := base.New(base.Config{
		World: d.world, Log: n.log, Owner: n.id.ID(), Components: components(), Node: element,
		Registry: n.registry, Publisher: n.announcer, Data: n.hops, State: d.dir("services"),
	})
	if err != nil {
		return err
	}
	b.Register(n.server)
	n.serve()
	for _, s := range role.Services {
		if err := n.allow(ctx, s.Name, s.ACL); err != nil {
			return err
		}
		if err := b.Start(ctx, s.Component, s.Name, s.Args); err != nil {
			return err
		}
	}
	d.keep(n.log, "services", b.Run)
	return nil
}

// startUnit plays a unit.
func (d *daemon) startUnit(ctx context.Context) error {
	role := *d.cfg.Roles.Unit
	if role.Kind == "browser" {
		return d.startBrowser(ctx, role)
	}
	phone, err := units.NewPhone(units.PhoneConfig{
		Name: role.Name, Microphone: role.Microphone, Speaker: role.Speaker, HangUp: units.HangUp(role.HangUp),
		Position: role.Position.position(), Log: d.log,
	})
	if err != nil {
		return err
	}
	n, err := d.member(ctx, ca.KindUnit, role.serviceRole)
	if err != nil {
		return err
	}
	phone.Register(n.registry)
	if err := n.allow(ctx, role.Name, role.ACL); err != nil {
		return err
	}
	n.serve()
	description := phone.Description(n.element())
	b, err := description.Marshal()
	if err != nil {
		return err
	}
	return n.announcer.Publish(role.Name, b)
}

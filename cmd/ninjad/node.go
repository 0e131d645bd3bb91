package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"ninja/ca"
	"ninja/capability"
	"ninja/connectors"
	"ninja/connectors/hop"
	"ninja/connectors/rtp"
	"ninja/connectors/tcp"
	"ninja/connectors/trunk"
	"ninja/connectors/udp"
	"ninja/connectors/webrtc"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/host"
	"ninja/sds"
	"ninja/sds/announce"
)

// node is one identity at work: what every role is made of. Parts that a role does not ask for are nil.
type node struct {
	d    *daemon
	id   *ca.Identity
	log  *slog.Logger
	name string

	listener net.Listener
	server   *grpc.Server

	rights   *capability.Client
	follower *capability.Follower
	verifier *capability.Verifier

	finder    *sds.Client // of members
	announcer *announce.Announcer
	registry  *operators.Registry
	hops      *hop.Server
	host      *host.Host
}

// newNode opens the role's control address and prepares its gRPC server, for callers of its own domain; serve starts it.
func (d *daemon) newNode(ctx context.Context, id *ca.Identity, role serviceRole, options ...grpc.ServerOption) (*node, error) {
	return d.newNodeFor(ctx, id, role, nil, options...)
}

// newNodeFor is newNode for the callers that accept lets in.
func (d *daemon) newNodeFor(ctx context.Context, id *ca.Identity, role serviceRole, accept func(ca.Peer) error, options ...grpc.ServerOption) (*node, error) {
	l, err := d.listen(ctx, id.ID().Kind(), role.Listen)
	if err != nil {
		return nil, err
	}
	return d.nodeOn(l, id, role, append(options, grpc.Creds(ca.ServerCredentials(id, accept)))...), nil
}

// nodeOn is newNode on a listener that is open already.
func (d *daemon) nodeOn(l net.Listener, id *ca.Identity, role serviceRole, options ...grpc.ServerOption) *node {
	n := &node{
		d: d, id: id, name: role.Name, listener: l, server: grpc.NewServer(append(options, recovering(d.log.With("role", id.ID().Kind()))...)...),
		log: d.log.With("role", id.ID().Kind()), registry: new(operators.Registry),
	}
	d.ready[id.ID().Kind()] = n.address()
	return n
}

func (n *node) address() string { return n.listener.Addr().String() }

// serve answers on the control address until the daemon ends. All services are registered before it.
func (n *node) serve() {
	n.d.keep(n.log, "control", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() {
			// Long-lived streams end with their contexts; what does not within a second is cut.
			timer := time.AfterFunc(time.Second, n.server.Stop)
			defer timer.Stop()
			n.server.GracefulStop()
		})
		defer stop()
		if err := n.server.Serve(n.listener); !errors.Is(err, grpc.ErrServerStopped) {
			return err
		}
		return nil
	})
}

// meet finds the SDS server, and through it the capability manager: those that this daemon plays itself, else by
// listening.
func (n *node) meet(ctx context.Context) (announce.ServerInfo, error) {
	if server := n.d.ready[ca.KindSDS]; server != "" {
		return announce.ServerInfo{Addresses: []string{server}, Capability: []string{n.d.manager}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, meetTime)
	defer cancel()
	info, err := announce.Listen(ctx, announce.ListenConfig{
		Identity: n.id, World: n.d.world, Log: n.log, Servers: n.d.group(), Via: n.d.via(), Server: n.d.server(),
	})
	if err != nil {
		return info, fmt.Errorf("no SDS server was heard on %s through %s (is one running there, for the domain %s?): %w",
			cmp.Or(n.d.cfg.Discovery.Server, n.d.cfg.Discovery.Group), n.d.cfg.Discovery.Via, n.id.ID().Domain(), err)
	}
	if len(info.Capability) == 0 {
		return info, fmt.Errorf("SDS server %s names no capability manager", info.ID)
	}
	return info, nil
}

// meetTime is how long a node waits for a server to be heard when it starts.
const meetTime = 60 * time.Second

// follow makes the clients of the capability manager and starts to follow the ACLs.
func (n *node) follow(manager string) error {
	var err error
	n.rights, err = capability.NewClient(capability.ClientConfig{World: n.d.world, Identity: n.id, Address: manager})
	if err != nil {
		return err
	}
	n.follower, err = capability.NewFollower(capability.FollowerConfig{
		World: n.d.world, Identity: n.id, Address: manager, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.verifier = capability.NewVerifier(n.id, nil).WithRevocations(n.follower)
	n.d.keep(n.log, "acls", n.follower.Run)
	return nil
}

// find makes a client of an SDS server that asks with the node's own capability.
func (n *node) find(server string) (*sds.Client, error) {
	return sds.Dial(sds.ClientConfig{
		Identity: n.id, World: n.d.world, Address: server, Capability: n.rights.Capability, Log: n.log,
	})
}

// announce starts to publish: by datagrams, and by the stream what does not fit into one.
func (n *node) announce(stream announce.Stream) error {
	var err error
	n.announcer, err = announce.New(announce.Config{
		Identity: n.id, World: n.d.world, Log: n.log, Servers: n.d.group(), Via: n.d.via(), Server: n.d.server(), NoMulticast: !n.d.group().IsValid(),
		Stream: stream,
	})
	if err == nil {
		n.d.keep(n.log, "announcer", n.announcer.Run)
	}
	return err
}

// join takes a node into the system: it finds the servers, follows the ACLs, and announces.
func (n *node) join(ctx context.Context) error {
	info, err := n.meet(ctx)
	if err != nil {
		return err
	}
	if err := n.follow(info.Capability[0]); err != nil {
		return err
	}
	if n.finder, err = n.find(info.Addresses[0]); err != nil {
		return err
	}
	return n.announce(n.finder)
}

// carry makes the node a host of paths: the hop listener, the transports, and the path runtime.
func (n *node) carry() error {
	hops := hop.Config{
		Identity: n.id, World: n.d.world, Address: net.JoinHostPort(n.d.cfg.Host, "0"), Log: n.log,
	}
	if n.id.ID().Kind() != ca.KindUnit { // SRTP is spoken at the edges
		trunks := trunk.NewPool(trunk.Config{Identity: n.id, World: n.d.world, Log: n.log})
		hops.Carrier = trunks
		n.d.keep(n.log, "trunks", func(ctx context.Context) error {
			<-ctx.Done()
			return trunks.Close()
		})
	}
	var err error
	if n.hops, err = hop.NewServer(hops); err != nil {
		return err
	}
	n.d.keep(n.log, "hops", n.hops.Run)
	n.host, err = host.New(host.Config{
		Identity: n.id, World: n.d.world, Registry: n.registry, Log: n.log, Permit: n.permit,
		Transports: n.d.cfg.offered([]connectors.Transport{
			tcp.New(tcp.Config{Hops: n.hops, Identity: n.id, World: n.d.world}),
			udp.New(udp.Config{Hops: n.hops, Identity: n.id, World: n.d.world}),
			rtp.New(rtp.Config{
				Hops: n.hops, Identity: n.id, World: n.d.world,
				Playout: playout, PlayoutMost: mostPlayout, AtExit: true, Conceal: rtp.Repeat,
			}),
			webrtc.New(webrtc.Config{Hops: n.hops, Identity: n.id, World: n.d.world}),
		}),
		Fetch: func(ctx context.Context, ref string, from host.DataSource) ([]byte, error) {
			r, ok := operators.ParseRef(ref)
			if !ok {
				return nil, fmt.Errorf("%q is not a reference to data", ref)
			}
			return hop.Fetch(ctx, n.d.world, n.id, from.Address, from.Peer, r.SHA256, host.MaxData)
		},
	})
	if err != nil {
		return err
	}
	n.host.Register(n.server)
	n.d.keep(n.log, "paths", n.host.Run)
	role := prometheus.Labels{"role": n.id.ID().Kind()}
	n.d.health.gauge("ninja_paths", "Paths that this node runs a part of.", role, func() float64 { return float64(len(n.host.Paths())) })
	n.d.health.gauge("ninja_load", "Share of the node's cores that paths use.", role, n.host.Load)
	return nil
}

// A listener's buffer begins with the first and grows to the second at most; how long it is the measured jitter says.
const (
	playout     = 20 * time.Millisecond
	mostPlayout = 200 * time.Millisecond
)

// permit checks a creator's command: the capability that it holds must allow the path's user what each stage does.
func (n *node) permit(_ context.Context, creator ca.Peer, a host.Assignment) error {
	if creator.ID.Kind() != ca.KindAPC {
		return fmt.Errorf("%s is no path creator", creator.ID)
	}
	claims, err := n.verifier.Verify(a.Capability, creator.Key)
	if err != nil {
		return err
	}
	if claims.Path != "" && claims.Path != a.Path {
		return fmt.Errorf("the capability is for the path %q", claims.Path)
	}
	for _, s := range a.Stages {
		service, op := n.right(s)
		if !capability.Allowed(claims, n.id.ID(), n.follower.ACL(service), op) {
			return fmt.Errorf("%s may not %v %s", claims.Principal, op, service)
		}
	}
	return nil
}

// right says what a stage does to which of the node's services. A source is listened to, a sink is sent to, all else is
// used. A service's programs have its name before the slash; those of a proxy are the proxy's own.
func (n *node) right(s host.Stage) (service string, op capability.Operations) {
	name := n.name
	if n.id.ID().Kind() == ca.KindBase {
		name, _, _ = strings.Cut(s.Program, "/")
	}
	service = capability.ServiceID(n.id.ID(), name)
	switch {
	case s.In == nil:
		return service, capability.ListenFrom
	case s.Out == nil:
		return service, capability.SendTo
	}
	return service, capability.Use
}

// element is the node element of what the node publishes.
func (n *node) element() operators.Node {
	return operators.Node{Control: n.address(), Data: n.hops.Addr(), Transports: strings.Join(n.d.cfg.Transports, " ")}
}

// allow sets the ACL of one of the node's services as the configuration says; without lines it stays as it is.
func (n *node) allow(ctx context.Context, service string, lines []string) error {
	entries, err := parseACL(lines)
	if err != nil || entries == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	wait := 50 * time.Millisecond
	for {
		_, err = n.rights.SetACL(ctx, capability.ServiceID(n.id.ID(), service), entries)
		if err == nil || world.Sleep(ctx, n.d.world.Jitter(wait)) != nil {
			break
		}
		wait = min(2*wait, time.Second)
	}
	if err != nil {
		return fmt.Errorf("set the ACL of %s: %w", service, err)
	}
	return nil
}

func (d *daemon) via() netip.Addr { return netip.MustParseAddr(d.cfg.Discovery.Via) }

// group is the channel to listen on; zero when a server is asked instead, or there is no multicast.
func (d *daemon) group() netip.AddrPort {
	if d.cfg.Discovery.Server != "" {
		return netip.AddrPort{}
	}
	return addrPort(d.cfg.Discovery.Group)
}

// server is the fixed server to ask: that of the configuration, or the one that this daemon plays without multicast.
func (d *daemon) server() netip.AddrPort {
	if s := d.cfg.Roles.SDS; d.cfg.Discovery.Server == "" && d.cfg.Discovery.Group == noGroup && s != nil {
		return addrPort(s.UDP)
	}
	return addrPort(d.cfg.Discovery.Server)
}

// addrPort reads an address that the configuration's check has passed; empty and noGroup are zero.
func addrPort(text string) netip.AddrPort {
	a, _ := netip.ParseAddrPort(text)
	return a
}

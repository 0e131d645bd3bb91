package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/announce"
	"ninja/sds/sdspb"
	"ninja/sds/tree"
	"ninja/sds/tree/treepb"
)

// parentConfig is where an SDS server joins a hierarchy.
type parentConfig struct {
	Hierarchy string   `yaml:"hierarchy" json:"-"`
	Addresses []string `yaml:"addresses" json:"addresses"`
	// Domain is the parent's; empty is the server's own.
	Domain string `yaml:"domain" json:"domain,omitempty"`
}

// childrenConfig is who may join a hierarchy below the server.
type childrenConfig struct {
	Hierarchy string `yaml:"hierarchy"`
	// Allow are identities of SDS servers, or names of domains for all of theirs; empty is the server's own domain.
	Allow []string `yaml:"allow"`
}

// checkParents says what is wrong with parents.
func checkParents(all []parentConfig) error {
	names := make(map[string]bool)
	for _, p := range all {
		if names[p.Hierarchy] {
			return fmt.Errorf("the hierarchy %s wants one entry, with the addresses of its possible parents", p.Hierarchy)
		}
		names[p.Hierarchy] = true
		parent := p.parent()
		if err := parent.Check(); err != nil {
			return err
		}
	}
	return nil
}

// checkHierarchies says what is wrong with the parents and children of the role.
func (r *sdsRole) checkHierarchies() error {
	if err := checkParents(r.Parents); err != nil {
		return fmt.Errorf("roles.sds.parents: %w", err)
	}
	if _, err := r.extent(); err != nil {
		return err
	}
	if s := r.Spawn; s != nil && s.Services <= 0 && s.Queries <= 0 {
		return errors.New("roles.sds.spawn: say past how many services or queries a second the server spawns another one")
	}
	if r.SpawnedBy != "" {
		if _, err := ca.ParseID(r.SpawnedBy); err != nil {
			return fmt.Errorf("roles.sds.spawned-by: %w", err)
		}
	}
	for _, c := range r.Children {
		if err := tree.CheckName(c.Hierarchy); err != nil {
			return fmt.Errorf("roles.sds.children: %w", err)
		}
	}
	return nil
}

// accepts says who may join below the server: as configured, or, in hierarchies that are not named, the servers of its
// own domain.
func (r *sdsRole) accepts(self ca.ID) func(string, ca.Peer) error {
	return func(hierarchy string, peer ca.Peer) error {
		allow := []string{self.Domain()}
		for _, c := range r.Children {
			if c.Hierarchy == hierarchy && len(c.Allow) > 0 {
				allow = c.Allow
			}
		}
		if slices.Contains(allow, peer.ID.Domain()) || slices.Contains(allow, string(peer.ID)) {
			return nil
		}
		return fmt.Errorf("it is not among those whom roles.sds.children allows")
	}
}

// connects says who may connect to the server: everyone of its own domain, and the SDS servers of other domains that may
// join below it.
func (r *sdsRole) connects(peer ca.Peer) error {
	if !peer.Foreign {
		return nil
	}
	for _, c := range r.Children {
		if peer.ID.Kind() == ca.KindSDS && (slices.Contains(c.Allow, peer.ID.Domain()) || slices.Contains(c.Allow, string(peer.ID))) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is of another domain", ca.ErrUntrusted, peer.ID)
}

// linksAlone keeps who comes from another domain to the links of hierarchies.
func linksAlone() []grpc.ServerOption {
	check := func(ctx context.Context, method string) error {
		peer, err := ca.PeerFromContext(ctx)
		if err == nil && peer.Foreign && method != treepb.Tree_Link_FullMethodName {
			return status.Errorf(codes.PermissionDenied, "%s is of another domain: it may join a hierarchy here, and nothing else", peer.ID)
		}
		return nil
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, m any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := check(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return handle(ctx, m)
		}),
		grpc.ChainStreamInterceptor(func(s any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := check(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return handle(s, stream)
		}),
	}
}

// joinHierarchies makes the SDS server a part of its hierarchies.
// What it returns waits until the server has what its family has, when another one spawned it.
func (n *node) joinHierarchies(role sdsRole, extent announce.Extent, server *sds.Server, authority, manager string) (filled func(context.Context), err error) {
	routes, err := capability.NewRoutesFollower(capability.FollowerConfig{World: n.d.world, Identity: n.id, Address: manager, Log: n.log})
	if err != nil {
		return nil, err
	}
	kept, err := loadParents(n.d.dir("parents.json"), role.Parents)
	if err != nil {
		return nil, err
	}
	admin, err := administers(n.id.ID().Domain())
	if err != nil {
		return nil, err
	}
	cfg := tree.Config{
		Identity: n.id, World: n.d.world, Local: server, Address: n.address(), Accept: role.accepts(n.id.ID()), Log: n.log, Spawned: ca.ID(role.SpawnedBy),
		Routes: routes.Routes,
	}
	cfg.Parents, cfg.Configured, cfg.Keep, cfg.Administers = kept.now(n.log), kept.configured, kept.keep, admin
	t, err := tree.New(cfg)
	if err != nil {
		return nil, err
	}
	t.Register(n.server)
	if s := role.Spawn; s != nil {
		grow := tree.Growth{
			Spawner: &supervisor{n.d, role, authority, manager}, Extent: extent, Services: s.Services, Queries: s.Queries, Most: s.Most, Settle: announce.LifetimePeriods * role.Period,
		}
		n.d.keep(n.log, "growth", func(ctx context.Context) error { return t.Grow(ctx, grow) })
	}
	n.d.keep(n.log, "hierarchies", t.Run)
	n.d.keep(n.log, "routes of hidden services", routes.Run)
	return func(ctx context.Context) { n.fill(ctx, ca.ID(role.SpawnedBy), t, server) }, nil
}

// fill waits until a server that another one spawned has what its family has, and the access lists that say who may find it.
func (n *node) fill(ctx context.Context, spawner ca.ID, t *tree.Node, server *sds.Server) {
	if spawner == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fillTime)
	defer cancel()
	select {
	case <-t.Filled():
	case <-ctx.Done():
		n.log.Warn("the server that spawned this one has not told what it has: answering without", "spawner", spawner)
	}
	for !n.follower.Fresh() {
		if world.Sleep(ctx, lookTime) != nil {
			n.log.Warn("the capability manager has not told the access lists: answering without")
			return
		}
	}
	server.Reclass()
}

// whenFull holds back what clients ask of a server that another one spawned, until it can answer as the others of its family do.
func whenFull(full <-chan struct{}) []grpc.ServerOption {
	wait := func(ctx context.Context, method string) error {
		if !strings.HasPrefix(method, "/"+sdspb.Discovery_ServiceDesc.ServiceName+"/") && method != treepb.Tree_Session_FullMethodName {
			return nil
		}
		select {
		case <-full:
			return nil
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, m any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := wait(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return handle(ctx, m)
		}),
		grpc.ChainStreamInterceptor(func(s any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := wait(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return handle(s, stream)
		}),
	}
}

const (
	// fillTime is how long a spawned server waits for its part before it answers and announces itself.
	fillTime = 20 * time.Second
	lookTime = 20 * time.Millisecond
)

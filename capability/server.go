package capability

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	pb "ninja/capability/capabilitypb"
)

// Store keeps the manager's state; base/dds has it. Put returns when the value will survive a crash.
type Store interface {
	List(ctx context.Context, table, prefix string, each func(key string, value []byte, revision uint64) error) error
	Put(ctx context.Context, table, key string, value []byte) (revision uint64, err error)
	Delete(ctx context.Context, table, key string) error
}

// The manager's tables.
const (
	tableACL     = "capability-acl"
	tableGroup   = "capability-group"
	tableRevoked = "capability-revoked"
)

// Bounds of what one manager keeps.
const (
	MaxMembers  = 10_000  // of a group
	maxGroupsOf = 100     // that one principal is in
	maxACLs     = 5 << 20 // all services
	maxWatchers = 1024
	batch       = 1024     // revocations in one message of a watch
	batchBytes  = 64 << 10 // ACLs in one message of a watch: no more are begun beyond it
)

// Lives of capabilities and the period of the watch's sign of life.
const (
	DefaultLife = time.Hour
	Heartbeat   = time.Second
)

// ManagerConfig configures a Manager.
type ManagerConfig struct {
	// Identity signs capabilities; its kind must be ca.KindCapability. Required.
	Identity *ca.Identity
	// Store keeps ACLs, groups and revocations. Required.
	Store Store
	// Life is the longest, and the default, life of a capability; 0 is DefaultLife.
	Life time.Duration
	// Audit is told of each change of a right and each denial; nil is nowhere.
	Audit *ca.AuditLog
	// Log is told of trouble; nil is slog.Default().
	Log *slog.Logger
}

// Manager is the capability manager's service. It is the only writer of its tables.
type Manager struct {
	pb.UnimplementedManagerServer
	id    *ca.Identity
	own   *Verifier // of what it issued itself
	store Store
	life  time.Duration
	audit *ca.AuditLog
	log   *slog.Logger

	mu       sync.Mutex // held over writes to the store too: what is acknowledged is durable and seen in one order
	state    *state
	watchers map[*watcher]struct{}
}

// watcher is what one stream has yet to send. It is bounded by what there is to know, however slow the stream.
type watcher struct {
	owner   ca.ID // whose ACLs it may know; "" is all
	acls    map[string]struct{}
	revoked map[ca.ID]struct{}
	wake    chan struct{} // holds one
}

// NewManager makes a Manager and reads its state.
func NewManager(ctx context.Context, cfg ManagerConfig) (*Manager, error) {
	if cfg.Identity == nil || cfg.Store == nil {
		return nil, errors.New("capability manager: an identity and a store are required")
	}
	if cfg.Identity.ID().Kind() != ca.KindCapability {
		return nil, fmt.Errorf("capability manager: %s is not of the kind %s", cfg.Identity.ID(), ca.KindCapability)
	}
	m := &Manager{
		id: cfg.Identity, store: cfg.Store, life: cfg.Life, audit: cfg.Audit, log: cfg.Log,
		state: newState(cfg.Identity.ID().Domain()), watchers: map[*watcher]struct{}{},
	}
	m.own = NewVerifier(m.id, nil)
	m.own.revoked = m
	if m.life == 0 {
		m.life = DefaultLife
	}
	if m.log == nil {
		m.log = slog.Default()
	}
	return m, m.load(ctx)
}

// Register adds the service to a gRPC server, which must use ca.ServerCredentials.
func (m *Manager) Register(s *grpc.Server) { pb.RegisterManagerServer(s, m) }

func (m *Manager) load(ctx context.Context) error {
	err := m.store.List(ctx, tableACL, "", func(key string, value []byte, _ uint64) error {
		var p pb.ACL
		if err := proto.Unmarshal(value, &p); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		m.state.acls[key] = aclFrom(&p)
		return nil
	})
	if err == nil {
		err = m.store.List(ctx, tableGroup, "", func(key string, value []byte, _ uint64) error {
			var p pb.Group
			if err := proto.Unmarshal(value, &p); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			m.state.setGroup(key, ids(p.Members))
			return nil
		})
	}
	if err == nil {
		err = m.store.List(ctx, tableRevoked, "", func(key string, value []byte, _ uint64) error {
			if len(value) != 8 {
				return fmt.Errorf("%s: %d bytes, want 8", key, len(value))
			}
			m.state.setRevoked(ca.ID(key), binary.BigEndian.Uint64(value))
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("capability manager: read the stored rights: %w", err)
	}
	return nil
}

// Issue implements the RPC.
func (m *Manager) Issue(ctx context.Context, r *pb.IssueRequest) (*pb.IssueResponse, error) {
	peer, err := m.caller(ctx)
	if err != nil {
		return nil, err
	}
	life := m.life
	if wanted := time.Duration(r.LifeSeconds) * time.Second; wanted != 0 {
		life = min(life, wanted)
	}
	token, expires := m.issue(peer, life)
	if !expires.After(m.id.Now()) {
		return nil, status.Error(codes.Unavailable, "the manager's own certificate has expired: see why it is not renewed")
	}
	return &pb.IssueResponse{Version: 1, Token: token, Expires: expires.Unix()}, nil
}

// issue makes a capability for a principal and its key. It ends, at the latest, with the manager's own certificate.
func (m *Manager) issue(peer ca.Peer, life time.Duration) ([]byte, time.Time) {
	now := m.id.Now()
	expires := now.Add(life)
	if end := m.id.Expires(); end.Before(expires) {
		expires = end
	}
	m.mu.Lock()
	f := first{
		issued: now.Unix(), expires: expires.Unix(), epoch: m.state.epoch, ops: All, holder: peer.Key, principal: peer.ID,
		grants: m.state.grants(peer.ID), chain: m.id.Chain(),
	}
	m.mu.Unlock()
	body := f.encode()
	token := append([]byte(magic), 1)
	return appendBlock(token, body, m.id.Sign(contextFirst, body)), expires
}

// SetACL implements the RPC.
func (m *Manager) SetACL(ctx context.Context, r *pb.SetACLRequest) (*pb.ACL, error) {
	return m.changeACL(ctx, r.Service, func(a *ACL) (*ACL, error) {
		if r.Expect != nil && *r.Expect != a.Version {
			return nil, status.Errorf(codes.Aborted, "the ACL of %s has version %d, not %d: read it again", a.Service, a.Version, *r.Expect)
		}
		return &ACL{Service: a.Service, Version: a.Version, Entries: entriesFrom(r.Entries)}, nil
	})
}

// GetACL implements the RPC.
func (m *Manager) GetACL(ctx context.Context, r *pb.GetACLRequest) (*pb.ACL, error) {
	if _, err := m.owner(ctx, r.Service); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return aclTo(m.state.acl(r.Service)), nil
}

// Grant implements the RPC.
func (m *Manager) Grant(ctx context.Context, r *pb.EntryRequest) (*pb.ACL, error) {
	return m.changeACL(ctx, r.Service, func(a *ACL) (*ACL, error) {
		return a.With(Who(r.Entry.GetWho()), operationsFrom(r.Entry), 0), nil
	})
}

// Revoke implements the RPC.
func (m *Manager) Revoke(ctx context.Context, r *pb.EntryRequest) (*pb.ACL, error) {
	return m.changeACL(ctx, r.Service, func(a *ACL) (*ACL, error) {
		return a.With(Who(r.Entry.GetWho()), 0, operationsFrom(r.Entry)), nil
	})
}

// changeACL replaces an ACL, durably, and tells the watchers.
func (m *Manager) changeACL(ctx context.Context, service string, change func(*ACL) (*ACL, error)) (*pb.ACL, error) {
	peer, err := m.owner(ctx, service)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next, err := change(m.state.acl(service))
	if err != nil {
		return nil, err
	}
	next.Version++
	err = next.Check()
	if err == nil {
		err = m.ownGroups(next)
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if _, has := m.state.acls[service]; !has && len(m.state.acls) >= maxACLs {
		return nil, status.Errorf(codes.ResourceExhausted, "there are %d ACLs already", maxACLs)
	}
	wire := aclTo(next)
	if err := m.put(ctx, tableACL, service, wire); err != nil {
		return nil, err
	}
	m.state.acls[service] = next
	m.record(ca.Record{Event: "acl", By: peer.ID, About: service, Detail: next.text()})
	for w := range m.watchers {
		w.add(service)
	}
	return wire, nil
}

// ownGroups refuses groups of this domain that are written as another one's: nobody would ever be in them.
func (m *Manager) ownGroups(a *ACL) error {
	for _, e := range a.Entries {
		if domain, name, ok := e.Who.group(); ok && domain == m.id.ID().Domain() {
			return fmt.Errorf("ACL of %s: %s is a group of this domain: write %s", a.Service, e.Who, Group(name))
		}
	}
	return nil
}

// DeleteACL implements the RPC.
func (m *Manager) DeleteACL(ctx context.Context, r *pb.DeleteACLRequest) (*pb.ACL, error) {
	peer, err := m.owner(ctx, r.Service)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, has := m.state.acls[r.Service]; has {
		if err := m.store.Delete(ctx, tableACL, r.Service); err != nil {
			return nil, status.Errorf(codes.Unavailable, "delete the ACL of %s: %v", r.Service, err)
		}
		delete(m.state.acls, r.Service)
		m.record(ca.Record{Event: "delete acl", By: peer.ID, About: r.Service})
		for w := range m.watchers {
			w.add(r.Service)
		}
	}
	return aclTo(m.state.acl(r.Service)), nil
}

// SetGroup implements the RPC. Whoever is no longer a member has to get a new capability.
func (m *Manager) SetGroup(ctx context.Context, r *pb.SetGroupRequest) (*pb.Group, error) {
	peer, err := m.admin(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.setGroup(ctx, peer, r)
}

// setGroup replaces the members of a group. It is called with the lock held.
func (m *Manager) setGroup(ctx context.Context, peer ca.Peer, r *pb.SetGroupRequest) (*pb.Group, error) {
	if err := checkMembers(r); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	members := ids(r.Members)
	for _, id := range members {
		if len(m.state.member[id]) >= maxGroupsOf && !slices.Contains(m.state.groups[r.Name], id) {
			return nil, status.Errorf(codes.ResourceExhausted, "%s is in %d groups already", id, maxGroupsOf)
		}
	}
	// The revocations are stored first: a crash between leaves a member that has to ask again, never one too many.
	for _, id := range m.state.groups[r.Name] {
		if !slices.Contains(members, id) {
			if err := m.revoke(ctx, id); err != nil {
				return nil, err
			}
		}
	}
	if err := m.put(ctx, tableGroup, r.Name, &pb.Group{Name: r.Name, Members: r.Members}); err != nil {
		return nil, err
	}
	m.state.setGroup(r.Name, members)
	m.record(ca.Record{Event: "group", By: peer.ID, About: r.Name, Detail: fmt.Sprintf("%d members", len(members))})
	return m.group(r.Name), nil
}

func checkMembers(r *pb.SetGroupRequest) error {
	if err := checkGroupName(r.Name); err != nil {
		return err
	}
	if len(r.Members) > MaxMembers {
		return fmt.Errorf("group %s: %d members, at most %d", r.Name, len(r.Members), MaxMembers)
	}
	for _, member := range r.Members {
		if _, err := ca.ParseID(member); err != nil {
			return fmt.Errorf("group %s: %w", r.Name, err)
		}
	}
	return nil
}

// GetGroup implements the RPC.
func (m *Manager) GetGroup(ctx context.Context, r *pb.GetGroupRequest) (*pb.Group, error) {
	if _, err := m.admin(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.group(r.Name), nil
}

func (m *Manager) group(name string) *pb.Group {
	g := &pb.Group{Name: name}
	for _, id := range m.state.groups[name] {
		g.Members = append(g.Members, string(id))
	}
	return g
}

// RevokePrincipal implements the RPC.
func (m *Manager) RevokePrincipal(ctx context.Context, r *pb.RevokePrincipalRequest) (*pb.RevokePrincipalResponse, error) {
	peer, err := m.admin(ctx)
	if err != nil {
		return nil, err
	}
	id, err := ca.ParseID(r.Principal)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.record(ca.Record{Event: "revoke", By: peer.ID, ID: id})
	return &pb.RevokePrincipalResponse{Version: 1}, m.revoke(ctx, id)
}

// revoke is called with the lock held.
func (m *Manager) revoke(ctx context.Context, id ca.ID) error {
	if _, err := m.store.Put(ctx, tableRevoked, string(id), binary.BigEndian.AppendUint64(nil, m.state.epoch+1)); err != nil {
		return status.Errorf(codes.Unavailable, "store the revocation of %s: %v", id, err)
	}
	m.state.revoke(id)
	for w := range m.watchers {
		w.revoked[id] = struct{}{}
		w.nudge()
	}
	return nil
}

func (m *Manager) put(ctx context.Context, table, key string, message proto.Message) error {
	value, err := proto.Marshal(message)
	if err == nil {
		_, err = m.store.Put(ctx, table, key, value)
	}
	if err != nil {
		return status.Errorf(codes.Unavailable, "store %s: %v", key, err)
	}
	return nil
}

// caller is who calls.
func (m *Manager) caller(ctx context.Context) (ca.Peer, error) {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return ca.Peer{}, status.Error(codes.Unauthenticated, err.Error())
	}
	return peer, nil
}

// owner lets the service's owner pass. Others hear the same whether or not there is such a service.
func (m *Manager) owner(ctx context.Context, service string) (ca.Peer, error) {
	peer, err := m.caller(ctx)
	if err != nil {
		return ca.Peer{}, err
	}
	owner, _, err := ParseService(service)
	if err != nil {
		return ca.Peer{}, status.Error(codes.InvalidArgument, err.Error())
	}
	if peer.ID != owner {
		err := status.Errorf(codes.PermissionDenied, "only %s may see or change this ACL", owner)
		m.record(ca.Record{Event: "acl", By: peer.ID, About: service, Denied: status.Convert(err).Message()})
		return ca.Peer{}, err
	}
	return peer, nil
}

// admin lets user/admin of the manager's own domain pass.
func (m *Manager) admin(ctx context.Context) (ca.Peer, error) {
	peer, err := m.caller(ctx)
	if err != nil {
		return ca.Peer{}, err
	}
	if admin, _ := ca.MakeID(m.id.ID().Domain(), ca.KindUser, "admin"); peer.ID != admin {
		err := status.Errorf(codes.PermissionDenied, "only %s may do that", admin)
		m.record(ca.Record{Event: "administration", By: peer.ID, Denied: status.Convert(err).Message()})
		return ca.Peer{}, err
	}
	return peer, nil
}

// record writes to the audit log. What it is about has happened or been refused already, so trouble with the log is told
// to its operator and not to the caller.
func (m *Manager) record(r ca.Record) {
	r.Time = m.id.Now()
	if err := m.audit.Write(r); err != nil {
		m.log.Error("cannot write the audit log", "error", err)
	}
}

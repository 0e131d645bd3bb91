package capability

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
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

// Routing gives the SDS servers of a domain what tokens of grants are made with (package summary of room sds): servers
// find their way to services that not everyone may find, and nobody else learns that there are any. For grants within
// the domain that is a secret of the domain; for those across two domains one of the pair, which both managers work out
// from their routing keys.
type Routing struct {
	pb.UnimplementedRoutingServer
	id     *ca.Identity
	store  Store
	groups func() map[Who][]ca.ID
	audit  *ca.AuditLog
	log    *slog.Logger
	secret []byte

	mu   sync.Mutex
	keys []*ecdh.PrivateKey // the present one first
	made map[string]Pair    // pairs by all that they are made of: every server asks every second
}

const (
	tableRouting  = "capability-routing"
	routingSecret = "secret"
	routingKeys   = "keys"
	secretSize    = 32
	privateSize   = 32 // of a routing key
)

// NewRouting reads the secret and the routing keys, or makes them when there are none. With a manager, the members that
// its groups have in other domains find what the groups may; nil is none.
func NewRouting(ctx context.Context, id *ca.Identity, store Store, m *Manager) (*Routing, error) {
	r := &Routing{id: id, store: store, made: make(map[string]Pair), groups: func() map[Who][]ca.ID { return nil }, log: slog.Default()}
	if m != nil {
		r.groups, r.audit, r.log = m.guests, m.audit, m.log
	}
	err := r.load(ctx)
	if err == nil && len(r.secret) != secretSize {
		r.secret = make([]byte, secretSize)
		_, _ = rand.Read(r.secret) // never fails
		_, err = store.Put(ctx, tableRouting, routingSecret, r.secret)
	}
	if err == nil && len(r.keys) == 0 {
		err = r.rotate(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("capability manager: the secret of routing: %w", err)
	}
	return r, nil
}

func (r *Routing) load(ctx context.Context) error {
	return r.store.List(ctx, tableRouting, "", func(key string, value []byte, _ uint64) error {
		switch key {
		case routingSecret:
			r.secret = bytes.Clone(value)
		case routingKeys:
			for raw := range slices.Chunk(value, privateSize) {
				k, err := ecdh.X25519().NewPrivateKey(raw)
				if err != nil {
					return fmt.Errorf("the routing keys: %w", err)
				}
				r.keys = append(r.keys, k)
			}
		}
		return nil
	})
}

// rotate makes another key the present one, durably.
func (r *Routing) rotate(ctx context.Context) error {
	fresh, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := append([]*ecdh.PrivateKey{fresh}, r.keys...)
	next = next[:min(len(next), ca.MaxRoutingKeys)]
	var value []byte
	for _, k := range next {
		value = append(value, k.Bytes()...)
	}
	if _, err := r.store.Put(ctx, tableRouting, routingKeys, value); err != nil {
		return err
	}
	r.keys = next
	return nil
}

// Register adds the service to a gRPC server, which must use ca.ServerCredentials.
func (r *Routing) Register(s *grpc.Server) { pb.RegisterRoutingServer(s, r) }

// server lets the SDS servers of the domain pass.
func (r *Routing) server(ctx context.Context) error {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if domain := r.id.ID().Domain(); peer.ID.Kind() != ca.KindSDS || peer.ID.Domain() != domain {
		return status.Errorf(codes.PermissionDenied, "%s is no SDS server of %s", peer.ID, domain)
	}
	return nil
}

// Secret implements the RPC, for servers of before there were pairs.
func (r *Routing) Secret(ctx context.Context, _ *pb.SecretRequest) (*pb.SecretResponse, error) {
	if err := r.server(ctx); err != nil {
		return nil, err
	}
	return &pb.SecretResponse{Version: 1, Secret: r.secret}, nil
}

// Follow implements the RPC.
func (r *Routing) Follow(_ *pb.FollowRoutesRequest, stream grpc.ServerStreamingServer[pb.FollowRoutesResponse]) error {
	if err := r.server(stream.Context()); err != nil {
		return err
	}
	tick := time.NewTicker(Heartbeat)
	defer tick.Stop()
	var told *pb.Routes
	for {
		// What it is made of lies in three places and changes seldom, so it is looked at rather than waited for.
		m := &pb.FollowRoutesResponse{Version: 1}
		if now := r.routes(); told == nil || !proto.Equal(told, now) {
			told, m.Routes = now, now
		}
		if err := stream.Send(m); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// routes is all that servers are told, in an order of its own.
func (r *Routing) routes() *pb.Routes {
	out := &pb.Routes{Secret: r.secret}
	known := r.id.State().Keys
	for _, domain := range slices.Sorted(maps.Keys(known)) {
		p, err := r.pair(domain, known[domain])
		if err != nil { // a key that no honest manager has: that domain is as one without a key
			r.log.Error("hidden services are not found across domains", "domain", domain, "error", err)
			continue
		}
		out.Pairs = append(out.Pairs, &pb.Routes_Pair{Domain: domain, Here: p.Here, There: p.There})
	}
	guests := r.groups()
	for _, group := range slices.Sorted(maps.Keys(guests)) {
		g := &pb.Routes_Guests{Group: string(group)}
		for _, id := range guests[group] {
			if _, paired := known[id.Domain()]; paired {
				g.Members = append(g.Members, string(id))
			}
		}
		if len(g.Members) > 0 {
			out.Guests = append(out.Guests, g)
		}
	}
	return out
}

// pair is what this domain and another one share.
func (r *Routing) pair(domain string, theirs [][]byte) (Pair, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := domain
	for _, k := range r.keys {
		of += string(k.PublicKey().Bytes())
	}
	of += "\x00" + string(bytes.Join(theirs, nil))
	if p, ok := r.made[of]; ok {
		return p, nil
	}
	p, err := pairOf(r.keys, r.id.ID().Domain(), theirs, domain)
	if err == nil {
		if len(r.made) >= madeMost {
			clear(r.made)
		}
		r.made[of] = p
	}
	return p, err
}

// madeMost bounds the remembered pairs: there are no more domains.
const madeMost = 256

// Keys implements the RPC.
func (r *Routing) Keys(ctx context.Context, _ *pb.KeysRequest) (*pb.KeysResponse, error) {
	if _, err := ca.PeerFromContext(ctx); err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &pb.KeysResponse{Version: 1}
	for _, k := range r.keys {
		b, err := ca.NewRoutingKey(r.id, k.PublicKey().Bytes()).Marshal()
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		out.Keys = append(out.Keys, b)
	}
	return out, nil
}

// RotateKey implements the RPC.
func (r *Routing) RotateKey(ctx context.Context, _ *pb.KeysRequest) (*pb.KeysResponse, error) {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	record := ca.Record{Time: r.id.Now(), Event: "routing key", By: peer.ID}
	if admin, _ := ca.MakeID(r.id.ID().Domain(), ca.KindUser, "admin"); peer.ID != admin {
		record.Denied = fmt.Sprintf("only %s may do that", admin)
		r.record(record)
		return nil, status.Error(codes.PermissionDenied, record.Denied)
	}
	if err := r.rotate(ctx); err != nil {
		return nil, status.Errorf(codes.Unavailable, "store the routing key: %v", err)
	}
	r.record(record)
	return r.Keys(ctx, nil)
}

func (r *Routing) record(what ca.Record) {
	if err := r.audit.Write(what); err != nil {
		r.log.Error("cannot write the audit log", "error", err)
	}
}

// guests are, by group, the members that belong to other domains.
func (m *Manager) guests() map[Who][]ca.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[Who][]ca.ID)
	told := 0
	for _, name := range slices.Sorted(maps.Keys(m.state.guests)) {
		for _, id := range m.state.guests[name] {
			if told++; told > maxGuests {
				return out
			}
			out[Group(name)] = append(out[Group(name)], id)
		}
	}
	return out
}

// maxGuests bounds what servers are told of the members that groups have in other domains.
const maxGuests = 10_000

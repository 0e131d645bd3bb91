package ca

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "ninja/ca/capb"
)

// banned is a ban as stored, under the principal's ID.
type banned struct {
	By ID        `json:"by"`
	At time.Time `json:"at"`
}

// Ban ends a principal, or lifts that: a banned one gets no certificate any more, and everyone who follows the authority
// stops accepting those it has.
func (s *Server) Ban(ctx context.Context, by, id ID, lift bool) error {
	_, err := ParseID(string(id))
	r := Record{Time: s.now(), Event: "ban", By: by, ID: id}
	switch {
	case err != nil:
	case lift:
		r.Event = "lift ban"
		if err = s.cfg.Store.Delete(ctx, tableBanned, string(id)); err == nil {
			s.cfg.Authority.unban(id)
		}
	default:
		err = s.ban(ctx, id, banned{by, s.now()})
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", r.Event, id, err)
	}
	return s.cfg.Audit.Write(r)
}

func (s *Server) ban(ctx context.Context, id ID, b banned) error {
	value, err := json.Marshal(b)
	if err == nil {
		_, _, err = s.cfg.Store.CompareAndSet(ctx, tableBanned, string(id), value, 0)
	}
	if err == nil {
		s.cfg.Authority.ban(id, b.At)
	}
	return err
}

// recallBans tells the authority of the bans that are stored, those of which certificates may live.
func (s *Server) recallBans(ctx context.Context) error {
	since := s.now().Add(-s.cfg.Authority.overlap())
	return s.cfg.Store.List(ctx, tableBanned, "", func(key string, value []byte, _ uint64) error {
		var b banned
		if json.Unmarshal(value, &b) == nil && b.At.After(since) {
			s.cfg.Authority.ban(ID(key), b.At)
		}
		return nil
	})
}

// Ban implements the RPC.
func (s rpcServer) Ban(ctx context.Context, r *pb.BanRequest) (*pb.BanResponse, error) {
	peer, err := s.admin(ctx, "ban", ID(r.Id[:min(len(r.Id), MaxIDLength)]))
	if err != nil {
		return nil, err
	}
	if err := s.Server.Ban(ctx, peer.ID, ID(r.Id), r.Lift); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return &pb.BanResponse{Version: 1}, nil
}

// Follow implements the RPC.
func (s *Server) Follow(_ *pb.FollowRequest, stream grpc.ServerStreamingServer[pb.FollowResponse]) error {
	if _, err := PeerFromContext(stream.Context()); err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	return s.cfg.Authority.Follow(stream.Context(), func(state *State) error {
		return stream.Send(&pb.FollowResponse{Version: 1, State: stateTo(state)})
	})
}

func stateTo(s *State) *pb.State {
	if s == nil {
		return nil
	}
	p := &pb.State{Roots: s.Roots}
	for _, domain := range slices.Sorted(maps.Keys(s.Domains)) {
		p.Domains = append(p.Domains, &pb.State_Domain{Name: domain, Roots: s.Domains[domain], Keys: s.Keys[domain]})
	}
	for _, id := range s.Banned {
		p.Banned = append(p.Banned, string(id))
	}
	return p
}

func stateFrom(p *pb.State) *State {
	if p == nil {
		return nil
	}
	s := &State{Roots: p.Roots, Domains: map[string][][]byte{}, Keys: map[string][][]byte{}}
	for _, d := range p.Domains {
		s.Domains[d.Name] = d.Roots
		if len(d.Keys) > 0 {
			s.Keys[d.Name] = d.Keys[:min(len(d.Keys), MaxRoutingKeys)]
		}
	}
	for _, id := range p.Banned {
		s.Banned = append(s.Banned, ID(id))
	}
	return s
}

// Rotate implements the RPC.
func (s *Server) Rotate(ctx context.Context, r *pb.RotateRequest) (*pb.RotateResponse, error) {
	peer, err := s.admin(ctx, "rotate", "")
	if err != nil {
		return nil, err
	}
	a := s.cfg.Authority
	if !r.Status {
		if err := a.Rotate(); err != nil {
			return nil, s.denied(Record{Event: "rotate", By: peer.ID}, status.Error(codes.FailedPrecondition, err.Error()))
		}
		if err := s.cfg.Audit.Write(Record{Time: s.now(), Event: "rotate", By: peer.ID}); err != nil {
			return nil, status.Errorf(codes.Unavailable, "write the audit log: %v", err)
		}
	}
	now := a.Rotation()
	out := &pb.RotateResponse{
		Version: 1, Root: now.Root, Next: now.Next, Last: now.Last,
		IssuingExpiresUnix: now.IssuingExpires.Unix(), RootKeyPresent: now.RootKeyPresent,
	}
	if now.Next != nil {
		out.SwitchUnix = now.SwitchAt.Unix()
	}
	if now.Last != nil {
		out.RetireUnix = now.RetireAt.Unix()
	}
	return out, nil
}

// TrustDomain implements the RPC.
func (s *Server) TrustDomain(ctx context.Context, r *pb.TrustDomainRequest) (*pb.TrustDomainResponse, error) {
	about := r.Domain[:min(len(r.Domain), MaxIDLength)]
	peer, err := s.admin(ctx, "trust domain", "")
	if err != nil {
		return nil, err
	}
	event := "trust domain"
	if len(r.Roots) == 0 {
		event = "distrust domain"
	}
	keys, err := routingKeysFrom(r.Keys)
	if err == nil {
		err = s.cfg.Authority.TrustDomain(about, r.Roots, keys...)
	}
	if err != nil {
		return nil, s.denied(Record{Event: event, By: peer.ID, About: about}, status.Error(codes.InvalidArgument, err.Error()))
	}
	if err := s.cfg.Audit.Write(Record{Time: s.now(), Event: event, By: peer.ID, About: about, Detail: trustText(r.Roots, keys)}); err != nil {
		return nil, status.Errorf(codes.Unavailable, "write the audit log: %v", err)
	}
	return &pb.TrustDomainResponse{Version: 1}, nil
}

func routingKeysFrom(all [][]byte) (keys []RoutingKey, err error) {
	for _, b := range all[:min(len(all), MaxRoutingKeys+1)] {
		k, err := ParseRoutingKey(b)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// trustText says by which roots and keys a domain is trusted, for the audit log.
func trustText(roots [][]byte, keys []RoutingKey) string {
	var parts []string
	for _, der := range roots {
		parts = append(parts, fmt.Sprintf("root %x", Fingerprint(der)))
	}
	for _, k := range keys {
		parts = append(parts, fmt.Sprintf("routing key %x", Fingerprint(k.Key)))
	}
	return strings.Join(parts, ", ")
}

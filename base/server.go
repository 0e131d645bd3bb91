package base

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/base/basepb"
	"ninja/ca"
)

// server is the node's gRPC face, for the administrator of its domain alone.
type server struct {
	basepb.UnimplementedBaseServer
	node *Node
}

// Register adds the node to a gRPC server made with ca.ServerCredentials.
func (n *Node) Register(s *grpc.Server) { basepb.RegisterBaseServer(s, &server{node: n}) }

// permit lets the administrator in: the user called admin of the node's own domain.
func (s *server) permit(ctx context.Context) error {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if admin, err := ca.MakeID(s.node.cfg.Owner.Domain(), ca.KindUser, "admin"); err != nil || peer.ID != admin {
		return status.Errorf(codes.PermissionDenied, "%s may not command this node: only %s may", peer.ID, admin)
	}
	return nil
}

func (s *server) Start(ctx context.Context, r *basepb.StartRequest) (*basepb.StartReply, error) {
	if err := s.permit(ctx); err != nil {
		return nil, err
	}
	if err := s.node.Start(ctx, r.GetComponent(), r.GetName(), r.GetArgs()); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return &basepb.StartReply{}, nil
}

func (s *server) Stop(ctx context.Context, r *basepb.StopRequest) (*basepb.StopReply, error) {
	if err := s.permit(ctx); err != nil {
		return nil, err
	}
	if err := s.node.Stop(r.GetName()); err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	return &basepb.StopReply{}, nil
}

func (s *server) List(ctx context.Context, _ *basepb.ListRequest) (*basepb.ListReply, error) {
	if err := s.permit(ctx); err != nil {
		return nil, err
	}
	reply := &basepb.ListReply{Components: slices.Sorted(maps.Keys(s.node.cfg.Components))}
	for _, x := range s.node.List() {
		reply.Services = append(reply.Services, &basepb.Service{
			Name: x.Name, Component: x.Component, State: x.State, StartedUnixMs: x.Started.UnixMilli(),
		})
	}
	return reply, nil
}

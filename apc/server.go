package apc

import (
	"bytes"
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/apc/apcpb"
	"ninja/ca"
)

// server is the creator's gRPC face. Who calls is read from the connection; a path is its owner's alone, and to anyone
// else it does not exist.
type server struct {
	apcpb.UnimplementedCreatorServer
	creator *Creator
}

// Register adds the creator to a gRPC server made with ca.ServerCredentials.
func (c *Creator) Register(s *grpc.Server) {
	apcpb.RegisterCreatorServer(s, &server{creator: c})
}

func (s *server) Plan(ctx context.Context, r *apcpb.PathRequest) (*apcpb.PathInfo, error) {
	return s.answer(ctx, func(p ca.Peer) (Info, error) { return s.creator.Plan(ctx, p, requestFromWire(r)) })
}

func (s *server) Create(ctx context.Context, r *apcpb.PathRequest) (*apcpb.PathInfo, error) {
	return s.answer(ctx, func(p ca.Peer) (Info, error) { return s.creator.Create(ctx, p, requestFromWire(r)) })
}

func (s *server) Show(ctx context.Context, r *apcpb.PathRef) (*apcpb.PathInfo, error) {
	return s.answer(ctx, func(p ca.Peer) (Info, error) { return s.creator.Show(p.ID, r.GetPath()) })
}

func (s *server) Delete(ctx context.Context, r *apcpb.PathRef) (*apcpb.PathInfo, error) {
	return s.answer(ctx, func(p ca.Peer) (Info, error) { return s.creator.Delete(ctx, p.ID, r.GetPath()) })
}

func (s *server) Renew(ctx context.Context, r *apcpb.RenewRequest) (*apcpb.PathInfo, error) {
	return s.answer(ctx, func(p ca.Peer) (Info, error) { return s.creator.Renew(ctx, p, r.GetPath(), r.GetCapability()) })
}

func (s *server) Explain(ctx context.Context, r *apcpb.PathRequest) (*apcpb.Explanation, error) {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	e, err := s.creator.Explain(ctx, peer, requestFromWire(r))
	if err != nil {
		return nil, status.Error(codeOf(err), err.Error())
	}
	return explanationToWire(e), nil
}

// piece is how many bytes of a catalogue travel in one message.
const piece = 256 << 10

func (s *server) Catalogue(r *apcpb.CatalogueRequest, stream apcpb.Creator_CatalogueServer) error {
	peer, err := ca.PeerFromContext(stream.Context())
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	catalogue, err := s.creator.Catalogue(stream.Context(), peer, r.GetCapability())
	if err != nil {
		return status.Error(codeOf(err), err.Error())
	}
	var b bytes.Buffer
	if err := catalogue.Write(&b); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	if b.Len() > MaxCatalogue {
		return status.Errorf(codes.ResourceExhausted, "a catalogue of %d bytes: at most %d are told", b.Len(), MaxCatalogue)
	}
	for b.Len() > 0 {
		if err := stream.Send(&apcpb.CataloguePiece{Json: b.Next(piece)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) answer(ctx context.Context, do func(ca.Peer) (Info, error)) (*apcpb.PathInfo, error) {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	info, err := do(peer)
	if err != nil {
		return nil, status.Error(codeOf(err), err.Error())
	}
	return toWire(info), nil
}

func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, ErrNoPath):
		return codes.NotFound
	case errors.Is(err, ErrRefused):
		return codes.FailedPrecondition
	case errors.Is(err, ErrBadRequest):
		return codes.InvalidArgument
	case errors.Is(err, ErrBusy):
		return codes.ResourceExhausted
	}
	return codes.Unavailable
}

func (s *server) List(ctx context.Context, _ *apcpb.ListRequest) (*apcpb.ListReply, error) {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	reply := &apcpb.ListReply{}
	for _, i := range s.creator.List(peer.ID) {
		reply.Paths = append(reply.Paths, toWire(i))
	}
	return reply, nil
}

func (s *server) Watch(r *apcpb.PathRef, stream apcpb.Creator_WatchServer) error {
	peer, err := ca.PeerFromContext(stream.Context())
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	err = s.creator.Watch(stream.Context(), peer.ID, r.GetPath(), func(e Event) error { return stream.Send(eventToWire(e)) })
	if errors.Is(err, ErrNoPath) || errors.Is(err, ErrBusy) {
		return status.Error(codeOf(err), err.Error())
	}
	return err
}

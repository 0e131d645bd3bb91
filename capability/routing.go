package capability

import (
	"context"
	"crypto/rand"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	pb "ninja/capability/capabilitypb"
	"ninja/internal/world"
)

// Routing gives the SDS servers of a domain the secret that tokens of grants are made with (package summary of room
// sds): servers find their way to services that not everyone may find, and nobody else learns that there are any.
type Routing struct {
	pb.UnimplementedRoutingServer
	domain string
	secret []byte
}

const (
	tableRouting  = "capability-routing"
	routingSecret = "secret"
	secretSize    = 32
)

// NewRouting reads the secret, or makes it when there is none.
func NewRouting(ctx context.Context, id *ca.Identity, store Store) (*Routing, error) {
	r := &Routing{domain: id.ID().Domain()}
	err := store.List(ctx, tableRouting, routingSecret, func(_ string, value []byte, _ uint64) error {
		r.secret = append([]byte(nil), value...)
		return nil
	})
	if err == nil && len(r.secret) != secretSize {
		r.secret = make([]byte, secretSize)
		_, _ = rand.Read(r.secret) // never fails
		_, err = store.Put(ctx, tableRouting, routingSecret, r.secret)
	}
	if err != nil {
		return nil, fmt.Errorf("capability manager: the secret of routing: %w", err)
	}
	return r, nil
}

// Register adds the service to a gRPC server, which must use ca.ServerCredentials.
func (r *Routing) Register(s *grpc.Server) { pb.RegisterRoutingServer(s, r) }

// Secret implements the RPC.
func (r *Routing) Secret(ctx context.Context, _ *pb.SecretRequest) (*pb.SecretResponse, error) {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	if peer.ID.Kind() != ca.KindSDS || peer.ID.Domain() != r.domain {
		return nil, status.Errorf(codes.PermissionDenied, "%s is no SDS server of %s", peer.ID, r.domain)
	}
	return &pb.SecretResponse{Version: 1, Secret: r.secret}, nil
}

// FetchRoutingSecret asks the manager at an address for the secret, as an SDS server.
func FetchRoutingSecret(ctx context.Context, w world.World, id *ca.Identity, address string) ([]byte, error) {
	conn, err := dial(w, id, address, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	m, err := pb.NewRoutingClient(conn).Secret(ctx, &pb.SecretRequest{Version: 1})
	if err != nil {
		return nil, fmt.Errorf("the secret of routing from the capability manager at %s: %w", address, err)
	}
	if len(m.GetSecret()) != secretSize {
		return nil, fmt.Errorf("the capability manager at %s gave a secret of %d bytes, want %d", address, len(m.GetSecret()), secretSize)
	}
	return m.GetSecret(), nil
}

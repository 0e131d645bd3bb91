package tree

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/sds/announce"
	"ninja/sds/sdspb"
	"ninja/sds/tree/treepb"
)

// handSize is how many bytes of services go in one message.
const handSize = 1 << 20

// handOver gives a child the services of its owners, as if they had been announced to it. They stay here too, as copies,
// so that at every moment both have them.
func (n *Node) handOver(ctx context.Context, s *sapling, its func(owner ca.ID) bool) error {
	bodies := n.cfg.Local.Bodies(its)
	conn, err := n.dialSpawned(s.id, s.spawned.Address())
	if err != nil {
		return err
	}
	defer conn.Close()
	client := treepb.NewTreeClient(conn)
	err = inParts(bodies, func(m *treepb.HandOverRequest) error {
		res, err := client.HandOver(ctx, m, grpc.WaitForReady(true))
		if err == nil && len(res.GetRefused()) > 0 {
			n.cfg.Log.Warn("some services were not taken over", "name", s.seed.Name, "services", len(res.GetRefused()), "first", res.GetRefused()[0])
		}
		return err
	})
	if err == nil {
		n.cfg.Local.Moved(s.id, its)
	}
	return err
}

// dialSpawned connects to a child, which must be the one that was started.
func (n *Node) dialSpawned(id ca.ID, address string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(ca.ClientCredentials(n.cfg.Identity, ca.Is(id))),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return n.cfg.World.Net.Dial(ctx, "tcp", address)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMost), grpc.MaxCallSendMsgSize(messageMost)))
}

// inParts calls f with the bodies in messages of a bounded size.
func inParts(bodies []announce.Body, f func(*treepb.HandOverRequest) error) error {
	m, size := &treepb.HandOverRequest{Version: 1}, 0
	for _, b := range bodies {
		if size += len(b.Description) + 2048; size > handSize && len(m.Services) > 0 {
			if err := f(m); err != nil {
				return err
			}
			m, size = &treepb.HandOverRequest{Version: 1}, len(b.Description)+2048
		}
		m.Services = append(m.Services, &treepb.Service{
			Owner: string(b.Owner), LifetimeMs: uint64(b.Lifetime.Milliseconds()),
			Body: &sdspb.Body{Name: b.Name, Version: b.Version, Description: b.Description, Signature: b.Signature, Chain: b.Chain, Numbers: b.Numbers},
		})
	}
	if len(m.Services) == 0 {
		return nil
	}
	return f(m)
}

// takeOver puts services in as if their owners had announced them: their signatures are checked like those.
func (n *Node) takeOver(m *treepb.HandOverRequest) (refused []string) {
	for _, s := range m.GetServices() {
		body, err := n.body(s)
		if err == nil {
			err = n.cfg.Local.Put(body)
		}
		if err != nil {
			refused = append(refused, fmt.Sprintf("%s#%s: %v", body.Owner, body.Name, err))
		}
	}
	return refused
}

// fromSpawner refuses all but the server that started this one.
func (n *Node) fromSpawner(ctx context.Context) error {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if n.cfg.Spawned == "" || peer.ID != n.cfg.Spawned {
		return status.Errorf(codes.PermissionDenied, "%s did not start this server", peer.ID)
	}
	return nil
}

// HandOver implements the RPC.
func (n *Node) HandOver(ctx context.Context, m *treepb.HandOverRequest) (*treepb.HandOverResponse, error) {
	if err := n.fromSpawner(ctx); err != nil {
		return nil, err
	}
	return &treepb.HandOverResponse{Refused: n.takeOver(m)}, nil
}

package capability

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	pb "ninja/capability/capabilitypb"
	"ninja/internal/world"
)

// RoutesFollower keeps an SDS server's Routes in step with its capability manager. While the manager is away the last
// ones hold: what they lead to is checked where it is.
type RoutesFollower struct {
	cfg FollowerConfig
	now atomic.Pointer[Routes]
}

// NewRoutesFollower makes a RoutesFollower; of the configuration Hold is not used.
func NewRoutesFollower(cfg FollowerConfig) (*RoutesFollower, error) {
	if cfg.Identity == nil || cfg.Address == "" {
		return nil, errors.New("following the routes: an identity and the manager's address are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &RoutesFollower{cfg: cfg}, nil
}

// Routes are the present ones; nil before the manager was first heard.
func (f *RoutesFollower) Routes() *Routes { return f.now.Load() }

// Run follows until ctx ends.
func (f *RoutesFollower) Run(ctx context.Context) error {
	wait := retryFirst
	for ctx.Err() == nil {
		conn, err := dial(f.cfg.World, f.cfg.Identity, f.cfg.Address, f.cfg.Manager)
		if err != nil {
			return err
		}
		heard, err := f.follow(ctx, pb.NewRoutingClient(conn))
		conn.Close()
		if heard {
			wait = retryFirst
		}
		f.cfg.Log.Debug("the capability manager does not tell how hidden services are routed to", "address", f.cfg.Address, "error", err)
		if world.Sleep(ctx, f.cfg.World.Jitter(wait)) != nil {
			break
		}
		wait = min(2*wait, retryMost)
	}
	return nil
}

// follow follows over one connection, which it gives up when it falls silent.
func (f *RoutesFollower) follow(ctx context.Context, rpc pb.RoutingClient) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(callTimeout, cancel) // until it has said something once
	defer watchdog.Stop()
	stream, err := rpc.Follow(ctx, &pb.FollowRoutesRequest{Version: 1}, grpc.MaxCallRecvMsgSize(maxRoutes))
	for err == nil {
		var r *pb.FollowRoutesResponse
		if r, err = stream.Recv(); err == nil {
			watchdog.Reset(silence)
			heard = true
			if r.Routes != nil {
				f.now.Store(routesFrom(r.Routes))
			}
		}
	}
	if status.Code(err) == codes.Unimplemented { // a manager of before there were pairs
		var s *pb.SecretResponse
		if s, err = rpc.Secret(ctx, &pb.SecretRequest{Version: 1}); err == nil {
			f.now.Store(NewRoutes(s.GetSecret(), nil, nil))
			watchdog.Stop()
			err = world.Sleep(ctx, oldManager)
		}
	}
	return heard, err
}

const (
	// maxRoutes bounds what a manager tells: some 10,000 guests of 300 bytes, and 256 pairs.
	maxRoutes = 8 << 20
	// oldManager is how often a manager that tells nothing but its secret is asked whether it has been renewed.
	oldManager = time.Minute
)

func routesFrom(p *pb.Routes) *Routes {
	pairs := make(map[string]Pair, len(p.Pairs))
	for _, x := range p.Pairs {
		pairs[x.GetDomain()] = Pair{Here: x.GetHere(), There: x.GetThere()}
	}
	guests := make(map[Who][]ca.ID, len(p.Guests))
	for _, g := range p.Guests {
		guests[Who(g.GetGroup())] = ids(g.GetMembers())
	}
	return NewRoutes(p.Secret, pairs, guests)
}

// RoutingKeys are the manager's routing keys (ca.RoutingKey, marshalled), the present one first, for the domain's trust
// file. With rotate another key is made first, which only user/admin may.
func (c *Client) RoutingKeys(ctx context.Context, rotate bool) ([][]byte, error) {
	ask := pb.NewRoutingClient(c.conn).Keys
	if rotate {
		ask = pb.NewRoutingClient(c.conn).RotateKey
	}
	r, err := ask(ctx, &pb.KeysRequest{Version: 1})
	if err != nil {
		return nil, fmt.Errorf("the routing keys of the capability manager: %w", err)
	}
	return r.GetKeys(), nil
}

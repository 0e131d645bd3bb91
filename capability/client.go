package capability

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"ninja/ca"
	pb "ninja/capability/capabilitypb"
	"ninja/internal/world"
)

// dial makes a connection to the manager, which is opened when it is first needed and again whenever it is lost.
func dial(w world.World, id *ca.Identity, address string, manager func(ca.Peer) error) (*grpc.ClientConn, error) {
	if manager == nil {
		manager = ca.KindIs(ca.KindCapability)
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(ca.ClientCredentials(id, manager)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return w.Net.Dial(ctx, "tcp", address)
		}),
		// A manager that comes back is found within seconds, however long it was away: the standard waits up to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.3, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithUnaryInterceptor(withDeadline))
	if err != nil {
		return nil, fmt.Errorf("capability manager at %s: %w", address, err)
	}
	return conn, nil
}

// callTimeout bounds a call whose caller sets no earlier deadline.
const callTimeout = 10 * time.Second

func withDeadline(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return invoke(ctx, method, request, reply, conn, options...)
}

// ClientConfig configures a Client.
type ClientConfig struct {
	// World and Identity are the caller's. Required.
	World    world.World
	Identity *ca.Identity
	// Address of the manager, host:port. Required.
	Address string
	// Manager accepts the manager's identity; nil is ca.KindIs(ca.KindCapability).
	Manager func(ca.Peer) error
}

// Client asks the manager, and keeps the identity's own capability. It is safe for use by many goroutines.
type Client struct {
	world world.World
	id    *ca.Identity
	conn  *grpc.ClientConn
	rpc   pb.ManagerClient

	issuing chan struct{} // holds one: only one asks at a time
	mu      sync.Mutex
	token   []byte
	renew   time.Time // when to get the next
	expires time.Time
}

// NewClient makes a Client; it connects when it is first asked for something.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Identity == nil || cfg.Address == "" {
		return nil, errors.New("capability client: an identity and the manager's address are required")
	}
	conn, err := dial(cfg.World, cfg.Identity, cfg.Address, cfg.Manager)
	if err != nil {
		return nil, err
	}
	return &Client{world: cfg.World, id: cfg.Identity, conn: conn, rpc: pb.NewManagerClient(conn), issuing: make(chan struct{}, 1)}, nil
}

// Close ends the connection to the manager.
func (c *Client) Close() error { return c.conn.Close() }

// Capability returns the identity's capability. It is fetched once and again after two thirds of its life; when that
// fails the old one is given for as long as it is good.
func (c *Client) Capability(ctx context.Context) ([]byte, error) {
	if token, ok := c.cached(); ok {
		return token, nil
	}
	select {
	case c.issuing <- struct{}{}:
		defer func() { <-c.issuing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if token, ok := c.cached(); ok { // someone else fetched it meanwhile
		return token, nil
	}
	r, err := c.rpc.Issue(ctx, &pb.IssueRequest{Version: 1})
	if err != nil {
		if token, ok := c.keep(); ok {
			return token, nil
		}
		return nil, fmt.Errorf("get a capability for %s: %w", c.id.ID(), err)
	}
	now, expires := c.id.Now(), time.Unix(r.Expires, 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token, c.expires, c.renew = r.Token, expires, now.Add(expires.Sub(now)*2/3)
	return c.token, nil
}

// cached returns the capability that is there, if it need not be renewed yet.
func (c *Client) cached() ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token, c.token != nil && c.id.Now().Before(c.renew)
}

// keep returns the capability that could not be renewed, if it still holds, and puts off the next attempt: those who
// need it do not wait for an absent manager each time.
func (c *Client) keep() ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.id.Now()
	c.renew = now.Add(c.world.Jitter(renewRetry))
	if c.renew.After(c.expires) {
		c.renew = c.expires
	}
	return c.token, c.token != nil && now.Before(c.expires)
}

// renewRetry is about how long after a failed renewal the next is tried.
const renewRetry = 10 * time.Second

// Forget makes the next Capability fetch a new one: after it was refused, or to make use of a new group at once.
func (c *Client) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = nil
}

// SetACL replaces the ACL of one of the identity's own services, which need not exist yet.
func (c *Client) SetACL(ctx context.Context, service string, entries []Entry) (*ACL, error) {
	p := aclTo(&ACL{Entries: entries})
	return aclResult(c.rpc.SetACL(ctx, &pb.SetACLRequest{Version: 1, Service: service, Entries: p.Entries}))
}

// GetACL reads the ACL of one of the identity's own services; version 0 means that it has none.
func (c *Client) GetACL(ctx context.Context, service string) (*ACL, error) {
	return aclResult(c.rpc.GetACL(ctx, &pb.GetACLRequest{Version: 1, Service: service}))
}

// DeleteACL removes the ACL of one of the identity's own services: only the identity may then do anything with it. It is
// no error if there was none.
func (c *Client) DeleteACL(ctx context.Context, service string) error {
	_, err := c.rpc.DeleteACL(ctx, &pb.DeleteACLRequest{Version: 1, Service: service})
	return err
}

// WhoSees says whom the ACL of one of the identity's own services reaches. The owner, who may do everything always, is not
// among them.
func (c *Client) WhoSees(ctx context.Context, service string) ([]Reach, error) {
	r, err := c.rpc.WhoSees(ctx, &pb.WhoSeesRequest{Version: 1, Service: service})
	if err != nil {
		return nil, err
	}
	var out []Reach
	for _, p := range r.Reaches {
		out = append(out, Reach{
			Entry: Entry{Who(p.Entry.GetWho()), operationsFrom(p.Entry)}, Told: p.Told, Members: ids(p.Members), Size: int(p.Size),
		})
	}
	return out, nil
}

// Grant adds operations for someone to the ACL of one of the identity's own services.
func (c *Client) Grant(ctx context.Context, service string, who Who, ops Operations) (*ACL, error) {
	return aclResult(c.rpc.Grant(ctx, entryRequest(service, who, ops)))
}

// Revoke takes operations of someone from the ACL of one of the identity's own services.
func (c *Client) Revoke(ctx context.Context, service string, who Who, ops Operations) (*ACL, error) {
	return aclResult(c.rpc.Revoke(ctx, entryRequest(service, who, ops)))
}

func entryRequest(service string, who Who, ops Operations) *pb.EntryRequest {
	return &pb.EntryRequest{Version: 1, Service: service, Entry: &pb.Entry{Who: string(who), Operations: uint32(ops)}}
}

func aclResult(p *pb.ACL, err error) (*ACL, error) {
	if err != nil {
		return nil, err
	}
	return aclFrom(p), nil
}

// SetGroup replaces the members of a group; only user/admin may.
func (c *Client) SetGroup(ctx context.Context, name string, members []ca.ID) error {
	r := &pb.SetGroupRequest{Version: 1, Name: name}
	for _, m := range members {
		r.Members = append(r.Members, string(m))
	}
	_, err := c.rpc.SetGroup(ctx, r)
	return err
}

// GetGroup reads the members of a group; only user/admin may. A group that does not exist has none.
func (c *Client) GetGroup(ctx context.Context, name string) ([]ca.ID, error) {
	g, err := c.rpc.GetGroup(ctx, &pb.GetGroupRequest{Version: 1, Name: name})
	if err != nil {
		return nil, err
	}
	return ids(g.Members), nil
}

// RevokePrincipal ends every capability that the principal holds; only user/admin may. The principal can get a new one:
// to shut it out, ban it (ca.Client.Ban).
func (c *Client) RevokePrincipal(ctx context.Context, principal ca.ID) error {
	_, err := c.rpc.RevokePrincipal(ctx, &pb.RevokePrincipalRequest{Version: 1, Principal: string(principal)})
	return err
}

// FollowerConfig configures a Follower.
type FollowerConfig struct {
	// World and Identity are the follower's own. Required.
	World    world.World
	Identity *ca.Identity
	// Address of the manager, host:port. Required.
	Address string
	// Manager accepts the manager's identity; nil is ca.KindIs(ca.KindCapability).
	Manager func(ca.Peer) error
	// Hold is how long the last ACLs rule when the manager cannot be reached; 0 is DefaultHold.
	Hold time.Duration
	// Log is told when the manager is lost and found; nil is slog.Default().
	Log *slog.Logger
}

// NewFollower makes a Follower that knows nothing, and so lets only owners pass, until Run has heard the manager.
func NewFollower(cfg FollowerConfig) (*Follower, error) {
	if cfg.Identity == nil || cfg.Address == "" {
		return nil, errors.New("capability follower: an identity and the manager's address are required")
	}
	if cfg.Hold == 0 {
		cfg.Hold = DefaultHold
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Follower{cfg: cfg, acls: map[string]*ACL{}, revoked: map[ca.ID]uint64{}, changed: make(chan struct{})}, nil
}

// Retries of a lost watch, and how long one may be silent before it counts as lost.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 2 * time.Second
	silence    = 3 * Heartbeat
)

// Run follows the manager until ctx ends. A watch that is lost or silent is begun again on a new connection: the old one
// may be dead without anybody having noticed, and revocations do not wait for TCP to give up.
func (f *Follower) Run(ctx context.Context) error {
	wait, told := retryFirst, false
	for ctx.Err() == nil {
		conn, err := dial(f.cfg.World, f.cfg.Identity, f.cfg.Address, f.cfg.Manager)
		if err != nil {
			return err
		}
		heard, err := f.follow(ctx, pb.NewManagerClient(conn))
		conn.Close()
		if heard {
			wait, told = retryFirst, false
		}
		if ctx.Err() == nil && !told {
			told = true
			f.cfg.Log.Warn("capability manager lost; the last ACLs hold", "address", f.cfg.Address, "for", f.cfg.Hold, "error", err)
		}
		if world.Sleep(ctx, f.cfg.World.Jitter(wait)) != nil {
			break
		}
		wait = min(2*wait, retryMost)
	}
	return nil
}

// follow runs one watch to its end and says whether it brought anything.
func (f *Follower) follow(ctx context.Context, rpc pb.ManagerClient) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	stream, err := rpc.Watch(ctx, &pb.WatchRequest{Version: 1})
	if err != nil {
		return false, err
	}
	var begun *snapshot
	for {
		r, err := stream.Recv()
		if err != nil {
			return heard, err
		}
		watchdog.Reset(silence)
		heard = true
		begun = f.apply(begun, r)
	}
}

package sds

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/sds/announce"
	"ninja/sds/index"
	"ninja/sds/schema"
	"ninja/sds/sdspb"
)

// ClientConfig is what a Client needs.
type ClientConfig struct {
	// Identity proves who asks, and its roots are what servers and publishers are checked against. Required.
	Identity *ca.Identity
	// World is the client's surroundings. Required.
	World world.World
	// Address is the server's gRPC address, HOST:PORT. Required; announce.Listen finds it.
	Address string
	// Capability returns the capability to ask with, and is called before every query: let it keep what is still good.
	// nil asks for what everyone may find.
	Capability func(context.Context) ([]byte, error)
	// Vouch has the capability manager say that a capability still holds, for servers of other domains
	// (capability.Client.Vouch); nil: nothing is presented to them.
	Vouch func(ctx context.Context, capability []byte) ([]byte, error)
	// Log may be nil.
	Log *slog.Logger
}

// Client asks one SDS server. It is safe for use by many goroutines, which share one session.
type Client struct {
	cfg  ClientConfig
	conn *grpc.ClientConn
	rpc  sdspb.DiscoveryClient
	keep uint32 // services that a session's server may mention again by handle
	// life ends with Close, and all sessions with it.
	life context.Context
	end  context.CancelFunc
	all  sync.WaitGroup

	mu       sync.Mutex
	session  *clientSession
	verified map[[32]byte]time.Time // bodies whose signature held, until when their chain does
	owners   map[[32]byte]ca.Peer   // by chain, those that held
}

var _ announce.Stream = (*Client)(nil)

// Bounds of the client.
const (
	verifiedMost   = 4096
	defaultTimeout = 15 * time.Second // of a call whose context has no deadline
	backoffLeast   = 50 * time.Millisecond
	backoffMost    = 5 * time.Second
	announceMost   = 1 << 20 // bytes of one Announce
)

// Dial makes a client. It connects when it is first asked, and again whenever it has to; it does not fail because the
// server is away.
func Dial(cfg ClientConfig) (*Client, error) {
	if cfg.Identity == nil || cfg.World.Net == nil || cfg.Address == "" {
		return nil, errors.New("sds: the client wants an identity, a world and the server's address")
	}
	return dial(cfg, ca.ClientCredentials(cfg.Identity, ca.KindIs(ca.KindSDS)), func(ctx context.Context, address string) (net.Conn, error) {
		return cfg.World.Net.Dial(ctx, "tcp", address)
	})
}

func dial(cfg ClientConfig, creds credentials.TransportCredentials, connect func(context.Context, string) (net.Conn, error)) (*Client, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	conn, err := grpc.NewClient("passthrough:///"+cfg.Address, append(DialOptions(),
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(connect),
		// A server that comes back is found within seconds, however long it was away: the standard waits up to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: backoffLeast, Multiplier: 1.6, Jitter: 0.3, MaxDelay: backoffMost},
			MinConnectTimeout: 5 * time.Second,
		}),
	)...)
	if err != nil {
		return nil, fmt.Errorf("sds: server address %q: %w", cfg.Address, err)
	}
	c := &Client{cfg: cfg, conn: conn, rpc: sdspb.NewDiscoveryClient(conn), keep: keepMost, verified: make(map[[32]byte]time.Time), owners: make(map[[32]byte]ca.Peer)}
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Close ends the session and waits for its goroutines. Calls under way fail.
func (c *Client) Close() error {
	c.end()
	err := c.conn.Close()
	c.all.Wait()
	if status.Code(err) == codes.Canceled { // it was closed before
		return nil
	}
	return err
}

// Query returns what matches, with publishers' signatures checked. Nothing found is no error. What is not signed by
// its owner is left out and logged.
func (c *Client) Query(ctx context.Context, q Query) ([]Found, error) {
	return c.QueryAs(ctx, nil, q)
}

// QueryAs is Query with another capability, which must be held by the client's key; nil is the client's own.
func (c *Client) QueryAs(ctx context.Context, capability []byte, q Query) ([]Found, error) {
	p, err := c.page(ctx, capability, q)
	return p.Found, err
}

// Page is Query that also says whether there is more than the limit, and how to ask for it.
func (c *Client) Page(ctx context.Context, q Query) (Page, error) { return c.page(ctx, nil, q) }

func (c *Client) page(ctx context.Context, capability []byte, q Query) (Page, error) {
	a, err := c.ask(ctx, capability, q.message(false))
	if err != nil {
		return Page{}, c.failed("query", err)
	}
	return Page{Found: c.open(a.found, len(q.Select)), More: a.more, Cursor: a.cursor}, nil
}

// All is every match, page by page, of which Limit is the size; an error ends it.
func (c *Client) All(ctx context.Context, q Query) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		for {
			p, err := c.Page(ctx, q)
			if err != nil {
				yield(Found{}, err)
				return
			}
			for _, f := range p.Found {
				if !yield(f, nil) {
					return
				}
			}
			if q.After = p.Cursor; !p.More {
				return
			}
			if len(q.After) == 0 {
				yield(Found{}, c.failed("query", errors.New("there is more, and the server gave no cursor: ask for less")))
				return
			}
		}
	}
}

// Ping goes to the server and back on the session, and asks for nothing.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	s, err := c.present()
	if err != nil {
		return err
	}
	if err := s.ping(ctx); err != nil {
		return c.failed("ping", err)
	}
	return nil
}

// Count is how many services match, of those that the client may find.
func (c *Client) Count(ctx context.Context, q Query) (int, error) {
	a, err := c.ask(ctx, nil, q.message(true))
	if err != nil {
		return 0, c.failed("count", err)
	}
	return int(a.count), nil
}

// Explanation is how a server answered a query, of what the asker may find.
type Explanation struct {
	Classes  int // visibility classes that were opened
	Services int // in them
	Verified int // that were looked at, because the index could not rule them out
	Found    int
	Parts    []index.Part // conditions that the index decides
}

// Explain asks how a query is answered.
func (c *Client) Explain(ctx context.Context, q Query) (Explanation, error) {
	m := q.message(true)
	m.Explain = true
	a, err := c.ask(ctx, nil, m)
	if err != nil {
		return Explanation{}, c.failed("explain", err)
	}
	x := a.explain
	out := Explanation{Classes: int(x.GetClasses()), Services: int(x.GetServices()), Verified: int(x.GetVerified()), Found: int(x.GetFound())}
	for _, p := range x.GetParts() {
		out.Parts = append(out.Parts, index.Part{What: p.GetWhat(), Size: int(p.GetSize()), Opened: int(p.GetOpened())})
	}
	return out, nil
}

func (c *Client) failed(what string, err error) error {
	return fmt.Errorf("%s at the SDS server %s: %w", what, c.cfg.Address, err)
}

func (q Query) message(count bool) *sdspb.Question {
	return &sdspb.Question{
		Version: 1, Template: q.Template, Xpath: q.XPath, Namespaces: q.Namespaces, By: string(q.By), Limit: uint32(max(0, q.Limit)),
		OrderBy: q.OrderBy, Descending: q.Descending, CountOnly: count, Steps: q.Steps,
		Select: q.Select, Cursor: q.After,
	}
}

// ask asks on the present session, and again on a new one when that breaks.
func (c *Client) ask(ctx context.Context, capability []byte, q *sdspb.Question) (*answer, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	// The same question is the same bytes, by which the server's session knows it again.
	question, err := proto.MarshalOptions{Deterministic: true}.Marshal(q)
	if err != nil {
		return nil, err
	}
	wait := backoffLeast
	var last error
	for {
		a, err := c.askOnce(ctx, capability, question)
		if err != nil && ctx.Err() != nil && last != nil {
			err = fmt.Errorf("%w; before that: %w", err, last) // why there was no answer in time
		}
		if err == nil || !errors.Is(err, errBroken) || ctx.Err() != nil {
			return a, err
		}
		last = err
		c.cfg.Log.Debug("sds session broke", "server", c.cfg.Address, "error", err)
		if world.Sleep(ctx, c.cfg.World.Jitter(wait)) != nil || c.life.Err() != nil {
			return nil, err
		}
		wait = min(2*wait, backoffMost)
	}
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, defaultTimeout)
}

func (c *Client) askOnce(ctx context.Context, capability, question []byte) (*answer, error) {
	own, err := c.capability(ctx)
	if err != nil {
		return nil, err
	}
	s, err := c.present()
	if err != nil {
		return nil, err
	}
	return s.ask(ctx, own, capability, question)
}

// capability is the client's own, or nothing.
func (c *Client) capability(ctx context.Context) ([]byte, error) {
	if c.cfg.Capability == nil {
		return nil, nil
	}
	token, err := c.cfg.Capability(ctx)
	if err != nil {
		return nil, fmt.Errorf("get a capability: %w", err)
	}
	return token, nil
}

// Send publishes over TLS in the name of the client's identity. It returns the names of pairs that the server lacks the
// body of. The error joins a *announce.Refused for everything that was refused; what was not is published.
func (c *Client) Send(ctx context.Context, bodies []announce.Body, pairs, withdrawn []announce.Pair) (unknown []string, err error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	req, size := &sdspb.AnnounceRequest{Version: 1}, 0
	flush := func() error {
		if size == 0 {
			return nil
		}
		res, err := c.rpc.Announce(ctx, req, grpc.WaitForReady(true))
		if err != nil {
			return c.failed("announce", err)
		}
		unknown = append(unknown, res.GetUnknown()...)
		var refused []error
		for _, r := range res.GetRefused() {
			refused = append(refused, &announce.Refused{Reason: announce.Reason(r.GetReason()), Detail: r.GetName() + ": " + r.GetDetail()})
		}
		req, size = &sdspb.AnnounceRequest{Version: 1}, 0
		return errors.Join(refused...)
	}
	var failures []error
	add := func(n int) {
		if size += n; size > announceMost {
			failures = append(failures, flush())
		}
	}
	for _, b := range bodies {
		req.Bodies = append(req.Bodies, &sdspb.Body{Name: b.Name, Version: b.Version, Description: b.Description, Signature: b.Signature, Chain: b.Chain, Numbers: b.Numbers})
		add(len(b.Description) + 2048)
	}
	for _, p := range pairs {
		req.Pairs = append(req.Pairs, pairMessage(p))
		add(len(p.Name) + 32 + 48*len(p.Numbers))
	}
	for _, p := range withdrawn {
		req.Withdrawn = append(req.Withdrawn, pairMessage(p))
		add(len(p.Name) + 32)
	}
	failures = append(failures, flush())
	return unknown, errors.Join(failures...)
}

func pairMessage(p announce.Pair) *sdspb.Pair {
	return &sdspb.Pair{Name: p.Name, Version: p.Version, Numbers: p.Numbers}
}

// RegisterSchema adds a version of a schema at the server (see package schema), which says who may.
func (c *Client) RegisterSchema(ctx context.Context, name string, version uint32, dtd []byte) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	_, err := c.rpc.RegisterSchema(ctx, &sdspb.RegisterSchemaRequest{Version: 1, Name: name, SchemaVersion: version, Dtd: dtd}, grpc.WaitForReady(true))
	if err != nil {
		return c.failed("register a schema", err)
	}
	return nil
}

// Schemas lists the schemas that descriptions may claim at the server, by name and version; name "" is all.
func (c *Client) Schemas(ctx context.Context, name string) ([]schema.Info, error) {
	m, err := c.schemas(ctx, &sdspb.SchemasRequest{Version: 1, Name: name})
	if err != nil {
		return nil, err
	}
	var out []schema.Info
	for _, s := range m.GetSchemas() {
		out = append(out, schema.Info{Name: s.GetName(), Version: s.GetSchemaVersion(), Size: int(s.GetSize())})
	}
	return out, nil
}

// Schema is the text of one.
func (c *Client) Schema(ctx context.Context, name string, version uint32) ([]byte, error) {
	m, err := c.schemas(ctx, &sdspb.SchemasRequest{Version: 1, Name: name, SchemaVersion: version})
	if err != nil {
		return nil, err
	}
	if len(m.GetSchemas()) != 1 {
		return nil, c.failed("get a schema", fmt.Errorf("%d answers for %s/%d", len(m.GetSchemas()), name, version))
	}
	return m.GetSchemas()[0].GetDtd(), nil
}

func (c *Client) schemas(ctx context.Context, req *sdspb.SchemasRequest) (*sdspb.SchemasResponse, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	m, err := c.rpc.Schemas(ctx, req, grpc.WaitForReady(true))
	if err != nil {
		return nil, c.failed("ask for schemas", err)
	}
	return m, nil
}

// ServerStatus is what a server says of itself.
type ServerStatus struct {
	Server       ca.ID
	Started, Now time.Time
	// Refused are the latest refusals of the client's own announcements.
	Refused []Refusal
}

// Refusal is one of a client's own announcements that the server did not take.
type Refusal struct {
	Name string    // of the service
	At   time.Time // by the server's clock
	announce.Refused
}

// Status asks who answers.
func (c *Client) Status(ctx context.Context) (ServerStatus, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	m, err := c.rpc.Status(ctx, &sdspb.StatusRequest{Version: 1}, grpc.WaitForReady(true))
	if err != nil {
		return ServerStatus{}, c.failed("status", err)
	}
	out := ServerStatus{Server: ca.ID(m.GetServer()), Started: time.UnixMilli(m.GetStartedUnixMs()), Now: time.UnixMilli(m.GetNowUnixMs())}
	for _, r := range m.GetRefused() {
		out.Refused = append(out.Refused, Refusal{
			Name: r.GetName(), At: time.UnixMilli(r.GetAtUnixMs()), Refused: announce.Refused{Reason: announce.Reason(r.GetReason()), Detail: r.GetDetail()},
		})
	}
	return out, nil
}

// permanent reports whether asking again cannot help.
func permanent(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.ResourceExhausted, codes.PermissionDenied, codes.Unimplemented:
		return true
	}
	return false
}

package sds

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds/announce"
	"ninja/sds/check"
	"ninja/sds/index"
	"ninja/sds/schema"
	"ninja/sds/sdspb"
)

// Config is what a Server needs.
type Config struct {
	// Identity is the server's; its roots are what publishers are checked against. Required.
	Identity *ca.Identity
	// World is the server's surroundings. Required.
	World world.World
	// Verifier checks capabilities; nil means that no capability holds, so that only what everyone may find is found.
	Verifier Verifier
	// Foreign checks capabilities of every trusted domain, with the voucher of the manager that issued it
	// (capability.Verifier.VerifyAny); nil means that of other domains none holds. They count only for what comes by way of
	// hierarchies (AsksFrom).
	Foreign func(token, voucher []byte, holder ed25519.PublicKey) (capability.Claims, error)
	// ACLs say who may find what; nil means that there are none: only owners find anything. Changes hide and show
	// services at once.
	ACLs ACLs
	// Lifetime is how long a service lives without a refresh, where the announcement does not say; 0 is 30 s.
	Lifetime time.Duration
	// MaxServices and MaxPerOwner bound the store; 0 are 1,000,000 and 100,000.
	MaxServices, MaxPerOwner int
	// Allowance is how much the questions and watches of one principal may look at in a second, in units of index.Fuel,
	// before they have to wait, so that nobody slows the others; 0 is 20,000,000, about a third of a core.
	Allowance int
	// Schemas are those that descriptions may claim; who claims another is refused. nil is none to begin with. What is
	// registered over the network is added to them, and gone with the process unless the set keeps it (schema.Set.Keep).
	Schemas *schema.Set
	// Registrar decides who may register schemas over the network; nil is nobody.
	Registrar func(ca.Peer) error
	// Log may be nil.
	Log *slog.Logger
}

// Verifier checks a capability for the holder of a key. capability.Verifier is one.
type Verifier interface {
	Verify(token []byte, holder ed25519.PublicKey) (capability.Claims, error)
}

// ACLs are the access lists as they are known now. capability.Follower is one. Calls must not block.
type ACLs interface {
	// ACL is the list of a service (OWNER-ID#name); nil when it has none.
	ACL(service string) *capability.ACL
	// Fresh reports whether the lists are still to be trusted. While they are not, services are hidden from all but
	// their owners.
	Fresh() bool
	// All returns every list, and a channel that is closed at the next change.
	All() (acls map[string]*capability.ACL, version uint64, changed <-chan struct{})
}

// freshPeriod is how often the freshness of the ACLs is looked at.
const freshPeriod = time.Second

// Server is an SDS server: an announce.Sink that answers queries over gRPC. Run owns its store.
type Server struct {
	sdspb.UnimplementedDiscoveryServer
	cfg     Config
	store   *store
	started time.Time
	refused refusals
	meter   *meter
	cursors *cursors
}

var _ announce.Sink = (*Server)(nil)

// NewServer makes a server. It answers nothing before Run.
func NewServer(cfg Config) (*Server, error) {
	if cfg.Identity == nil || cfg.World.Now == nil || cfg.World.Rand == nil {
		return nil, errors.New("sds: the server wants an identity and a world")
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = 30 * time.Second
	}
	if cfg.MaxServices == 0 {
		cfg.MaxServices = 1_000_000
	}
	if cfg.MaxPerOwner == 0 {
		cfg.MaxPerOwner = 100_000
	}
	if cfg.Allowance == 0 {
		cfg.Allowance = 20_000_000
	}
	if cfg.Schemas == nil {
		cfg.Schemas = new(schema.Set)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Verifier == nil {
		cfg.Verifier = noVerifier{}
	}
	cursors, err := newCursors(cfg.World)
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, cursors: cursors, store: newStore(cfg), started: cfg.World.Now(), meter: newMeter(cfg.Allowance)}, nil
}

type noVerifier struct{}

func (noVerifier) Verify([]byte, ed25519.PublicKey) (capability.Claims, error) {
	return capability.Claims{}, errors.New("this server checks no capabilities: it was started without a capability manager")
}

// Register adds the service to a gRPC server, which must use ca.ServerCredentials and ServerOptions.
func (s *Server) Register(r grpc.ServiceRegistrar) { sdspb.RegisterDiscoveryServer(r, s) }

// ServerOptions are what the gRPC server must be made with, beside credentials.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.MaxConcurrentStreams(256),
		grpc.StaticStreamWindowSize(windowStream), grpc.StaticConnWindowSize(windowConn),
	}
}

// DialOptions are what connections to an SDS server are made with, beside credentials.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithStaticStreamWindowSize(windowStream), grpc.WithStaticConnWindowSize(windowConn),
	}
}

// How many bytes may be under way to who does not read them, of one stream and of a connection. They are fixed: to find a
// better size gRPC sends pings of its own with the messages, which are as many writes again as the messages of a session.
const (
	windowStream = 1 << 20
	windowConn   = 2 << 20
)

// Run keeps the store and follows the ACLs until ctx ends, whose error it returns.
func (s *Server) Run(ctx context.Context) error {
	var followers sync.WaitGroup
	if s.cfg.ACLs != nil {
		// Taken before the first service is classed by them, so that no change falls in between.
		known, _, changed := s.cfg.ACLs.All()
		followers.Go(func() { s.follow(ctx, known, changed) })
	}
	s.store.run(ctx)
	followers.Wait()
	return ctx.Err()
}

// follow moves services to other classes as their ACLs change.
func (s *Server) follow(ctx context.Context, known map[string]*capability.ACL, changed <-chan struct{}) {
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		var next map[string]*capability.ACL
		next, _, changed = s.cfg.ACLs.All()
		var moved []string
		for id, acl := range next {
			if known[id] != acl { // lists are never changed, only replaced
				moved = append(moved, id)
			}
		}
		for id := range known {
			if next[id] == nil {
				moved = append(moved, id)
			}
		}
		slices.Sort(moved)
		if known = next; len(moved) > 0 && s.store.do(func() { s.store.reclass(moved) }) != nil {
			known = nil // the store was too busy: at the next change everything is looked at
		}
	}
}

// Put takes a verified body from an announcement. Its error is a *announce.Refused.
func (s *Server) Put(b announce.Body) error {
	tree, err := s.parse(b.Description)
	if err == nil {
		err = s.store.put(b, tree)
	}
	if err != nil {
		s.refuse(b.Owner, b.Name, err)
	}
	return err
}

// Refresh tells that the owner's services still live, and returns the names whose body is not known at the version.
func (s *Server) Refresh(owner ca.ID, lifetime time.Duration, pairs []announce.Pair) (unknown []string) {
	return s.store.refresh(owner, lifetime, pairs)
}

// Withdraw removes a service at once.
func (s *Server) Withdraw(owner ca.ID, name string, version uint64) {
	s.store.withdraw(owner, name, version)
}

// Stats are counts of the server for its operator. They speak of hidden services too: keep them from others.
type Stats struct{ Services, Expired, Refused, Queries, Watches int64 }

// Stats reads the counts.
func (s *Server) Stats() Stats {
	c := &s.store.stats
	return Stats{c.services.Load(), c.expired.Load(), c.refused.Load(), c.queries.Load(), c.watches.Load()}
}

type counters struct{ services, expired, refused, queries, watches atomic.Int64 }

// refuse counts and remembers a refusal.
func (s *Server) refuse(owner ca.ID, name string, err error) *sdspb.Refusal {
	r := &sdspb.Refusal{Name: name, Reason: string(announce.ReasonMalformed), Detail: err.Error(), AtUnixMs: s.cfg.World.Now().UnixMilli()}
	var refused *announce.Refused
	if errors.As(err, &refused) {
		r.Reason, r.Detail = string(refused.Reason), refused.Detail
	}
	s.store.stats.refused.Add(1)
	s.refused.add(owner, r)
	s.cfg.Log.Info("announcement refused", "owner", owner, "name", name, "reason", r.Reason, "detail", r.Detail)
	return r
}

// Announce takes what a publisher sends over TLS.
func (s *Server) Announce(ctx context.Context, req *sdspb.AnnounceRequest) (*sdspb.AnnounceResponse, error) {
	peer, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	out := &sdspb.AnnounceResponse{LifetimeMs: uint64(s.cfg.Lifetime.Milliseconds())}
	for _, b := range req.GetBodies() {
		if err := s.announce(peer, b); err != nil {
			out.Refused = append(out.Refused, s.refuse(peer.ID, b.GetName(), err))
		}
	}
	var pairs []announce.Pair
	for _, p := range req.GetPairs() {
		if err := announce.CheckNumbers(p.GetNumbers()); err != nil {
			out.Refused = append(out.Refused, s.refuse(peer.ID, p.GetName(), err))
			continue
		}
		pairs = append(pairs, announce.Pair{Name: p.GetName(), Version: p.GetVersion(), Numbers: p.GetNumbers()})
	}
	if len(pairs) > 0 {
		out.Unknown = s.Refresh(peer.ID, s.cfg.Lifetime, pairs)
	}
	for _, p := range req.GetWithdrawn() {
		s.Withdraw(peer.ID, p.GetName(), p.GetVersion())
	}
	return out, nil
}

// announce takes one body of peer's.
func (s *Server) announce(peer ca.Peer, m *sdspb.Body) error {
	b := announce.Body{
		Owner: peer.ID, Name: m.GetName(), Version: m.GetVersion(), Description: m.GetDescription(), Signature: m.GetSignature(),
		Chain: m.GetChain(), Numbers: m.GetNumbers(), Lifetime: s.cfg.Lifetime,
	}
	if _, err := b.Verify(s.cfg.Identity); err != nil {
		return err
	}
	tree, err := s.parse(b.Description)
	if err != nil {
		return err
	}
	return s.store.put(b, tree)
}

// parse checks a description, also against the schema that it claims.
func (s *Server) parse(description []byte) (*index.Tree, error) {
	tree, err := check.Parse(description)
	if err == nil {
		err = s.cfg.Schemas.Check(tree)
	}
	if err != nil {
		return nil, &announce.Refused{Reason: announce.ReasonMalformed, Detail: "description: " + err.Error()}
	}
	return index.Pack(tree), nil
}

// RegisterSchema adds a version of a schema.
func (s *Server) RegisterSchema(ctx context.Context, req *sdspb.RegisterSchemaRequest) (*sdspb.RegisterSchemaResponse, error) {
	peer, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	if s.cfg.Registrar == nil {
		return nil, status.Error(codes.PermissionDenied, "this server takes no schemas over the network: give it the file")
	}
	if err := s.cfg.Registrar(peer); err != nil {
		return nil, status.Errorf(codes.PermissionDenied, "%s may not register schemas: %v", peer.ID, err)
	}
	if err := s.cfg.Schemas.Add(req.GetName(), req.GetSchemaVersion(), req.GetDtd()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	s.cfg.Log.Info("schema registered", "by", peer.ID, "name", req.GetName(), "version", req.GetSchemaVersion())
	return &sdspb.RegisterSchemaResponse{}, nil
}

// Schemas tells what descriptions may claim.
func (s *Server) Schemas(ctx context.Context, req *sdspb.SchemasRequest) (*sdspb.SchemasResponse, error) {
	if _, err := caller(ctx); err != nil {
		return nil, err
	}
	name, version := req.GetName(), req.GetSchemaVersion()
	if name != "" && version != 0 {
		text, ok := s.cfg.Schemas.Text(name, version)
		if !ok {
			return nil, status.Errorf(codes.NotFound, "there is no schema %.80q version %d", name, version)
		}
		return &sdspb.SchemasResponse{Schemas: []*sdspb.SchemasResponse_Schema{{Name: name, SchemaVersion: version, Size: uint32(len(text)), Dtd: text}}}, nil
	}
	out := new(sdspb.SchemasResponse)
	for _, i := range s.cfg.Schemas.List(name) {
		out.Schemas = append(out.Schemas, &sdspb.SchemasResponse_Schema{Name: i.Name, SchemaVersion: i.Version, Size: uint32(i.Size)})
	}
	return out, nil
}

// Status says who answers.
func (s *Server) Status(ctx context.Context, _ *sdspb.StatusRequest) (*sdspb.StatusResponse, error) {
	peer, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	return &sdspb.StatusResponse{
		Version: 1, Server: string(s.cfg.Identity.ID()), StartedUnixMs: s.started.UnixMilli(), NowUnixMs: s.cfg.World.Now().UnixMilli(),
		Refused: s.refused.of(peer.ID),
	}, nil
}

// Query answers one question.
func (s *Server) Query(ctx context.Context, req *sdspb.QueryRequest) (*sdspb.QueryResponse, error) {
	peer, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	q, err := s.compile(peer.ID, req.GetQuestion())
	if err != nil {
		return nil, err
	}
	r, _, _ := s.rights(&holder{peer: peer, token: req.GetCapability()})
	s.store.stats.queries.Add(1)
	res, err := s.search(ctx, peer.ID, r, q)
	if err != nil {
		return nil, err
	}
	out := &sdspb.QueryResponse{Count: uint64(res.count), More: res.more(q), Explain: res.explain}
	size, now := 0, time.Now()
	for _, h := range res.hits {
		m := q.message(h.record, now)
		if size += messageSize(m); size > maxMessage/2 {
			out.More = true
			break
		}
		out.Found = append(out.Found, m)
	}
	if n := len(out.Found); out.More && n > 0 {
		out.Cursor = s.cursors.seal(q.subject(), &res.hits[n-1])
	}
	return out, nil
}

// caller is who made the call.
func caller(ctx context.Context) (ca.Peer, error) {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return ca.Peer{}, status.Error(codes.Unauthenticated, fmt.Sprintf("who calls is not known: %v", err))
	}
	return peer, nil
}

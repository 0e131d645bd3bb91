package apc

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"ninja/ca"
	"ninja/capability"
	"ninja/capability/capabilitypb"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/sds"
	"ninja/sds/announce"
	"ninja/sds/sdspb"
)

// domain is a real SDS server, capability manager and creator in one process, without sockets. It must be made within a
// synctest bubble.
type domain struct {
	t       testing.TB
	ca      *ca.Authority
	ids     map[string]*ca.Identity // kept over domains that are compared
	manager *capability.Manager
	acls    *lists
	server  *sds.Server
	creator *Creator
	self    *ca.Identity
	version uint64
	town    *town // the nodes, for scripts
	walker  ca.ID // whose path the script makes

	mu      sync.Mutex
	queries int
	streams int
	cut     context.CancelFunc // ends the watch that began last
}

func newDomain(ctx context.Context, t testing.TB, change func(*Config)) *domain {
	t.Helper()
	d := &domain{t: t, ids: make(map[string]*ca.Identity), acls: &lists{all: map[string]*capability.ACL{}, changed: make(chan struct{})}}
	var err error
	if d.ca, err = ca.NewAuthority(world.Real(), "test"); err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	d.manager, err = capability.NewManager(ctx, capability.ManagerConfig{Identity: d.id(ca.KindCapability, "manager"), Store: nowhere{}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	d.server, err = sds.NewServer(sds.Config{
		Identity: d.id(ca.KindSDS, "sds"), World: world.Real(), Verifier: capability.NewVerifier(d.id(ca.KindSDS, "sds"), nil), ACLs: d.acls, Log: quiet,
		Lifetime: 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	go d.server.Run(ctx)
	d.self = d.id(ca.KindAPC, "apc")
	verifier := capability.NewVerifier(d.self, nil)
	cfg := Config{
		World: world.Real(), Log: quiet, Self: d.self, Find: d, Follow: d.follow,
		Open:   func(context.Context, string, ca.ID) (Session, error) { return nil, errors.New("nobody is there") },
		Claims: func(token []byte) (capability.Claims, error) { return verifier.Verify(token, d.self.Public()) },
	}
	if change != nil {
		change(&cfg)
	}
	if d.creator, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	go d.creator.Run(ctx)
	synctest.Wait()
	return d
}

func (d *domain) id(kind, name string) *ca.Identity {
	key := kind + "/" + name
	if d.ids[key] == nil {
		id, err := d.ca.NewIdentity(kind, name)
		if err != nil {
			d.t.Fatal(err)
		}
		d.ids[key] = id
	}
	return d.ids[key]
}

func asPeer(id *ca.Identity) ca.Peer { return ca.Peer{ID: id.ID(), Key: id.Public()} }

func callFrom(ctx context.Context, id *ca.Identity) context.Context {
	return peer.NewContext(ctx, &peer.Peer{AuthInfo: ca.AuthInfo{Peer: asPeer(id)}})
}

// token is a user's capability, narrowed to the creator as apc.Client does.
func (d *domain) token(ctx context.Context, user *ca.Identity, n capability.Narrowing) []byte {
	d.t.Helper()
	r, err := d.manager.Issue(callFrom(ctx, user), &capabilitypb.IssueRequest{Version: 1})
	if err != nil {
		d.t.Fatal(err)
	}
	n.Ops, n.Delegate = capability.All, d.self.Public()
	token, err := capability.Narrow(r.GetToken(), user, n)
	if err != nil {
		d.t.Fatal(err)
	}
	return token
}

// publish signs and publishes a description that those may find; nobody but the owner when there are none.
func (d *domain) publish(owner *ca.Identity, description operators.Description, numbers map[string]float64, who ...capability.Who) {
	d.t.Helper()
	b, err := description.Marshal()
	if err != nil {
		d.t.Fatal(err)
	}
	d.allow(owner, description.Name, who...)
	d.version++
	body := announce.Sign(owner, description.Name, d.version, b)
	body.Numbers = numbers
	if err := d.server.Put(body); err != nil {
		d.t.Fatal(err)
	}
}

func (d *domain) allow(owner *ca.Identity, name string, who ...capability.Who) {
	d.acls.set(capability.ServiceID(owner.ID(), name), who)
	synctest.Wait()
}

// QueryAs asks the server as the creator, without a network.
func (d *domain) QueryAs(ctx context.Context, token []byte, q sds.Query) ([]sds.Found, error) {
	d.mu.Lock()
	d.queries++
	d.mu.Unlock()
	r, err := d.server.Query(callFrom(ctx, d.self), &sdspb.QueryRequest{Version: 1, Capability: token, Question: question(q)})
	if err != nil {
		return nil, err
	}
	var all []sds.Found
	for _, f := range r.GetFound() {
		all = append(all, found(f))
	}
	return all, nil
}

func question(q sds.Query) *sdspb.Question {
	return &sdspb.Question{Version: 1, Template: q.Template, By: string(q.By), Steps: q.Steps}
}

func found(f *sdspb.Found) sds.Found {
	return sds.Found{
		ID: f.GetOwner() + "#" + f.GetName(), Owner: ca.ID(f.GetOwner()), Name: f.GetName(), Version: f.GetVersion(),
		Description: f.GetDescription(), Numbers: f.GetNumbers(),
	}
}

// follow watches as sds.Client does over a connection of its own.
func (d *domain) follow(ctx context.Context, token func(context.Context) ([]byte, error), q sds.Query, f func(sds.WatchEvent)) error {
	capability, err := token(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.mu.Lock()
	d.streams++
	d.cut = cancel
	d.mu.Unlock()
	s := &stream{ctx: callFrom(ctx, d.self), tell: f}
	return d.server.Watch(&sdspb.QueryRequest{Version: 1, Capability: capability, Question: question(q)}, s)
}

// stream hands what a server sends to a function.
type stream struct {
	grpc.ServerStream
	ctx  context.Context
	tell func(sds.WatchEvent)
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) Send(e *sdspb.WatchEvent) error {
	kind, ok := map[sdspb.WatchEvent_Kind]sds.WatchKind{
		sdspb.WatchEvent_KIND_ENTER: sds.Enter, sdspb.WatchEvent_KIND_CHANGE: sds.Change,
		sdspb.WatchEvent_KIND_LEAVE: sds.Leave, sdspb.WatchEvent_KIND_SYNCED: sds.Synced,
	}[e.GetKind()]
	if !ok {
		return errors.New("begin anew") // a resync
	}
	s.tell(sds.WatchEvent{Kind: kind, Found: found(e.GetFound())})
	return nil
}

// lists are access lists that a test sets.
type lists struct {
	mu      sync.Mutex
	all     map[string]*capability.ACL
	changed chan struct{}
}

func (l *lists) set(service string, who []capability.Who) {
	l.mu.Lock()
	defer l.mu.Unlock()
	acl := &capability.ACL{Service: service}
	for _, w := range who {
		acl.Entries = append(acl.Entries, capability.Entry{Who: w, Ops: capability.Find | capability.Use})
	}
	l.all[service] = acl
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *lists) All() (map[string]*capability.ACL, uint64, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.all), 0, l.changed
}

func (l *lists) ACL(service string) *capability.ACL {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[service]
}

func (l *lists) Fresh() bool { return true }

// nowhere is a store that keeps nothing: a manager that does not restart needs none.
type nowhere struct{}

func (nowhere) List(context.Context, string, string, func(string, []byte, uint64) error) error {
	return nil
}
func (nowhere) Put(context.Context, string, string, []byte) (uint64, error) { return 1, nil }
func (nowhere) Delete(context.Context, string, string) error                { return nil }

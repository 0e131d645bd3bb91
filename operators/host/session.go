package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/operators/host/hostpb"
)

// Dialer opens sessions with hosts. Sessions with one node share a connection. It is safe for use by many goroutines.
type Dialer struct {
	identity *ca.Identity
	world    world.World
	log      *slog.Logger

	mu     sync.Mutex
	conns  map[target]*grpc.ClientConn
	recent []target // in order of first use, to bound them
}

type target struct {
	address string
	node    ca.ID
}

// maxConns bounds the connections that a Dialer keeps; beyond it the oldest one is closed with the sessions on it.
const maxConns = 1024

// NewDialer makes a Dialer for the creator id. A nil log discards.
func NewDialer(id *ca.Identity, w world.World, log *slog.Logger) *Dialer {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Dialer{identity: id, world: w, log: log, conns: make(map[target]*grpc.ClientConn)}
}

// Close closes all connections; paths run on until their leases end.
func (d *Dialer) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, c := range d.conns {
		errs = append(errs, c.Close())
	}
	d.conns, d.recent = make(map[target]*grpc.ClientConn), nil
	return errors.Join(errs...)
}

func (d *Dialer) conn(t target) (*grpc.ClientConn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.conns[t]; c != nil {
		return c, nil
	}
	c, err := grpc.NewClient("passthrough:///"+t.address,
		grpc.WithTransportCredentials(ca.ClientCredentials(d.identity, ca.Is(t.node))),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return d.world.Net.Dial(ctx, "tcp", address)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, Jitter: 0.5, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<20)),
	)
	if err != nil {
		return nil, fmt.Errorf("node %s at %q: %w", t.node, t.address, err)
	}
	if len(d.recent) >= maxConns {
		d.conns[d.recent[0]].Close()
		delete(d.conns, d.recent[0])
		d.recent = d.recent[1:]
	}
	d.conns[t] = c
	d.recent = append(d.recent, t)
	return c, nil
}

// drop gives up a connection that failed: the next Open dials at once, with no memory of old failures.
func (d *Dialer) drop(t target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.conns[t]; c != nil {
		c.Close()
		delete(d.conns, t)
		d.recent = slices.DeleteFunc(d.recent, func(r target) bool { return r == t })
	}
}

// Open opens a control stream to a node. The session lasts until Close, Detach, or an end of the stream; ctx bounds the
// opening alone.
func (d *Dialer) Open(ctx context.Context, address string, node ca.ID) (*Session, error) {
	conn, err := d.conn(target{address, node})
	if err != nil {
		return nil, err
	}
	ctx, done := context.WithTimeout(ctx, maxCall)
	defer done()
	// The stream must outlive ctx, and opening it must not.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	stream, err := hostpb.NewPathsClient(conn).Control(life)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		stop()
		cancel()
		d.drop(target{address, node})
		return nil, fmt.Errorf("open control of node %s at %s: %w", node, address, err)
	}
	s := &Session{
		node: node, stream: stream, cancel: cancel,
		calls: make(map[uint64]chan *hostpb.Reply), inbox: newMailbox[Report](),
		reports: make(chan Report), ended: make(chan struct{}), left: make(chan struct{}),
	}
	s.work.Go(s.receive)
	s.work.Go(s.deliver)
	return s, nil
}

// Session is the creator's end of the control of one path on one node. Its methods may be called by any goroutine; the
// calls end with their context, and then it is not known whether they were carried out.
//
// A session ends when its connection does, at the latest with the certificates that opened it; the path does not. The
// creator then opens another and attaches: only when that fails has it lost the node. A node that is cut off without a
// word is known by its missing heartbeats alone.
type Session struct {
	node    ca.ID
	stream  hostpb.Paths_ControlClient
	cancel  context.CancelFunc
	inbox   *mailbox[Report]
	reports chan Report
	left    chan struct{} // closed by Detach
	ended   chan struct{} // closed by receive after err is set
	err     error
	work    sync.WaitGroup
	// certified is when the node's certificate ends, as it said at Prepare.
	certified atomic.Int64

	sending  sync.Mutex
	mu       sync.Mutex
	last     uint64
	detached bool
	calls    map[uint64]chan *hostpb.Reply
}

// Prepare hands the node its part of the path. addresses says where its inbound hops listen, by hop.
func (s *Session) Prepare(ctx context.Context, a Assignment) (addresses map[string]string, err error) {
	return s.call(ctx, "prepare", &hostpb.Command{Do: &hostpb.Command_Prepare{Prepare: assignmentToWire(a)}})
}

// Certified is when the certificate ends that the node had at Prepare; hops made since end no sooner on its account. Zero
// is not known.
func (s *Session) Certified() time.Time {
	if ms := s.certified.Load(); ms > 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// Attach takes control of a path of this creator that the node already runs at this epoch, from any other session. An
// empty capability leaves the path's own. Faults that the path has reported before are reported again.
func (s *Session) Attach(ctx context.Context, path string, epoch uint32, capability []byte) (addresses map[string]string, err error) {
	return s.call(ctx, "attach", &hostpb.Command{Do: &hostpb.Command_Attach{
		Attach: &hostpb.Attach{Path: path, Epoch: epoch, Capability: capability},
	}})
}

// Connect has the node dial its outbound hops at the addresses, by hop. It takes the whole path's addresses: those of
// other nodes' hops are not looked at. After an error it may be called again.
func (s *Session) Connect(ctx context.Context, addresses map[string]string) error {
	_, err := s.call(ctx, "connect", &hostpb.Command{Do: &hostpb.Command_Connect{Connect: &hostpb.Connect{Addresses: addresses}}})
	return err
}

// Start begins the flow.
func (s *Session) Start(ctx context.Context) error {
	_, err := s.call(ctx, "start", &hostpb.Command{Do: &hostpb.Command_Start{Start: &hostpb.Start{}}})
	return err
}

// Renew makes the lease end after the given time from now; zero is the host's default.
func (s *Session) Renew(ctx context.Context, lease time.Duration) error {
	return s.RenewUnder(ctx, lease, nil)
}

// RenewUnder renews the lease and replaces the capability that the path runs under; an empty one leaves it. When the
// host's Permit refuses, the path is torn down.
func (s *Session) RenewUnder(ctx context.Context, lease time.Duration, capability []byte) error {
	_, err := s.call(ctx, "renew", &hostpb.Command{Do: &hostpb.Command_Renew{
		Renew: &hostpb.Renew{LeaseNanos: int64(lease), Capability: capability},
	}})
	return err
}

// Close tears the path down on the node, waits until nothing is left there, or ctx ends, and ends the session. An
// error means that the node's lease will have to do it. It may be called again.
func (s *Session) Close(ctx context.Context) error {
	_, err := s.call(ctx, "close", &hostpb.Command{Do: &hostpb.Command_Close{Close: &hostpb.Close{}}})
	s.Detach()
	if errors.Is(err, errDetached) {
		return nil
	}
	return err
}

// Detach ends the session and leaves the path running until its lease ends.
func (s *Session) Detach() {
	s.mu.Lock()
	if !s.detached {
		s.detached = true
		close(s.left)
	}
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
}

// Reports delivers what the node tells. Of heartbeats that were not read only the latest is kept, notes are dropped
// beyond a bound, faults never. It is closed when the session ends; Err then says why.
func (s *Session) Reports() <-chan Report { return s.reports }

// Err is why the session has ended; nil while it has not, and after Close or Detach.
func (s *Session) Err() error {
	select {
	case <-s.ended:
	default:
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.detached {
		return nil
	}
	return s.err
}

var errDetached = errors.New("the session is closed")

// maxCall bounds every call and Open, besides the caller's context: more than a host takes at its own bounds.
const maxCall = 30 * time.Second

// call sends a command and waits for its reply.
func (s *Session) call(ctx context.Context, what string, c *hostpb.Command) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, maxCall)
	defer cancel()
	reply, err := s.exchange(ctx, c)
	if err == nil {
		err = refusalFrom(s.node, reply.Refusal)
	}
	if err != nil {
		return nil, fmt.Errorf("%s on node %s: %w", what, s.node, err)
	}
	if ms := reply.GetCertifiedUnixMs(); ms > 0 {
		s.certified.Store(ms)
	}
	return reply.Addresses, nil
}

func (s *Session) exchange(ctx context.Context, c *hostpb.Command) (*hostpb.Reply, error) {
	answer := make(chan *hostpb.Reply, 1)
	s.mu.Lock()
	if s.detached {
		s.mu.Unlock()
		return nil, errDetached
	}
	s.last++
	c.Version, c.Id = protocol, s.last
	s.calls[c.Id] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.calls, c.Id)
		s.mu.Unlock()
	}()
	s.sending.Lock()
	err := s.stream.Send(c) // hosts always read, so it waits for nobody
	s.sending.Unlock()
	if err != nil {
		<-s.ended // Send only says EOF; the reason comes with the end of receiving
		return nil, s.err
	}
	select {
	case reply := <-answer:
		return reply, nil
	case <-s.ended:
		return nil, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// receive sorts what comes into replies and reports until the stream ends.
func (s *Session) receive() {
	defer close(s.ended)
	for {
		e, err := s.stream.Recv()
		if err != nil {
			s.err = fmt.Errorf("control of node %s is lost: %w", s.node, err)
			return
		}
		switch what := e.What.(type) {
		case *hostpb.Event_Reply:
			s.answer(what.Reply)
		case *hostpb.Event_Report:
			s.report(reportFrom(s.node, what.Report))
		}
	}
}

func (s *Session) answer(r *hostpb.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if waiting := s.calls[r.GetId()]; waiting != nil {
		select {
		case waiting <- r:
		default: // a host that answers twice
		}
	}
}

func (s *Session) report(r Report) {
	switch r.Kind {
	case Heartbeat:
		s.inbox.heartbeat(r)
	case Note:
		s.inbox.note(r)
	case Fault, Ended:
		s.inbox.put(r)
	}
}

// deliver hands reports to whoever reads them, until the session ends and all are read, or Detach.
func (s *Session) deliver() {
	defer close(s.reports)
	defer s.cancel()
	over := false
	for {
		r, ok, overflowed := s.inbox.take()
		switch {
		case overflowed:
			return // a host that reports faults without end
		case ok:
			select {
			case s.reports <- r:
			case <-s.left:
				return
			}
		case over:
			return
		default:
			select {
			case <-s.inbox.wake:
			case <-s.ended:
				over = true
			}
		}
	}
}

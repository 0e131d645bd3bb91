package dds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/base/dds/ddspb"
	"ninja/ca"
)

// Rule gives principals access to tables.
type Rule struct {
	// Tables is a table's name, or the beginning of names with a '*' behind it; "*" is all.
	Tables string
	// Kinds and IDs are whom it is for.
	Kinds []string
	IDs   []ca.ID
	// Write allows writing and renewing too, not only reading.
	Write bool
}

func (r Rule) allows(peer ca.ID, table string, write bool) bool {
	prefix, open := strings.CutSuffix(r.Tables, "*")
	return (r.Write || !write) && (table == r.Tables || open && strings.HasPrefix(table, prefix)) &&
		(slices.Contains(r.Kinds, peer.Kind()) || slices.Contains(r.IDs, peer))
}

// ServerConfig configures a Server.
type ServerConfig struct {
	// Engine is what it serves. Required; the Server does not close it.
	Engine *Engine
	// Identity tells the domain whose principals are served. Required.
	Identity *ca.Identity
	// Access is who may do what; what no rule allows is refused.
	Access []Rule
	// MaxStreams bounds the watches and lists that run at once; 0 is 1024.
	MaxStreams int
	// Log is told of refusals; nil is slog.Default().
	Log *slog.Logger
}

// Server serves an Engine to other processes. A watch is never more than some thousand events behind: then it begins
// again.
type Server struct {
	ddspb.UnimplementedTablesServer
	cfg     ServerConfig
	streams atomic.Int64
}

// NewServer makes a Server.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Engine == nil || cfg.Identity == nil {
		return nil, errors.New("table server: an engine and an identity are required")
	}
	for _, r := range cfg.Access {
		if r.Tables == "" || len(r.Kinds)+len(r.IDs) == 0 {
			return nil, fmt.Errorf("table server: rule %+v: it names no tables, or nobody", r)
		}
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 1024
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Server{cfg: cfg}, nil
}

// Register adds the service to a gRPC server, which must use ca.ServerCredentials.
func (s *Server) Register(g *grpc.Server) { ddspb.RegisterTablesServer(g, s) }

// permit says no unless a rule says yes.
func (s *Server) permit(ctx context.Context, table string, write bool) error {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if peer.ID.Domain() == s.cfg.Identity.ID().Domain() &&
		slices.ContainsFunc(s.cfg.Access, func(r Rule) bool { return r.allows(peer.ID, table, write) }) {
		return nil
	}
	s.cfg.Log.Debug("access to a table refused", "peer", peer.ID, "table", fmt.Sprintf("%.80q", table), "write", write)
	return status.Errorf(codes.PermissionDenied, "%s may not do that with the table %.80q: the table server's access rules say who may", peer.ID, table)
}

// Get implements the RPC.
func (s *Server) Get(ctx context.Context, r *ddspb.GetRequest) (*ddspb.Entry, error) {
	if err := s.permit(ctx, r.Table, false); err != nil {
		return nil, err
	}
	value, revision, err := s.cfg.Engine.Get(ctx, r.Table, r.Key)
	return &ddspb.Entry{Key: r.Key, Value: value, Revision: revision}, toStatus(err)
}

// Write implements the RPC. The fence is read, so its table must be readable.
func (s *Server) Write(ctx context.Context, r *ddspb.WriteRequest) (*ddspb.WriteResponse, error) {
	if err := s.permit(ctx, r.Table, true); err != nil {
		return nil, err
	}
	w := Write{
		Table: r.Table, Key: r.Key, Value: r.Value, Delete: r.Delete, Expect: r.Expect,
		TTL: time.Duration(min(r.TtlNanoseconds, uint64(MaxTTL)+1)),
	}
	if f := r.Fence; f != nil {
		if err := s.permit(ctx, f.Table, false); err != nil {
			return nil, err
		}
		w.Fence = &Fence{f.Table, f.Key, f.Revision}
	}
	done, err := s.cfg.Engine.Write(ctx, w)
	if err != nil {
		return nil, toStatus(err)
	}
	return &ddspb.WriteResponse{Version: 1, Done: done.Done, Revision: done.Revision}, nil
}

// Renew implements the RPC.
func (s *Server) Renew(ctx context.Context, r *ddspb.RenewRequest) (*ddspb.RenewResponse, error) {
	if err := s.permit(ctx, r.Table, true); err != nil {
		return nil, err
	}
	renewed, err := s.cfg.Engine.Renew(ctx, r.Table, r.Key, r.Revision)
	return &ddspb.RenewResponse{Version: 1, Renewed: renewed}, toStatus(err)
}

// begin counts a stream in; end is called when it is over.
func (s *Server) begin(ctx context.Context, table string) (end func(), err error) {
	if err := s.permit(ctx, table, false); err != nil {
		return nil, err
	}
	end = func() { s.streams.Add(-1) }
	if s.streams.Add(1) > int64(s.cfg.MaxStreams) {
		end()
		return nil, status.Errorf(codes.ResourceExhausted, "%d watches and lists run already: try again later", s.cfg.MaxStreams)
	}
	return end, nil
}

// listBytes is about how much one message of a list holds.
const listBytes = 64 << 10

// List implements the RPC.
func (s *Server) List(r *ddspb.ListRequest, stream ddspb.Tables_ListServer) error {
	end, err := s.begin(stream.Context(), r.Table)
	if err != nil {
		return err
	}
	defer end()
	page, size := &ddspb.ListResponse{}, 0
	err = s.cfg.Engine.List(stream.Context(), r.Table, r.Prefix, func(key string, value []byte, revision uint64) error {
		page.Entries = append(page.Entries, &ddspb.Entry{Key: key, Value: value, Revision: revision})
		if size += len(key) + len(value); size < listBytes {
			return nil
		}
		full := page
		page, size = &ddspb.ListResponse{}, 0
		return stream.Send(full)
	})
	if err == nil && len(page.Entries) > 0 {
		err = stream.Send(page)
	}
	return toStatus(err)
}

// heartbeat is how often a watch gives a sign of life.
const heartbeat = time.Second

// Watch implements the RPC: the engine's watch runs beside, and hands over one event at a time.
func (s *Server) Watch(r *ddspb.WatchRequest, stream ddspb.Tables_WatchServer) error {
	end, err := s.begin(stream.Context(), r.Table)
	if err != nil {
		return err
	}
	defer end()
	ctx, cancel := context.WithCancel(stream.Context())
	events, ended := make(chan Event), make(chan error, 1)
	go func() {
		ended <- s.cfg.Engine.Watch(ctx, r.Table, r.Prefix, func(e Event) error {
			select {
			case events <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		close(ended)
	}()
	defer func() {
		cancel()
		for range ended { // until it is closed
		}
	}()
	alive := time.NewTicker(heartbeat)
	defer alive.Stop()
	for {
		var message *ddspb.Event
		select {
		case err := <-ended:
			return toStatus(err)
		case e := <-events:
			message = toEvent(e)
			alive.Reset(heartbeat)
		case <-alive.C:
			message = &ddspb.Event{Kind: ddspb.Event_ALIVE}
		}
		if err := stream.Send(message); err != nil {
			return err
		}
	}
}

// wireKind is the wire's name for a kind of event.
func wireKind(k Kind) ddspb.Event_Kind {
	switch k {
	case Reset:
		return ddspb.Event_RESET
	case Set:
		return ddspb.Event_SET
	case Deleted:
		return ddspb.Event_DELETED
	default:
		return ddspb.Event_SYNCED
	}
}

func toEvent(e Event) *ddspb.Event {
	return &ddspb.Event{Kind: wireKind(e.Kind), Entry: &ddspb.Entry{Key: e.Key, Value: e.Value, Revision: e.Revision}}
}

// toStatus is an engine's error as gRPC tells it.
func toStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrClosed):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, ErrFenced):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, ErrRefused):
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if s := status.FromContextError(err); s.Code() != codes.Unknown {
		return s.Err()
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return status.Error(codes.Internal, err.Error())
}

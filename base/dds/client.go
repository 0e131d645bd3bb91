package dds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"ninja/base/dds/ddspb"
	"ninja/ca"
	"ninja/internal/world"
)

// ClientConfig configures a Client.
type ClientConfig struct {
	// Identity is who asks. Required.
	Identity *ca.Identity
	// World is its clock and network. Required.
	World world.World
	// Address is the server's, HOST:PORT. Required.
	Address string
	// Server decides who the server may be, as ca.Is or ca.KindIs do. Required: whoever else answers could tell lies.
	Server func(ca.Peer) error
	// Timeout bounds a call whose context has no deadline; 0 is 10 s.
	Timeout time.Duration
}

// Client is an Engine in another process. It connects by itself, again if need be. A read that fails has no effect; a
// write that fails may have been carried out, unless the error is ErrRefused or ErrFenced, or says that access is denied:
// whoever must know reads the key, or writes with CompareAndSet. It is safe for use by many goroutines.
type Client struct {
	Writes
	cfg    ClientConfig
	conn   *grpc.ClientConn
	tables ddspb.TablesClient
	closed context.Context
	close  context.CancelFunc
}

// How long a client waits for connections and signs of life.
const (
	reconnectMost = 2 * time.Second
	silence       = 5 * time.Second // a watch without any message for so long is begun again
)

// Dial makes a Client. It does not wait for the connection.
func Dial(cfg ClientConfig) (*Client, error) {
	if cfg.Identity == nil || cfg.Address == "" || cfg.Server == nil {
		return nil, errors.New("table client: an identity, an address and who the server may be are required")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = 50*time.Millisecond, reconnectMost
	conn, err := grpc.NewClient("passthrough:///"+cfg.Address,
		grpc.WithTransportCredentials(ca.ClientCredentials(cfg.Identity, cfg.Server)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return cfg.World.Net.Dial(ctx, "tcp", address)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: 5 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 5 * time.Minute, Timeout: silence}),
	)
	if err != nil {
		return nil, fmt.Errorf("table client: %s: %w", cfg.Address, err)
	}
	c := &Client{cfg: cfg, conn: conn, tables: ddspb.NewTablesClient(conn)}
	c.Writes = Writes{c}
	c.closed, c.close = context.WithCancel(context.Background())
	return c, nil
}

// Close ends all calls and watches with ErrClosed and closes the connection.
func (c *Client) Close() error {
	if c.closed.Err() != nil {
		return nil
	}
	c.close()
	return c.conn.Close()
}

// call bounds a call in time, and ends it when the client is closed.
func (c *Client) call(ctx context.Context) (context.Context, context.CancelFunc) {
	cancel := context.CancelFunc(func() {})
	if _, bounded := ctx.Deadline(); !bounded {
		ctx, cancel = context.WithTimeout(ctx, c.cfg.Timeout)
	}
	return ctx, cancel
}

// Get is Engine.Get.
func (c *Client) Get(ctx context.Context, table, key string) (value []byte, revision uint64, err error) {
	if err := errors.Join(ctx.Err(), check(table, key, nil)); err != nil {
		return nil, 0, err
	}
	calling, cancel := c.call(ctx)
	defer cancel()
	r, err := c.tables.Get(calling, &ddspb.GetRequest{Version: 1, Table: table, Key: key}, grpc.WaitForReady(true))
	return r.GetValue(), r.GetRevision(), c.wrap(ctx, err)
}

// Write is Engine.Write.
func (c *Client) Write(ctx context.Context, w Write) (Written, error) {
	if err := errors.Join(ctx.Err(), w.Check()); err != nil {
		return Written{}, err
	}
	r := &ddspb.WriteRequest{
		Version: 1, Table: w.Table, Key: w.Key, Value: w.Value, Delete: w.Delete, Expect: w.Expect, TtlNanoseconds: uint64(w.TTL),
	}
	if f := w.Fence; f != nil {
		r.Fence = &ddspb.Fence{Table: f.Table, Key: f.Key, Revision: f.Revision}
	}
	calling, cancel := c.call(ctx)
	defer cancel()
	done, err := c.tables.Write(calling, r, grpc.WaitForReady(true))
	return Written{done.GetDone(), done.GetRevision()}, c.wrap(ctx, err)
}

// Renew is Engine.Renew.
func (c *Client) Renew(ctx context.Context, table, key string, revision uint64) (bool, error) {
	if err := errors.Join(ctx.Err(), check(table, key, nil)); err != nil {
		return false, err
	}
	calling, cancel := c.call(ctx)
	defer cancel()
	r, err := c.tables.Renew(calling, &ddspb.RenewRequest{Version: 1, Table: table, Key: key, Revision: revision}, grpc.WaitForReady(true))
	return r.GetRenewed(), c.wrap(ctx, err)
}

// List is Engine.List. It is bounded by ctx alone: it lasts as long as each takes.
func (c *Client) List(ctx context.Context, table, prefix string, each func(key string, value []byte, revision uint64) error) error {
	if err := errors.Join(ctx.Err(), checkPrefix(table, prefix)); err != nil {
		return err
	}
	listing, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.tables.List(listing, &ddspb.ListRequest{Version: 1, Table: table, Prefix: prefix}, grpc.WaitForReady(true))
	if err != nil {
		return c.wrap(ctx, err)
	}
	for {
		page, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.wrap(ctx, err)
		}
		for _, n := range page.Entries {
			if err := each(n.Key, n.Value, n.Revision); err != nil {
				return err
			}
		}
	}
}

// Watch is Engine.Watch. When the connection is lost, or silent for some seconds, it begins again, with Reset.
func (c *Client) Watch(ctx context.Context, table, prefix string, each func(Event) error) error {
	if err := errors.Join(ctx.Err(), checkPrefix(table, prefix)); err != nil {
		return err
	}
	for {
		err := c.watch(ctx, &ddspb.WatchRequest{Version: 1, Table: table, Prefix: prefix}, each)
		var stopped *stopped
		switch {
		case errors.As(err, &stopped):
			return stopped.err
		case ctx.Err() != nil:
			return ctx.Err()
		case c.closed.Err() != nil:
			return ErrClosed
		case !passing(err):
			return c.wrap(ctx, err)
		}
		if world.Sleep(ctx, c.cfg.World.Jitter(reconnectMost/4)) != nil {
			return ctx.Err()
		}
	}
}

// stopped is an error of the watcher's own.
type stopped struct{ err error }

func (s *stopped) Error() string { return s.err.Error() }

// passing says whether a watch that ended so may go on by itself.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Canceled, codes.DeadlineExceeded:
		return true
	}
	return false
}

// watch follows one stream. The time that each takes is not counted as silence.
func (c *Client) watch(ctx context.Context, r *ddspb.WatchRequest, each func(Event) error) error {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.tables.Watch(watching, r, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	quiet := time.AfterFunc(silence, cancel)
	defer quiet.Stop()
	for {
		quiet.Reset(silence)
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		quiet.Stop()
		event, ok := fromEvent(message)
		if !ok {
			continue
		}
		if err := each(event); err != nil {
			return &stopped{err}
		}
	}
}

// fromEvent reads an event; a sign of life, and what a later version may send, is none.
func fromEvent(m *ddspb.Event) (Event, bool) {
	for _, k := range []Kind{Reset, Set, Deleted, Synced} {
		if wireKind(k) == m.Kind {
			return Event{Kind: k, Key: m.Entry.GetKey(), Value: m.Entry.GetValue(), Revision: m.Entry.GetRevision()}, true
		}
	}
	return Event{}, false
}

// wrap says whose error it is, in terms of this package.
func (c *Client) wrap(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case c.closed.Err() != nil:
		return ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	}
	s := status.Convert(err)
	switch s.Code() {
	case codes.FailedPrecondition:
		return fmt.Errorf("%w (%s)", ErrFenced, s.Message())
	case codes.InvalidArgument:
		return fmt.Errorf("%w: %s", ErrRefused, s.Message())
	}
	return fmt.Errorf("tables at %s: %w", c.cfg.Address, err)
}

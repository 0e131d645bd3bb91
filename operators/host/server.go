package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/operators/host/hostpb"
)

// Register offers the control service on a server, which must use ca.ServerCredentials.
func (h *Host) Register(s *grpc.Server) {
	hostpb.RegisterPathsServer(s, &server{host: h})
}

type server struct {
	hostpb.UnimplementedPathsServer
	host *Host
}

// Control serves one stream: it sends what the path puts into the outbox, while receive obeys.
func (s *server) Control(stream hostpb.Paths_ControlServer) error {
	ctx := stream.Context()
	creator, err := creator(ctx)
	if err != nil {
		return err
	}
	if err := s.host.enter(); err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	defer s.host.leave()
	c := &conversation{host: s.host, creator: creator, out: newMailbox[*hostpb.Event]()}
	received := make(chan error, 1)
	go func() { received <- c.receive(ctx, stream) }() // ends when Control returns: Recv then fails
	for {
		select {
		case <-c.out.wake:
			if err := c.send(stream); err != nil {
				return err
			}
		case err := <-received:
			if last := c.send(stream); err == nil {
				err = last
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// creator is who is at the other end, who must be of the kind that commands paths.
func creator(ctx context.Context) (ca.Peer, error) {
	who, err := ca.PeerFromContext(ctx)
	if err != nil {
		return ca.Peer{}, status.Error(codes.Unauthenticated, err.Error())
	}
	if err := ca.KindIs(ca.KindAPC)(who); err != nil {
		return ca.Peer{}, status.Error(codes.PermissionDenied, err.Error())
	}
	return who, nil
}

// enter and leave bound the open streams: twice the paths, so that a creator that lost its stream can come back.
func (h *Host) enter() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams >= 2*h.cfg.MaxPaths {
		return fmt.Errorf("%w: %d control streams are open", ErrFull, h.streams)
	}
	h.streams++
	return nil
}

func (h *Host) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams--
}

// conversation is one control stream. The path belongs to receive.
type conversation struct {
	host    *Host
	creator ca.Peer
	out     *outbox
	path    *path
}

// send sends all that waits.
func (c *conversation) send(stream hostpb.Paths_ControlServer) error {
	for {
		e, ok, overflowed := c.out.take()
		switch {
		case overflowed:
			return status.Error(codes.ResourceExhausted, "the creator does not read its replies and reports")
		case !ok:
			return nil
		}
		if err := stream.Send(e); err != nil {
			return err
		}
	}
}

// receive obeys until the stream ends. A stream that has no path for a while is ended.
func (c *conversation) receive(ctx context.Context, stream hostpb.Paths_ControlServer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		if c.path != nil {
			c.path.detach(c.out)
		}
	}()
	commands := make(chan *hostpb.Command)
	failed := make(chan error, 1)
	go func() { failed <- listen(ctx, stream, commands) }()
	idle := time.NewTicker(2 * c.host.cfg.SetupTimeout)
	defer idle.Stop()
	for {
		select {
		case m := <-commands:
			if err := c.command(ctx, m); err != nil {
				c.out.put(replyEvent(m.Id, nil, err))
			}
			idle.Reset(2 * c.host.cfg.SetupTimeout)
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-idle.C:
			if c.busy() == nil {
				return status.Error(codes.DeadlineExceeded, "the stream has no path any more, or named none in time")
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// listen brings what the stream receives, until it ends.
func listen(ctx context.Context, stream hostpb.Paths_ControlServer, commands chan<- *hostpb.Command) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case commands <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// command carries one out or hands it to the path's goroutine; what it returns is the reply, nil means that another
// replies.
func (c *conversation) command(ctx context.Context, m *hostpb.Command) error {
	switch do := m.Do.(type) {
	case *hostpb.Command_Prepare:
		return c.prepare(ctx, m.Id, do.Prepare)
	case *hostpb.Command_Attach:
		return c.attach(m.Id, do.Attach)
	}
	_, closes := m.Do.(*hostpb.Command_Close)
	switch {
	case closes && c.path == nil: // nothing was prepared, nothing is left
		c.out.put(replyEvent(m.Id, nil, nil))
		return nil
	case closes:
		c.path.close(command{id: m.Id, box: c.out})
		return nil
	case c.path == nil:
		return fmt.Errorf("%w: Prepare or Attach comes first", ErrInvalid)
	}
	todo, err := commandFrom(c.path, c.creator, m, c.out)
	if err != nil {
		return err
	}
	return c.path.post(todo)
}

// busy refuses a second path on one stream while the first one is there.
func (c *conversation) busy() error {
	if c.path == nil {
		return nil
	}
	select {
	case <-c.path.done:
		return nil
	default:
		return fmt.Errorf("%w: this stream commands the path %q: open another", ErrInvalid, c.path.key.path)
	}
}

func (c *conversation) prepare(ctx context.Context, id uint64, m *hostpb.Prepare) error {
	if err := c.busy(); err != nil {
		return err
	}
	a, err := assignmentFrom(m)
	if err != nil {
		return err
	}
	p, err := c.host.begin(ctx, c.creator, a, command{id: id, box: c.out})
	if err == nil {
		c.path = p
	}
	return err
}

func (c *conversation) attach(id uint64, m *hostpb.Attach) error {
	if err := c.busy(); err != nil {
		return err
	}
	p := c.host.find(key{c.creator.ID, m.Path})
	switch {
	case p == nil || p.assignment.Epoch < m.Epoch:
		return fmt.Errorf("%w: %q at epoch %d is not here", ErrNotFound, clip(m.Path, MaxName), m.Epoch)
	case p.assignment.Epoch > m.Epoch:
		return fmt.Errorf("%w: path %q is at epoch %d here", ErrFenced, clip(m.Path, MaxName), p.assignment.Epoch)
	case len(m.Capability) > MaxCapability:
		return fmt.Errorf("%w: a capability of more than %d bytes", ErrInvalid, MaxCapability)
	}
	err := p.post(command{id: id, box: c.out, attach: true, do: func(ctx context.Context) (map[string]string, error) {
		return p.attach(ctx, c.creator, m.Capability, c.out)
	}})
	if err == nil {
		c.path = p
	}
	return err
}

package tree

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/sds"
	"ninja/sds/announce"
	"ninja/sds/tree/treepb"
)

// copiesMost bounds the entries of one message of copies.
const copiesMost = 10_000

// share keeps this server and one that it has spawned alike until ctx ends or that one does. While it is away, what it
// told is kept for hold: nobody hears those services meanwhile.
func (n *Node) share(ctx context.Context, s *sapling, spawned Spawned, hold time.Duration) {
	id := s.id
	ctx, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	defer ended.Wait()
	defer cancel()
	ended.Go(func() {
		select {
		case <-spawned.Ended():
			cancel()
		case <-ctx.Done():
		}
	})
	wait := backoffLeast
	for ctx.Err() == nil {
		begun := time.Now()
		err := n.copying(ctx, s, spawned, id)
		s.alike.Store(false)
		n.cfg.Local.Hold(id, hold)
		if time.Since(begun) > backoffMost {
			wait = backoffLeast
		}
		n.cfg.Log.Info("a spawned server tells nothing now", "server", id, "error", err)
		if n.backoff(ctx, &wait) != nil {
			return
		}
	}
}

// copying opens the stream to a spawned server and serves it until it breaks.
func (n *Node) copying(ctx context.Context, s *sapling, spawned Spawned, id ca.ID) error {
	conn, err := n.dialSpawned(id, spawned.Address())
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := treepb.NewTreeClient(conn).Copy(ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	return n.alike(ctx, id, true, stream, cancel, func() {
		n.mu.Lock()
		n.copied[id] = true
		n.mu.Unlock()
		s.alike.Store(true)
		s.whole.Do(func() { close(s.copied) })
	})
}

// Copy implements the RPC.
func (n *Node) Copy(stream treepb.Tree_CopyServer) error {
	if err := n.fromSpawner(stream.Context()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(n.rootCtx, cancel)()
	return n.alike(ctx, n.cfg.Spawned, false, stream, cancel, func() { n.whole.Do(func() { close(n.filled) }) })
}

// Filled is closed when a spawned server has been told once what the others of its family have: from then on it answers
// as they do.
func (n *Node) Filled() <-chan struct{} { return n.filled }

// copyStream is either end of the stream of Copy.
type copyStream interface {
	Send(*treepb.Copies) error
	Recv() (*treepb.Copies, error)
}

// alike tells the other server what this one hears, with all what others told too, and takes what the other one tells,
// until the stream breaks; stop breaks it. whole is called when all has been told once.
func (n *Node) alike(ctx context.Context, other ca.ID, all bool, stream copyStream, stop, whole func()) error {
	feed, err := n.cfg.Local.Follow(other, all)
	if err != nil {
		return err
	}
	defer feed.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var telling sync.WaitGroup
	defer telling.Wait()
	telling.Go(func() {
		cancel(feed.Run(ctx, func(c sds.Copies) error { return tellCopies(c, stream.Send) }))
	})
	taken := make(chan error, 1)
	go func() { // a server's Recv does not end with ctx, but with the RPC
		for {
			m, err := stream.Recv()
			if err == nil {
				err = n.takeCopies(other, m, feed)
			}
			if err != nil {
				taken <- err
				return
			}
			if m.GetWhole() {
				whole()
			}
		}
	}()
	select {
	case err = <-taken:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	cancel(err)
	stop()
	return err
}

// tellCopies sends copies in messages of a bounded size.
func tellCopies(c sds.Copies, send func(*treepb.Copies) error) error {
	err := inParts(c.Bodies, func(m *treepb.HandOverRequest) error {
		return send(&treepb.Copies{Version: 1, Services: m.GetServices()})
	})
	if err != nil {
		return err
	}
	m := &treepb.Copies{Version: 1, Lacks: c.Lacks, Whole: c.Whole}
	for _, a := range c.Alive {
		m.Alive = append(m.Alive, &treepb.Alive{
			Owner: string(a.Owner), Name: a.Name, ServiceVersion: a.Version, Numbers: a.Numbers, LifetimeMs: uint64(max(1, a.Lifetime.Milliseconds())),
		})
	}
	for _, w := range c.Withdrawn {
		m.Withdrawn = append(m.Withdrawn, &treepb.Withdrawn{Owner: string(w.Owner), Name: w.Name, ServiceVersion: w.Version})
	}
	if !m.Whole && len(m.Alive)+len(m.Withdrawn)+len(m.Lacks) == 0 {
		return nil
	}
	return send(m)
}

// takeCopies takes what the other server tells. Its word counts for what is alive and what has ended, not for what a
// service says: that is signed by the owner.
func (n *Node) takeCopies(from ca.ID, m *treepb.Copies, feed *sds.Feed) error {
	if len(m.GetServices())+len(m.GetAlive())+len(m.GetWithdrawn())+len(m.GetLacks()) > copiesMost {
		return status.Errorf(codes.InvalidArgument, "more than %d services in one message", copiesMost)
	}
	var c sds.Copies
	for _, s := range m.GetServices() {
		b, err := n.body(s)
		if err != nil {
			n.cfg.Log.Warn("a copy was refused", "from", from, "service", s.GetOwner()+"#"+s.GetBody().GetName(), "error", err)
			continue
		}
		c.Bodies = append(c.Bodies, b)
	}
	for _, a := range m.GetAlive() {
		if err := errors.Join(checkNames(a.GetOwner(), a.GetName()), announce.CheckNumbers(a.GetNumbers())); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		c.Alive = append(c.Alive, sds.Alive{
			Owner: ca.ID(a.GetOwner()), Lifetime: lifetime(a.GetLifetimeMs()),
			Pair: announce.Pair{Name: a.GetName(), Version: a.GetServiceVersion(), Numbers: a.GetNumbers()},
		})
	}
	for _, w := range m.GetWithdrawn() {
		if err := checkNames(w.GetOwner(), w.GetName()); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		c.Withdrawn = append(c.Withdrawn, sds.Withdrawn{Owner: ca.ID(w.GetOwner()), Name: w.GetName(), Version: w.GetServiceVersion()})
	}
	feed.Send(m.GetLacks())
	lacks, refused := n.cfg.Local.TakeCopies(from, c)
	feed.Ask(lacks)
	if len(refused) > 0 {
		n.cfg.Log.Debug("some copies were refused", "from", from, "copies", len(refused), "first", errors.Join(refused[:1]...))
	}
	return nil
}

// checkNames bounds what a service is called that another server mentions: it is kept for a while.
func checkNames(owner, name string) error {
	_, err := ca.ParseID(owner)
	return errors.Join(err, announce.CheckName(name))
}

// body reads a service that came by way of another server, and checks its owner's signature.
func (n *Node) body(s *treepb.Service) (announce.Body, error) {
	b := s.GetBody()
	out := announce.Body{
		Owner: ca.ID(s.GetOwner()), Name: b.GetName(), Version: b.GetVersion(), Description: b.GetDescription(), Signature: b.GetSignature(),
		Chain: b.GetChain(), Numbers: b.GetNumbers(), Lifetime: lifetime(s.GetLifetimeMs()),
	}
	if err := announce.CheckNumbers(out.Numbers); err != nil {
		return out, err
	}
	_, err := out.Verify(n.cfg.Identity)
	return out, err
}

// lifetime is what is left of a life: a millisecond at least, since none would be the usual one.
func lifetime(ms uint64) time.Duration {
	return time.Duration(max(1, min(ms, uint64(time.Hour/time.Millisecond)))) * time.Millisecond
}

// await waits until a spawned server has told all, or it is too late for that.
func (s *sapling) await(ctx context.Context) {
	select {
	case <-s.copied:
	case <-s.spawned.Ended():
	case <-ctx.Done():
	}
}

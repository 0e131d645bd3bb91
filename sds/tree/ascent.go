package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/sds"
	"ninja/sds/route"
	"ninja/sds/tree/treepb"
)

// ascent is how a hierarchy is joined below a parent: one goroutine, that of climb, which keeps to it until the ascent is
// cancelled.
type ascent struct {
	*hierarchy
	parent  atomic.Pointer[Parent]
	leaving atomic.Bool // the hierarchy is left, or joined elsewhere
	ctx     context.Context
	cancel  context.CancelFunc
	// first gets nil when a parent has taken this server in, or why none did, once; nil: nobody waits for it.
	first  chan<- error
	tried  []error     // why none has yet
	moving bool        // it is to take the place of another ascent, or of none
	same   atomic.Bool // it was about to join the parent that this server has
}

// ascend begins to join a parent.
func (h *hierarchy) ascend(p Parent, first chan<- error) *ascent {
	a := &ascent{hierarchy: h, first: first, moving: first != nil}
	a.parent.Store(&p)
	a.ctx, a.cancel = context.WithCancel(h.rootCtx)
	h.parts.Go(a.climb)
	return a
}

// leave ends the link in order: the parent is told, asks no more, and what is under way both ways is answered.
func (a *ascent) leave(nb *neighbour) {
	a.leaving.Store(true)
	a.parts.Go(func() {
		defer a.cancel()
		if nb != nil && nb.stream != nil && nb.stream.put(frameOf(&treepb.Frame{Kind: &treepb.Frame_Leave{Leave: true}})) == nil {
			nb.drain(a.cfg.Period)
		}
	})
}

// drain waits until no question is under way on the link, for leaveTime at most, while both sides hold it for alive.
func (nb *neighbour) drain(period time.Duration) {
	s := nb.stream
	look, beat := time.NewTicker(drainEvery), time.NewTicker(period)
	defer look.Stop()
	defer beat.Stop()
	late := time.NewTimer(leaveTime)
	defer late.Stop()
	for {
		select {
		case <-look.C: // nothing tells when the last one is answered
			if s.idle() {
				return
			}
		case <-beat.C:
			nb.hear()
			s.mention(&treepb.Frame{Kind: &treepb.Frame_Beat{Beat: &treepb.Beat{}}})
		case <-late.C:
			return
		case <-s.ctx.Done():
			return
		}
	}
}

// idle reports whether no question is under way, either way, but those of the other side that stand.
func (s *stream) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) == 0 && len(s.slots) == 0
}

const (
	// leaveTime is how long answers may take on a link that is left.
	leaveTime  = 10 * time.Second
	drainEvery = 20 * time.Millisecond
)

// errLeft ends a link that was left.
var errLeft = errors.New("the hierarchy is left, or joined elsewhere")

// climb joins the parent, keeps to it while it lives, and joins again.
func (a *ascent) climb() {
	wait := backoffLeast
	for i := 0; a.ctx.Err() == nil && !a.leaving.Load(); i++ {
		addresses := a.parent.Load().Addresses
		address := addresses[i%len(addresses)]
		joined, err := a.join(address)
		if a.ctx.Err() != nil {
			return
		}
		if joined {
			wait, i = backoffLeast, i-1 // to the same one first
		}
		level := slog.LevelDebug
		if joined || i == 0 {
			level = slog.LevelInfo // once, not at every try
		}
		what := "without parent"
		if a.first != nil {
			what = "not joined elsewhere"
		}
		a.cfg.Log.Log(a.ctx, level, what, "hierarchy", a.name, "address", address, "error", err)
		a.failed(address, err, len(addresses))
		if a.backoff(a.ctx, &wait) != nil {
			return
		}
	}
}

// failed notes why an address was not joined, for who waits for the first that is.
func (a *ascent) failed(address string, err error, of int) {
	if a.first == nil {
		return
	}
	var rpc interface{ GRPCStatus() *status.Status }
	if errors.As(err, &rpc) {
		err = errors.New(rpc.GRPCStatus().Message())
	}
	if a.tried = append(a.tried, fmt.Errorf("%s: %w", address, err)); len(a.tried) >= of {
		a.tell(errors.Join(a.tried...))
	}
}

// tell tells once how it went to who waits for that.
func (a *ascent) tell(err error) {
	if a.first != nil {
		a.first <- err
		a.first = nil
	}
}

// join opens a link to a parent and serves it until it breaks.
func (a *ascent) join(address string) (joined bool, err error) {
	conn, err := grpc.NewClient("passthrough:///"+address, append(sds.DialOptions(),
		grpc.WithTransportCredentials(ca.ClientCredentials(a.cfg.Identity, a.isParent)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return a.cfg.World.Net.Dial(ctx, "tcp", address)
		}),
	)...)
	if err != nil {
		return false, fmt.Errorf("address %q: %w", address, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(a.ctx)
	defer cancel(nil)
	tooLate := time.AfterFunc(joinTime, func() { cancel(errors.New("no answer")) })
	raw, err := treepb.NewTreeClient(conn).Link(ctx)
	if err != nil {
		return false, err
	}
	hello := &treepb.Hello{Hierarchy: a.name, Address: a.cfg.Address, SpawnedBy: string(a.cfg.Spawned)}
	if err := raw.Send(&treepb.Frame{Version: 1, Kind: &treepb.Frame_Hello{Hello: hello}}); err != nil {
		return false, failure(raw, err)
	}
	first, err := raw.Recv()
	if err != nil {
		return false, errors.Join(context.Cause(ctx), err)
	}
	tooLate.Stop()
	peer, err := ca.PeerFromContext(raw.Context())
	if err != nil {
		return false, err
	}
	w := first.GetWelcome()
	if w == nil || w.GetRefused() != "" {
		return false, fmt.Errorf("%s refuses: %s", peer.ID, w.GetRefused())
	}
	line, err := a.lineFrom(peer.ID, w.GetLine())
	if err != nil {
		return false, err
	}
	return true, a.serveParent(newStream(ctx, peer, raw, asksAtOnce), address, line, w)
}

// isParent accepts an SDS server of the parent's domain, and of no other.
func (a *ascent) isParent(peer ca.Peer) error {
	domain := cmp.Or(a.parent.Load().Domain, a.self.Domain())
	if err := ca.KindIn([]string{domain}, ca.KindSDS)(peer); err != nil {
		return err
	}
	if peer.ID.Domain() != domain {
		return fmt.Errorf("%w: the parent is %s, wanted one of the domain %s", ca.ErrUntrusted, peer.ID, domain)
	}
	if up := a.above(); a.moving && up != nil && up.id == peer.ID {
		a.same.Store(true) // another link would end this one
		return fmt.Errorf("%s is the parent already", peer.ID)
	}
	return nil
}

// failure is why a stream could not be written to: its reading side knows.
func failure(raw rawStream, err error) error {
	if why := raw.RecvMsg(new(treepb.Frame)); why != nil {
		return why
	}
	return err
}

// lineFrom reads the ancestors of a parent, and refuses a cycle.
func (h *hierarchy) lineFrom(parent ca.ID, told []string) ([]ca.ID, error) {
	if len(told) > lineMost {
		return nil, fmt.Errorf("%s has %d ancestors, more than %d", parent, len(told), lineMost)
	}
	line := []ca.ID{parent}
	for _, s := range told {
		id, err := ca.ParseID(s)
		if err != nil {
			return nil, err
		}
		line = append(line, id)
	}
	if route.Cycle(h.self, parent, line[1:]) {
		return nil, fmt.Errorf("%s stands below this server in the hierarchy %s: it cannot be the parent too", parent, h.name)
	}
	return line, nil
}

// serveParent serves the link until it breaks.
func (a *ascent) serveParent(s *stream, address string, line []ca.ID, w *treepb.Welcome) error {
	h := a.hierarchy
	h.parts.Go(s.sending)
	nb := h.neighbour(s, address)
	nb.up = true
	taken := h.wait(s.ctx, func() {
		if a.leaving.Load() {
			s.end(errLeft)
			return
		}
		h.moveTo(a)
		h.up, h.line = nb, line
		h.whole = h.sequence == 0 || w.GetSequence() != h.sequence || w.GetCheck() != uint64(h.sent)
		h.publish()
	})
	if !taken {
		s.end(errClosed)
	}
	a.tell(context.Cause(s.ctx))
	silent := h.watchdog(s, nb)
	err := h.readParent(s, nb)
	silent.Stop()
	s.end(err)
	h.wait(h.rootCtx, func() {
		if h.up == nb {
			gone := *nb
			gone.stream, gone.detail = nil, context.Cause(s.ctx).Error()
			h.up, h.line = &gone, nil
			h.publish()
		}
	})
	return context.Cause(s.ctx)
}

func (h *hierarchy) readParent(s *stream, nb *neighbour) error {
	h.questions(s, nb)
	for {
		f, err := s.recv(nb.hear)
		if err != nil {
			return err
		}
		switch k := f.GetKind().(type) {
		case *treepb.Frame_Beat:
			nb.heard.Store(time.Now().UnixNano())
			plan, err := planFrom(k.Beat.GetPlan())
			if err != nil {
				return err
			}
			line, err := h.lineFrom(s.peer.ID, k.Beat.GetLine())
			if err != nil {
				return err
			}
			h.do(s.ctx, func() {
				if h.up != nb {
					return // it is being left
				}
				h.line = line
				if !plan.Same(h.content.plan) {
					h.content.follow(plan)
				}
			})
		case *treepb.Frame_Resync:
			h.do(s.ctx, func() { h.whole = h.whole || h.up == nb })
		default:
			return fmt.Errorf("a frame of %s that does not belong here", nb.id)
		}
	}
}

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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/sds"
	"ninja/sds/route"
	"ninja/sds/summary"
	"ninja/sds/tree/treepb"
)

// messageMost bounds a frame.
const messageMost = 4 << 20

// joinTime is how long both sides wait for the first frame.
const joinTime = 10 * time.Second

// climb joins the parent, keeps to it while it lives, and joins again.
func (h *hierarchy) climb(ctx context.Context) {
	wait := backoffLeast
	for i := 0; ctx.Err() == nil; i++ {
		address := h.parent.Addresses[i%len(h.parent.Addresses)]
		joined, err := h.join(ctx, address)
		if ctx.Err() != nil {
			return
		}
		if joined {
			wait, i = backoffLeast, i-1 // to the same one first
		}
		level := slog.LevelDebug
		if joined || i == 0 {
			level = slog.LevelInfo // once, not at every try
		}
		h.cfg.Log.Log(ctx, level, "without parent", "hierarchy", h.name, "address", address, "error", err)
		if h.backoff(ctx, &wait) != nil {
			return
		}
	}
}

// join opens a link to a parent and serves it until it breaks.
func (h *hierarchy) join(ctx context.Context, address string) (joined bool, err error) {
	conn, err := grpc.NewClient("passthrough:///"+address, append(sds.DialOptions(),
		grpc.WithTransportCredentials(ca.ClientCredentials(h.cfg.Identity, h.isParent)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return h.cfg.World.Net.Dial(ctx, "tcp", address)
		}),
	)...)
	if err != nil {
		return false, fmt.Errorf("address %q: %w", address, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tooLate := time.AfterFunc(joinTime, func() { cancel(errors.New("no answer")) })
	raw, err := treepb.NewTreeClient(conn).Link(ctx)
	if err != nil {
		return false, err
	}
	hello := &treepb.Hello{Hierarchy: h.name, Address: h.cfg.Address, SpawnedBy: string(h.cfg.Spawned)}
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
	line, err := h.lineFrom(peer.ID, w.GetLine())
	if err != nil {
		return false, err
	}
	return true, h.serveParent(newStream(ctx, peer, raw, asksAtOnce), address, line, w)
}

// isParent accepts an SDS server of the parent's domain, and of no other.
func (h *hierarchy) isParent(peer ca.Peer) error {
	domain := cmp.Or(h.parent.Domain, h.self.Domain())
	if err := ca.KindIn([]string{domain}, ca.KindSDS)(peer); err != nil {
		return err
	}
	if peer.ID.Domain() != domain {
		return fmt.Errorf("%w: the parent is %s, wanted one of the domain %s", ca.ErrUntrusted, peer.ID, domain)
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
func (h *hierarchy) serveParent(s *stream, address string, line []ca.ID, w *treepb.Welcome) error {
	h.parts.Go(s.sending)
	nb := &neighbour{
		id: s.peer.ID, hierarchy: h.name, up: true, address: address, period: h.cfg.Period, stream: s,
		heard: new(atomic.Int64), beaten: new(atomic.Int64), received: new(atomic.Uint64), account: new(account),
	}
	nb.hear()
	nb.heard.Store(nb.beaten.Load())
	h.wait(s.ctx, func() {
		h.up, h.line = nb, line
		h.whole = h.sequence == 0 || w.GetSequence() != h.sequence || w.GetCheck() != uint64(h.sent)
		h.publish()
	})
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

// watchdog ends a stream when the other side is silent for too long.
func (h *hierarchy) watchdog(s *stream, nb *neighbour) *time.Timer {
	var timer *time.Timer
	limit := deadAfter * h.cfg.Period
	timer = time.AfterFunc(limit, func() {
		silence := time.Since(time.Unix(0, nb.beaten.Load()))
		if silence >= limit {
			s.end(fmt.Errorf("nothing was heard of %s for %v", nb.id, silence.Round(time.Millisecond)))
			return
		}
		timer.Reset(limit - silence)
	})
	return timer
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
				h.line = line
				if !plan.Same(h.content.plan) {
					h.content.follow(plan)
				}
			})
		case *treepb.Frame_Resync:
			h.do(s.ctx, func() { h.whole = true })
		default:
			return fmt.Errorf("a frame of %s that does not belong here", nb.id)
		}
	}
}

func (nb *neighbour) hear() { nb.beaten.Store(time.Now().UnixNano()) }

// questions has the questions of a neighbour be answered.
func (h *hierarchy) questions(s *stream, nb *neighbour) {
	from := origin{id: nb.id, up: nb.up}
	s.asked = func(a *treepb.Ask) error {
		if a.GetHierarchy() != h.name {
			(&reply{s: s, id: a.GetId()}).refuse(status.Errorf(codes.InvalidArgument, "a question of the hierarchy %s on a link of %s", a.GetHierarchy(), h.name))
			return nil
		}
		return h.next(from, a, s)
	}
}

// Link serves a child.
func (n *Node) Link(raw treepb.Tree_LinkServer) error {
	peer, err := ca.PeerFromContext(raw.Context())
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if peer.ID.Kind() != ca.KindSDS {
		return status.Errorf(codes.PermissionDenied, "%s is no SDS server", peer.ID)
	}
	first, err := raw.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return status.Error(codes.InvalidArgument, "the first frame must be a hello")
	}
	h, err := n.admit(hello, peer)
	if err != nil {
		n.cfg.Log.Info("child refused", "hierarchy", hello.GetHierarchy(), "child", peer.ID, "error", err)
		return raw.Send(&treepb.Frame{Version: 1, Kind: &treepb.Frame_Welcome{Welcome: &treepb.Welcome{Refused: err.Error()}}})
	}
	s := newStream(raw.Context(), peer, raw, asksAtOnce)
	stop := context.AfterFunc(n.rootCtx, func() { s.end(errClosed) })
	defer stop()
	return h.serveChild(s, hello)
}

// admit says whether a child may join, and where.
func (n *Node) admit(hello *treepb.Hello, peer ca.Peer) (*hierarchy, error) {
	if err := CheckName(hello.GetHierarchy()); err != nil {
		return nil, err
	}
	if err := n.cfg.Accept(hello.GetHierarchy(), peer); err != nil {
		return nil, fmt.Errorf("%s may not join the hierarchy %s here: %w", peer.ID, hello.GetHierarchy(), err)
	}
	return n.hierarchy(hello.GetHierarchy(), nil)
}

// serveChild serves the link until it breaks.
func (h *hierarchy) serveChild(s *stream, hello *treepb.Hello) error {
	nb := &neighbour{
		id: s.peer.ID, hierarchy: h.name, address: hello.GetAddress(), period: h.cfg.Period, stream: s,
		spawned: hello.GetSpawnedBy() == string(h.self), heard: new(atomic.Int64), beaten: new(atomic.Int64), received: new(atomic.Uint64),
	}
	nb.hear()
	nb.heard.Store(nb.beaten.Load())
	var refused error
	var welcome *treepb.Welcome
	if !h.wait(s.ctx, func() { welcome, refused = h.welcome(nb) }) {
		return errClosed
	}
	if refused != nil {
		return s.raw.SendMsg(&treepb.Frame{Version: 1, Kind: &treepb.Frame_Welcome{Welcome: &treepb.Welcome{Refused: refused.Error()}}})
	}
	if err := s.raw.SendMsg(&treepb.Frame{Version: 1, Kind: &treepb.Frame_Welcome{Welcome: welcome}}); err != nil {
		h.wait(h.rootCtx, func() { h.lost(nb, err) })
		return err
	}
	sent := make(chan struct{})
	go func() { s.sending(); close(sent) }()
	silent := h.watchdog(s, nb)
	go func() { // the stream's own Recv does not end with s.ctx
		s.end(h.readChild(s, nb))
	}()
	<-s.ctx.Done()
	silent.Stop()
	<-sent
	err := context.Cause(s.ctx)
	h.wait(h.rootCtx, func() { h.lost(nb, err) })
	return status.Error(codes.Unavailable, err.Error())
}

// welcome takes a child in, in the place of its earlier link if it has one.
func (h *hierarchy) welcome(nb *neighbour) (*treepb.Welcome, error) {
	if route.Cycle(nb.id, h.self, h.line) {
		return nil, fmt.Errorf("this server stands below %s in the hierarchy %s: it cannot be the parent too", nb.id, h.name)
	}
	c := h.children[nb.id]
	switch {
	case c == nil && len(h.children) >= childrenMost:
		return nil, fmt.Errorf("this server has %d children: join one of them", childrenMost)
	case c == nil:
		c = &child{table: new(summary.Table)}
		nb.account = new(account)
	default:
		if c.stream != nil {
			c.stream.end(errors.New("the child has opened another link"))
		}
		nb.account = c.account
	}
	c.neighbour, c.parts = nb, nil
	h.children[nb.id] = c
	w := &treepb.Welcome{PeriodMs: uint32(h.cfg.Period.Milliseconds())}
	for _, id := range h.line {
		w.Line = append(w.Line, string(id))
	}
	if c.table.Known() {
		w.Sequence, w.Check = c.table.Sequence(), uint64(c.table.Check())
	}
	h.publish()
	return w, nil
}

// lost notes that the link of a child is down. What it told is kept: it may be back soon.
func (h *hierarchy) lost(nb *neighbour, why error) {
	c := h.children[nb.id]
	if c == nil || c.heard != nb.heard {
		return // it has another link
	}
	gone := *c.neighbour
	gone.stream, gone.detail = nil, why.Error()
	c.neighbour, c.parts = &gone, nil
	h.cfg.Log.Info("child lost", "hierarchy", h.name, "child", nb.id, "error", why)
	h.publish()
}

func (h *hierarchy) readChild(s *stream, nb *neighbour) error {
	h.questions(s, nb)
	for {
		f, err := s.recv(nb.hear)
		if err != nil {
			return err
		}
		switch k := f.GetKind().(type) {
		case *treepb.Frame_Beat:
			if len(k.Beat.GetWishes()) > summary.WishesMost {
				return fmt.Errorf("a beat of %d wishes", len(k.Beat.GetWishes()))
			}
			h.do(s.ctx, func() { h.beat(s, nb, k.Beat) })
		case *treepb.Frame_Part:
			nb.received.Add(uint64(len(k.Part.GetData())))
			if !h.wait(s.ctx, func() { err = h.part(s, nb, k.Part) }) {
				return errClosed
			}
			if err != nil {
				return err
			}
		case *treepb.Frame_Leave:
			h.do(s.ctx, func() {
				if c := h.children[nb.id]; c != nil {
					h.forget(nb.id, c)
					h.publish()
				}
			})
			return errClosed
		default:
			return fmt.Errorf("a frame of %s that does not belong here", nb.id)
		}
	}
}

// beat takes a child's beat: its summary is confirmed when all of it has come.
func (h *hierarchy) beat(s *stream, nb *neighbour, b *treepb.Beat) {
	c := h.children[nb.id]
	if c == nil || c.heard != nb.heard {
		return
	}
	if c.useless = 0; b.GetUseless() > 0 { // NaN is not
		c.useless = min(1, b.GetUseless())
	}
	c.wishes = c.wishes[:0]
	for _, w := range b.GetWishes() {
		c.wishes = append(c.wishes, summary.Wish{Key: summary.Key(w.GetKey()), Pairs: w.GetPairs(), Triple: w.GetTriples()})
	}
	if c.table.Known() && b.GetSequence() == c.table.Sequence() {
		c.lagging = 0
		nb.heard.Store(time.Now().UnixNano())
		return
	}
	if c.lagging++; c.lagging >= 2 {
		c.lagging = 0
		s.mention(&treepb.Frame{Kind: &treepb.Frame_Resync{Resync: true}})
	}
}

// part takes a piece of a child's summary, and with the last applies it.
func (h *hierarchy) part(s *stream, nb *neighbour, p *treepb.Part) error {
	c := h.children[nb.id]
	if c == nil || c.heard != nb.heard {
		return errClosed
	}
	if c.parts = append(c.parts, p.GetData()...); len(c.parts) > summary.MaxMessage {
		return fmt.Errorf("a summary of more than %d bytes", summary.MaxMessage)
	}
	nb.heard.Store(time.Now().UnixNano())
	if !p.GetLast() {
		return nil
	}
	b := c.parts
	c.parts = nil
	if !ca.VerifySignature(s.peer.Key, summaryContext, signed(h.name, b), p.GetSignature()) {
		return errors.New("the signature of a summary is wrong")
	}
	m, err := summary.Decode(b)
	if err != nil {
		return err
	}
	old := c.table
	next, err := old.Apply(m)
	if err != nil {
		h.cfg.Log.Debug("summary out of step", "hierarchy", h.name, "child", nb.id, "error", err)
		s.mention(&treepb.Frame{Kind: &treepb.Frame_Resync{Resync: true}})
		return nil
	}
	c.table = next
	if h.parent != nil {
		h.pass(old, m)
	}
	h.publish()
	return nil
}

// pass has what a child told become part of what this server tells.
func (h *hierarchy) pass(old *summary.Table, m *summary.Message) {
	added, removed := m.Added, m.Removed
	if !m.Change {
		added, removed = summary.Differences(old.Set(), m.Added)
	}
	for _, t := range added {
		h.content.terms.Add(t)
	}
	for _, t := range removed {
		h.content.terms.Remove(t)
	}
}

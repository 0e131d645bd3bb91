package tree

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/sds/route"
	"ninja/sds/summary"
	"ninja/sds/tree/treepb"
)

// messageMost bounds a frame.
const messageMost = 4 << 20

// joinTime is how long both sides wait for the first frame.
const joinTime = 10 * time.Second

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
	return n.hierarchy(hello.GetHierarchy())
}

// serveChild serves the link until it breaks.
func (h *hierarchy) serveChild(s *stream, hello *treepb.Hello) error {
	nb := h.neighbour(s, hello.GetAddress())
	nb.spawned = hello.GetSpawnedBy() == string(h.self)
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
	var leaving *time.Timer
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
			if leaving == nil { // it ends the link when what is under way is answered
				h.do(s.ctx, func() { h.left(nb) })
				leaving = time.AfterFunc(leaveTime, func() { s.end(errClosed) })
				defer leaving.Stop()
			}
		default:
			return fmt.Errorf("a frame of %s that does not belong here", nb.id)
		}
	}
}

// left lets a child go that leaves for good, unless it has another link already.
func (h *hierarchy) left(nb *neighbour) {
	if c := h.children[nb.id]; c != nil && c.heard == nb.heard {
		h.forget(nb.id, c)
		h.publish()
		h.close()
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
	c.withholds.Store(b.GetWithholds())
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
	if h.ascent != nil && !c.held {
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
	h.content.change(added, removed)
}

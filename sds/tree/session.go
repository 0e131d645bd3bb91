package tree

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/sds/route"
	"ninja/sds/tree/treepb"
)

// Session serves a client.
func (n *Node) Session(raw treepb.Tree_SessionServer) error {
	peer, err := ca.PeerFromContext(raw.Context())
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	s := newStream(raw.Context(), peer, raw, asksClient)
	stop := context.AfterFunc(n.rootCtx, func() { s.end(errClosed) })
	defer stop()
	sent := make(chan struct{})
	go func() { s.sending(); close(sent) }()
	go func() { s.end(n.readClient(s)) }()
	<-s.ctx.Done()
	<-sent
	if n.rootCtx.Err() != nil {
		return status.Error(codes.Unavailable, "the server is stopping")
	}
	return nil
}

func (n *Node) readClient(s *stream) error {
	from := origin{id: s.peer.ID, client: &s.peer}
	s.asked = func(a *treepb.Ask) error {
		r, err := s.open(a)
		if r != nil {
			n.first(from, a, r)
		}
		return err
	}
	if _, err := s.recv(nil); err != nil {
		return err
	}
	return errors.New("a client sends questions and cancels them")
}

// first answers a client: what comes from many branches is put together before it is told, as far as the order or the
// limit ask for it.
func (n *Node) first(from origin, a *treepb.Ask, r *reply) {
	if a.GetWatch() {
		r.stand(&n.parts, func(ctx context.Context) error { return n.watch(ctx, from, a, r.emit) })
		return
	}
	q, err := n.known.of(a.GetQuestion())
	if err != nil {
		r.refuse(err)
		r.close()
		return
	}
	want := route.Want(min(a.GetWant(), uint32(route.Best)))
	if q.local.Ordered {
		want = route.Best
	} else if want == route.Best {
		want = route.Every
	}
	a.Want = uint32(want)
	n.answer(from, a, r, &gathering{out: r, all: route.NewGather(want, q.local.Limit, q.local.Descending), want: want})
}

// next answers a neighbour.
func (n *Node) next(from origin, a *treepb.Ask, s *stream) error {
	r, err := s.open(a)
	switch {
	case r == nil:
	case a.GetWatch():
		r.stand(&n.parts, func(ctx context.Context) error { return n.watch(ctx, from, a, r.emit) })
	default:
		n.answer(from, a, r, r)
	}
	return err
}

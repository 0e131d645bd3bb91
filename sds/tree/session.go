package tree

import (
	"context"
	"fmt"

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
	for {
		f, err := s.recv()
		if err != nil {
			return err
		}
		switch k := f.GetKind().(type) {
		case *treepb.Frame_Ask:
			a := k.Ask
			from := origin{id: s.peer.ID, client: &s.peer}
			err = s.serve(a, &n.parts, func(ctx context.Context) error { return n.first(ctx, from, a, s.emit(a)) })
		case *treepb.Frame_Cancel:
			s.cancel(k.Cancel)
		default:
			err = fmt.Errorf("a client sends questions and cancels them")
		}
		if err != nil {
			return err
		}
	}
}

// first answers a client: what comes from many branches is put together before it is told, as far as the order or the
// limit ask for it.
func (n *Node) first(ctx context.Context, from origin, a *treepb.Ask, tell emit) error {
	q, err := n.known.of(a.GetQuestion())
	if err != nil {
		return err
	}
	if a.GetWatch() {
		return n.watch(ctx, from, a, tell)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	want := route.Want(min(a.GetWant(), uint32(route.Best)))
	if q.local.Ordered {
		want = route.Best
	} else if want == route.Best {
		want = route.Every
	}
	a.Want = uint32(want)
	g := &gathering{tell: tell, all: route.NewGather(want, q.local.Limit, q.local.Descending), want: want}
	if err := n.answer(ctx, from, a, g.take); err != nil {
		return err
	}
	return g.end()
}

package sds

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc"

	"ninja/ca"
	"ninja/sds/sdspb"
)

// echo is the least that a stream can do: every message is answered with an empty one, on its own, at once.
type echo struct {
	sdspb.UnimplementedDiscoveryServer
}

func (echo) Session(stream grpc.BidiStreamingServer[sdspb.SessionRequest, sdspb.SessionResponse]) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil
		}
		if err := stream.Send(&sdspb.SessionResponse{Id: m.GetPing()}); err != nil {
			return err
		}
	}
}

// emptyCalls is a floor: calls that many goroutines make on one stream of the session's kind, with mutual TLS, of empty
// messages that are neither gathered nor looked at. Both ends are in this process.
func (w *town) emptyCalls(id *ca.Identity) func(int) error {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	g := grpc.NewServer(append(ServerOptions(), grpc.Creds(ca.ServerCredentials(w.server.cfg.Identity, nil)))...)
	sdspb.RegisterDiscoveryServer(g, echo{})
	var all sync.WaitGroup
	all.Go(func() { _ = g.Serve(l) })
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(ca.ClientCredentials(id, ca.KindIs(ca.KindSDS))))
	if err != nil {
		w.t.Fatal(err)
	}
	stream, err := sdspb.NewDiscoveryClient(conn).Session(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	var mu sync.Mutex // one sends at a time, and knows who waits
	last, waiting := uint64(0), make(map[uint64]chan struct{})
	all.Go(func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			mu.Lock()
			done := waiting[m.GetId()]
			delete(waiting, m.GetId())
			mu.Unlock()
			close(done)
		}
	})
	w.t.Cleanup(func() { conn.Close(); g.Stop(); all.Wait() })
	return func(int) error {
		done := make(chan struct{})
		mu.Lock()
		last++
		waiting[last] = done
		err := stream.Send(&sdspb.SessionRequest{Request: &sdspb.SessionRequest_Ping{Ping: last}})
		mu.Unlock()
		if err == nil {
			<-done
		}
		return err
	}
}

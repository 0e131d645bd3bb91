package main

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"ninja/sds/sdspb"
)

// broken panics whatever it is asked.
type broken struct {
	sdspb.UnimplementedDiscoveryServer
}

func (broken) Query(context.Context, *sdspb.QueryRequest) (*sdspb.QueryResponse, error) {
	panic("query")
}
func (broken) Watch(*sdspb.QueryRequest, grpc.ServerStreamingServer[sdspb.WatchEvent]) error {
	panic("watch")
}
func (broken) Status(context.Context, *sdspb.StatusRequest) (*sdspb.StatusResponse, error) {
	return &sdspb.StatusResponse{Server: "here"}, nil
}

// A call that panics fails, and the server goes on.
func TestACallThatPanicsFailsAlone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(recovering(slog.New(slog.DiscardHandler))...)
	sdspb.RegisterDiscoveryServer(s, broken{})
	go s.Serve(l)
	defer s.Stop()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := sdspb.NewDiscoveryClient(conn)
	for range 2 {
		if _, err := c.Query(t.Context(), &sdspb.QueryRequest{}); status.Code(err) != codes.Internal {
			t.Errorf("query: %v", err)
		}
		st, err := c.Watch(t.Context(), &sdspb.QueryRequest{})
		if err == nil {
			_, err = st.Recv()
		}
		if status.Code(err) != codes.Internal {
			t.Errorf("watch: %v", err)
		}
		if r, err := c.Status(t.Context(), &sdspb.StatusRequest{}); err != nil || r.Server != "here" {
			t.Errorf("afterwards: %v, %v", r, err)
		}
	}
}

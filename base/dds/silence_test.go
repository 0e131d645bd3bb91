package dds_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"ninja/base/dds"
	"ninja/base/dds/ddspb"
	"ninja/ca"
	"ninja/internal/world"
)

// mute is a server whose watches fall silent, as on a connection that has died without a word.
type mute struct {
	ddspb.UnimplementedTablesServer
	begun chan time.Time
	alive bool
}

func (m *mute) Watch(_ *ddspb.WatchRequest, stream ddspb.Tables_WatchServer) error {
	m.begun <- time.Now()
	if err := stream.Send(&ddspb.Event{Kind: ddspb.Event_RESET}); err != nil {
		return err
	}
	for m.alive && world.Sleep(stream.Context(), time.Second) == nil {
		if err := stream.Send(&ddspb.Event{Kind: ddspb.Event_ALIVE}); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

// A watch that is silent for five seconds begins again; one that gives signs of life does not.
func TestASilentWatchBeginsAgain(t *testing.T) {
	for _, alive := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			sim := world.NewSim(1, world.Link{Delay: time.Millisecond})
			a, err := ca.NewAuthority(sim.Host("10.0.0.1"), "test")
			if err != nil {
				t.Fatal(err)
			}
			serverID, err := a.NewIdentity(ca.KindBase, "tables")
			if err != nil {
				t.Fatal(err)
			}
			clientID, err := a.NewIdentity(ca.KindSDS, "s")
			if err != nil {
				t.Fatal(err)
			}
			l, err := sim.Host("10.0.0.1").Net.Listen(t.Context(), "tcp", "10.0.0.1:80")
			if err != nil {
				t.Fatal(err)
			}
			g, m := grpc.NewServer(grpc.Creds(ca.ServerCredentials(serverID, nil))), &mute{begun: make(chan time.Time, 10), alive: alive}
			ddspb.RegisterTablesServer(g, m)
			go g.Serve(l)
			c, err := dds.Dial(dds.ClientConfig{Identity: clientID, World: sim.Host("10.0.0.2"), Address: "10.0.0.1:80", Server: ca.Is(serverID.ID())})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			resets := 0
			_ = c.Watch(ctx, "t", "", func(dds.Event) error { resets++; return nil })
			if alive && resets != 1 || !alive && (resets < 3 || resets > 4) {
				t.Errorf("alive %v: begun %d times in 20 s", alive, resets)
			}
			c.Close()
			g.Stop()
		})
	}
}

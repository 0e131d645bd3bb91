package sds

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
)

// noStore keeps nothing: the manager of this test is never restarted.
type noStore struct{}

func (noStore) List(context.Context, string, string, func(string, []byte, uint64) error) error {
	return nil
}
func (noStore) Put(context.Context, string, string, []byte) (uint64, error) { return 1, nil }
func (noStore) Delete(context.Context, string, string) error                { return nil }

// TestAccess is the whole of it: a real capability manager, its follower and verifier, and an SDS server.
// "The SDS controls the set of agents that have the ability to discover services": rights reach queries and watches in
// moments, narrow but never widen, and end when the manager is gone for too long.
func TestAccess(t *testing.T) {
	authority, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, ca: authority}
	real := world.Real()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	var all sync.WaitGroup
	defer func() { cancel(); all.Wait() }()

	keeper := w.identity(ca.KindCapability, "manager")
	manager, err := capability.NewManager(ctx, capability.ManagerConfig{Identity: keeper, Store: noStore{}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	managing := grpc.NewServer(grpc.Creds(ca.ServerCredentials(keeper, nil)))
	manager.Register(managing)
	all.Go(func() { _ = managing.Serve(listener) })
	defer managing.Stop()

	id := w.identity(ca.KindSDS, "s")
	follower, err := capability.NewFollower(capability.FollowerConfig{World: real, Identity: id, Address: listener.Addr().String(), Hold: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	verifier := capability.NewVerifier(id, nil).WithRevocations(follower)
	if w.server, err = NewServer(Config{Identity: id, World: real, Verifier: verifier, ACLs: follower}); err != nil {
		t.Fatal(err)
	}
	all.Go(func() { _ = follower.Run(ctx) })
	all.Go(func() { _ = w.server.Run(ctx) })
	address, stop := serve(t, id, "127.0.0.1:0", w.server)
	defer stop()

	client := func(id *ca.Identity) (*Client, *capability.Client) {
		rights, err := capability.NewClient(capability.ClientConfig{World: real, Identity: id, Address: listener.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		c, err := Dial(ClientConfig{Identity: id, World: real, Address: address, Capability: rights.Capability})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(); rights.Close() })
		return c, rights
	}
	owner, user, friend := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "u"), w.identity(ca.KindUser, "f")
	for _, n := range []string{"p1", "p2", "p3"} {
		w.publish(owner, n, 1, "<a><n>"+n+"</n></a>")
	}
	mine, rights := client(user)
	theirs, _ := client(friend)
	_, grants := client(owner)
	sees := func(what string, query func() ([]Found, error), want ...string) {
		t.Helper()
		var got []string
		for ctx.Err() == nil {
			found, err := query()
			if got = names(found); err == nil && slices.Equal(got, want) {
				return
			}
			_ = world.Sleep(ctx, 20*time.Millisecond)
		}
		t.Fatalf("%s: found %v, want %v", what, got, want)
	}
	everything := func() ([]Found, error) { return mine.Query(ctx, Query{}) }
	sees("nobody is allowed", everything)
	for _, n := range []string{"p1", "p2"} {
		if _, err := grants.Grant(ctx, string(owner.ID())+"#"+n, capability.Who(user.ID()), capability.Find); err != nil {
			t.Fatal(err)
		}
	}
	sees("granted", everything, "p1", "p2")
	if _, err := grants.Grant(ctx, string(owner.ID())+"#p3", capability.Everyone, capability.Use); err != nil {
		t.Fatal(err)
	}
	if _, err := grants.Revoke(ctx, string(owner.ID())+"#p1", capability.Who(user.ID()), capability.Find); err != nil {
		t.Fatal(err)
	}
	sees("revoked, and use is not find", everything, "p2")
	token, err := rights.Capability(ctx)
	if err != nil {
		t.Fatal(err)
	}
	given, err := capability.Narrow(token, user, capability.Narrowing{Ops: capability.Find, Template: []byte("<a><n>p2</n></a>"), Delegate: friend.Public()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := grants.Grant(ctx, string(owner.ID())+"#p3", capability.Who(user.ID()), capability.Find); err != nil {
		t.Fatal(err)
	}
	sees("granted", everything, "p2", "p3")
	sees("delegated and narrowed", func() ([]Found, error) { return theirs.QueryAs(ctx, given, Query{}) }, "p2")
	sees("their own", func() ([]Found, error) { return theirs.Query(ctx, Query{}) })
	sees("a delegated one back with its maker", func() ([]Found, error) { return mine.QueryAs(ctx, given, Query{}) })
	managing.Stop()
	sees("the manager is gone for too long", everything)
}

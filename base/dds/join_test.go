package dds_test

import (
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/base/dds"
	"ninja/ca"
	"ninja/internal/world"
)

// A join token is redeemed once, however often the authority starts anew over the same tables.
func TestAJoinTokenIsUsedOnceAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	const alice ca.ID = "spiffe://test/user/alice"
	var text string
	start := func(l net.Listener, work func(*ca.Server)) {
		t.Helper()
		e, err := dds.Open(filepath.Join(dir, "tables.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		a, err := ca.OpenAuthority(world.Real(), "test", dir)
		if err != nil {
			t.Fatal(err)
		}
		id, err := a.OpenIdentity(ca.KindCA, "authority", filepath.Join(dir, "ca"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := ca.NewServer(ca.ServerConfig{Authority: a, Identity: id, Store: e, Addresses: []string{address}})
		if err != nil {
			t.Fatal(err)
		}
		g := grpc.NewServer(grpc.Creds(s.Credentials()))
		s.Register(g)
		ran := make(chan struct{})
		go func() { defer close(ran); g.Serve(l) }()
		defer func() { g.Stop(); <-ran }()
		work(s)
	}
	start(l, func(s *ca.Server) {
		token, err := s.MakeToken(t.Context(), "spiffe://test/ca/authority", alice, 0)
		if err != nil {
			t.Fatal(err)
		}
		text = token.Text()
		if i, err := ca.Join(t.Context(), world.Real(), text); err != nil || i.ID() != alice {
			t.Fatal(i, err)
		}
	})
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	start(l, func(*ca.Server) {
		if i, err := ca.Join(t.Context(), world.Real(), text); status.Code(err) != codes.PermissionDenied {
			t.Error(i, err)
		}
	})
}

package ca

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"ninja/internal/world"
)

// whoami answers a health check with an error that tells who asked, which saves the test a protocol of its own.
type whoami struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (whoami) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	p, err := PeerFromContext(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	return nil, status.Error(codes.OutOfRange, string(p.ID))
}

func (whoami) Watch(_ *grpc_health_v1.HealthCheckRequest, s grpc_health_v1.Health_WatchServer) error {
	if err := s.Send(&grpc_health_v1.HealthCheckResponse{}); err != nil {
		return err
	}
	<-s.Context().Done()
	return s.Context().Err()
}

// pipes is a listener of in-memory connections, which synctest's clock can pass.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   *sync.Once
}

func newPipes() pipes {
	return pipes{make(chan net.Conn), make(chan struct{}), &sync.Once{}}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p pipes) dial(context.Context, string) (net.Conn, error) {
	c, s := net.Pipe()
	select {
	case p.conns <- s:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func testAuthority(t testing.TB) *Authority {
	t.Helper()
	a, err := NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func testIdentity(t testing.TB, a *Authority, kind, name string) *Identity {
	t.Helper()
	id, err := a.NewIdentity(kind, name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// serve runs whoami under the credentials and returns a client.
func serve(t *testing.T, server *Identity, dialOption grpc.DialOption) grpc_health_v1.HealthClient {
	t.Helper()
	l := newPipes()
	s := grpc.NewServer(grpc.Creds(ServerCredentials(server, nil)))
	grpc_health_v1.RegisterHealthServer(s, whoami{})
	ran := make(chan struct{})
	go func() { defer close(ran); s.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:server", grpc.WithContextDialer(l.dial), dialOption)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); s.Stop(); <-ran })
	return grpc_health_v1.NewHealthClient(conn)
}

func TestCredentialsTellThePeer(t *testing.T) {
	a := testAuthority(t)
	user, sds := testIdentity(t, a, KindUser, "u"), testIdentity(t, a, KindSDS, "s")
	stranger := testIdentity(t, testAuthority(t), KindUser, "u")
	for _, tc := range []struct {
		name  string
		creds grpc.DialOption
		code  codes.Code
	}{
		{"known", grpc.WithTransportCredentials(ClientCredentials(user, KindIs(KindSDS))), codes.OutOfRange},
		{"server of the wrong kind", grpc.WithTransportCredentials(ClientCredentials(user, KindIs(KindAPC))), codes.Unavailable},
		{"another root", grpc.WithTransportCredentials(ClientCredentials(stranger, nil)), codes.Unavailable},
		{"no TLS", grpc.WithTransportCredentials(insecure.NewCredentials()), codes.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := serve(t, sds, tc.creds).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
			if status.Code(err) != tc.code {
				t.Fatalf("%v, wanted %v", err, tc.code)
			}
			if tc.code == codes.OutOfRange && status.Convert(err).Message() != string(user.ID()) {
				t.Errorf("the server saw %v", err)
			}
		})
	}
	if _, err := PeerFromContext(t.Context()); !errors.Is(err, ErrUntrusted) {
		t.Error(err)
	}
}

// "A connection, watch or stream ends when the certificate that opened it expires."
func TestStreamEndsWithTheCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := testAuthority(t)
		user, sds := testIdentity(t, a, KindUser, "u"), testIdentity(t, a, KindSDS, "s")
		client := serve(t, sds, grpc.WithTransportCredentials(ClientCredentials(user, nil)))
		stream, err := client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_, err = stream.Recv()
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("the stream ended with %v", err)
		}
		if lived := time.Since(begun); lived < LeafLife-2*time.Second || lived > LeafLife {
			t.Errorf("the stream lived %v", lived)
		}
		time.Sleep(time.Second) // X.509 counts the very moment of expiry as valid
		check := func() codes.Code {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
			return status.Code(err)
		}
		if c := check(); c != codes.DeadlineExceeded {
			t.Errorf("a call under expired certificates: %v", c)
		}
		for _, id := range []*Identity{user, sds} {
			chain, roots, err := a.RenewIdentity(t.Context(), id)
			if err == nil {
				err = id.Renew(chain, roots)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if c := check(); c != codes.OutOfRange { // whoami's answer
			t.Errorf("after the renewal: %v", c)
		}
	})
}

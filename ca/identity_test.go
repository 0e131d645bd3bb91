package ca

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"

	"ninja/internal/world"
)

func TestMutualTLS(t *testing.T) {
	a, err := NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	server, _ := a.NewIdentity(KindSDS, "s")
	user, _ := a.NewIdentity(KindUser, "u")
	stranger, _ := other.NewIdentity(KindUser, "u")
	for _, tc := range []struct {
		name   string
		client *tls.Config
		server *tls.Config
		fails  bool
	}{
		{"both known", user.ClientTLS(KindIs(KindSDS)), server.ServerTLS(Is(user.ID())), false},
		{"wrong server kind", user.ClientTLS(KindIs(KindAPC)), server.ServerTLS(nil), true},
		{"client refused", user.ClientTLS(nil), server.ServerTLS(KindIs(KindProxy)), true},
		{"client of another root", stranger.ClientTLS(nil), server.ServerTLS(nil), true},
	} {
		c, s := net.Pipe()
		result := make(chan error, 1)
		go func() {
			conn := tls.Server(s, tc.server)
			err := conn.Handshake()
			if err == nil {
				_, err = conn.Write([]byte("x"))
			}
			s.Close()
			result <- err
		}()
		conn := tls.Client(c, tc.client)
		err := conn.Handshake()
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		c.Close()
		err = errors.Join(err, <-result)
		if (err != nil) != tc.fails {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

package hop_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ninja/ca"
	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/connectors/hop"
	"ninja/internal/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFetch(t *testing.T) {
	p := connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real())
	data := bytes.Repeat([]byte("grammar "), 100_000)
	hash := p[0].Hops.ServeData(data)
	fetch := func(peer ca.ID, hash string, max int) ([]byte, error) {
		return hop.Fetch(t.Context(), p[1].World, p[1].Identity, p[0].Hops.Addr(), peer, hash, max)
	}
	got, err := fetch(p[0].Identity.ID(), hash, 4<<20)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	other := sha256.Sum256([]byte("other"))
	for name, try := range map[string]struct {
		peer   ca.ID
		hash   string
		max    int
		reason hop.Reason
	}{
		"unknown hash":   {p[0].Identity.ID(), hex.EncodeToString(other[:]), 4 << 20, hop.UnknownData},
		"too large":      {p[0].Identity.ID(), hash, len(data) - 1, hop.TooLarge},
		"no hash at all": {p[0].Identity.ID(), "../etc/passwd", 4 << 20, 0},
		"wrong peer":     {p[1].Identity.ID(), hash, 4 << 20, 0},
	} {
		_, err := fetch(try.peer, try.hash, try.max)
		var refused *hop.Refused
		if err == nil || errors.As(err, &refused) != (try.reason != 0) || refused != nil && refused.Reason != try.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReasons(t *testing.T) {
	p := connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real())
	h := connectors.Hop{Path: "path", Name: "a->b", Epoch: 3, Type: connectors.MustType("text/plain"), Peer: string(p[1].Identity.ID())}
	pending, err := p[0].Hops.Expect("tcp", h, "")
	if err != nil {
		t.Fatal(err)
	}
	defer pending.Close()
	for name, try := range map[string]struct {
		as     int
		change func(*connectors.Hop)
		want   hop.Reason
	}{
		"peer":  {2, func(*connectors.Hop) {}, hop.WrongPeer},
		"epoch": {1, func(h *connectors.Hop) { h.Epoch = 2 }, hop.WrongEpoch},
		"type":  {1, func(h *connectors.Hop) { h.Type = connectors.MustType("text/html") }, hop.WrongType},
	} {
		h := h
		h.Peer = string(p[0].Identity.ID())
		try.change(&h)
		_, err := hop.Dial(t.Context(), hop.DialConfig{
			Identity: p[try.as].Identity, World: p[try.as].World, Scheme: "tcp", Address: pending.Address(), Hop: h,
		})
		var refused *hop.Refused
		if !errors.As(err, &refused) || refused.Reason != try.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A sender that nobody accepts does not keep the process from stopping, and a server that never ran lets go.
func TestStops(t *testing.T) {
	p := connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real())
	h := connectors.Hop{Type: connectors.MustType("text/plain"), Peer: string(p[1].Identity.ID())}
	pending, err := p[0].Hops.Expect("tcp", h, "")
	if err != nil {
		t.Fatal(err)
	}
	h.Peer = string(p[0].Identity.ID())
	s, err := hop.Dial(t.Context(), hop.DialConfig{
		Identity: p[1].Identity, World: p[1].World, Scheme: "tcp", Address: pending.Address(), Hop: h,
	})
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	s.Begin(hop.Handler{Flush: func() uint64 { return 0 }, Event: func(connectors.Event) {}, Ended: func() { close(over) }})
	p[0].Hops.Close()
	<-over
	if _, err := pending.Accept(t.Context()); err != nil {
		t.Log("accept after the stop:", err)
	}

	idle, err := hop.NewServer(hop.Config{Identity: p[0].Identity, World: p[0].World, Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	idle.Close()
	if again, err := hop.NewServer(hop.Config{Identity: p[0].Identity, World: p[0].World, Address: idle.Addr()}); err != nil {
		t.Error("the address is still taken:", err)
	} else {
		again.Close()
	}
}

// Beyond the bound of sessions a caller is turned away; a place that is free again is used.
func TestMaxSessions(t *testing.T) {
	authority, _ := ca.NewAuthority(world.Real(), "test")
	id, _ := authority.NewIdentity(ca.KindProxy, "a")
	s, err := hop.NewServer(hop.Config{Identity: id, World: world.Real(), Address: "127.0.0.1:0", MaxSessions: 1})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Run(t.Context()) }()
	hash := s.ServeData([]byte("data"))
	fetch := func() error {
		_, err := hop.Fetch(t.Context(), world.Real(), id, s.Addr(), id.ID(), hash, 10)
		return err
	}
	idle, err := world.Real().Net.Dial(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if fetch() == nil {
		t.Error("a second session beyond the bound of one")
	}
	idle.Close()
	for begin := time.Now(); fetch() != nil; {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the place is never free again")
		}
	}
	s.Close()
	<-done
}

// Somebody who connects and says nothing, or nonsense, holds a session no longer than the hello may take.
func TestSilentCaller(t *testing.T) {
	authority, _ := ca.NewAuthority(world.Real(), "test")
	id, _ := authority.NewIdentity(ca.KindProxy, "a")
	s, err := hop.NewServer(hop.Config{
		Identity: id, World: world.Real(), Address: "127.0.0.1:0", HelloTimeout: 50 * time.Millisecond, MaxSessions: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for _, say := range []string{"", "GET / HTTP/1.0\r\n\r\n"} {
		c, err := world.Real().Net.Dial(ctx, "tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(say))
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 100)); errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %q the session is still open", say)
		}
		c.Close()
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

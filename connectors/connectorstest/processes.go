package connectorstest

import (
	"context"
	"slices"
	"testing"

	"ninja/ca"
	"ninja/connectors/hop"
	"ninja/internal/world"
	"ninja/internal/world/relay"
)

// Process is one end: an identity, its surroundings and its hop server.
type Process struct {
	Identity *ca.Identity
	World    world.World
	Hops     *hop.Server
}

// Relayed makes n worlds of real sockets whose dials lead through a relay with the faults both ways. The seed is printed.
func Relayed(t testing.TB, n int, faults relay.Faults) []world.World {
	r := relay.New(relay.Config{There: faults, Back: faults})
	t.Logf("relay seed %d", r.Seed())
	t.Cleanup(func() { r.Close() })
	return slices.Repeat([]world.World{r.World()}, n)
}

// Processes makes processes that know each other, each with a running hop server at the address in its world; they stop
// when the test ends.
func Processes(t testing.TB, address string, worlds ...world.World) []Process {
	t.Helper()
	authority, err := ca.NewAuthority(worlds[0], "test")
	if err != nil {
		t.Fatal(err)
	}
	out := make([]Process, len(worlds))
	for i, w := range worlds {
		id, err := authority.NewIdentity(ca.KindProxy, string(rune('a'+i)))
		if err != nil {
			t.Fatal(err)
		}
		s, err := hop.NewServer(hop.Config{Identity: id, World: w, Address: address, MaxSessions: 8192})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		t.Cleanup(func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		out[i] = Process{Identity: id, World: w, Hops: s}
	}
	return out
}

package connectorstest

import (
	"context"
	"slices"
	"testing"

	"ninja/ca"
	"ninja/connectors/hop"
	"ninja/connectors/trunk"
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
// when the test ends. They have no trunks: a hop that needs one has a socket of its own.
func Processes(t testing.TB, address string, worlds ...world.World) []Process {
	t.Helper()
	return processes(t, address, worlds, func(int) bool { return false })
}

// Trunked makes processes whose datagram hops share trunks.
func Trunked(t testing.TB, address string, worlds ...world.World) []Process {
	t.Helper()
	return processes(t, address, worlds, func(int) bool { return true })
}

// Mixed makes processes of which those with even numbers have trunks and the others do not, as those of the version
// before.
func Mixed(t testing.TB, address string, worlds ...world.World) []Process {
	t.Helper()
	return processes(t, address, worlds, func(n int) bool { return n%2 == 0 })
}

func processes(t testing.TB, address string, worlds []world.World, trunks func(int) bool) []Process {
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
		cfg := hop.Config{Identity: id, World: w, Address: address, MaxSessions: 8192}
		if trunks(i) {
			pool := trunk.NewPool(trunk.Config{Identity: id, World: w})
			t.Cleanup(func() { pool.Close() })
			cfg.Carrier = pool
		}
		s, err := hop.NewServer(cfg)
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

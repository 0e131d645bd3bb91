// Package world is everything a part of the program may know of its surroundings: what time it is, where randomness
// comes from, and how packets and streams reach another host. It is handed in, never reached for, so that a test can
// hand in a simulated one.
//
// Timers and tickers are the standard library's: inside a testing/synctest bubble they are virtual already. Only the
// wall clock is handed in, because two hosts of one test may disagree about it.
package world

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// World is a host's surroundings. Make one with Real or with Sim.Host; a zero World is not usable.
type World struct {
	// Now tells the wall-clock time of this host.
	Now func() time.Time
	// Rand is the source of all randomness, keys included. Reading never fails.
	Rand io.Reader
	// Net reaches other hosts.
	Net Network
}

// Network makes packets and streams. The addresses are those of package net. Every blocking call ends with its context.
type Network interface {
	// Listen accepts streams at address ("tcp" networks).
	Listen(ctx context.Context, network, address string) (net.Listener, error)
	// Dial opens a stream to address.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// ListenPacket opens a datagram socket at address ("udp" networks).
	ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error)
	// ListenMulticast opens a datagram socket that receives what is sent to group on the interface that has the
	// address via, and that sends to groups through the same interface. Several sockets of one host may join.
	ListenMulticast(ctx context.Context, group netip.AddrPort, via netip.Addr) (net.PacketConn, error)
}

// Jitter returns a duration drawn evenly from [d/2, 3d/2), for retries and periods that must not fall into step.
func (w World) Jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + time.Duration(w.Uint64()%uint64(d))
}

// Uint64 returns 64 random bits.
func (w World) Uint64() uint64 {
	var b [8]byte
	w.Fill(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// Fill fills b with random bytes.
func (w World) Fill(b []byte) {
	if _, err := io.ReadFull(w.Rand, b); err != nil {
		panic(fmt.Sprintf("world: the source of randomness failed: %v", err)) // crypto/rand never does; a test's source must not
	}
}

// Sleep waits for d or until ctx ends, whose error it then returns.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Real is the world outside.
func Real() World {
	return World{Now: time.Now, Rand: rand.Reader, Net: realNetwork{}}
}

// Package relay makes real sockets meet faults: a relay of datagrams and streams that delays, loses, duplicates,
// reorders, throttles and parts, from a printed seed. The simulated world does the same in virtual time; this is for what
// virtual time cannot have: sockets of the kernel, other processes, real schedulers.
//
// A Relay's World is the real one with every Dial led through the relay, so whatever takes a world.World can be tested
// with it. Forward gives an address for a program that takes only addresses.
package relay

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"ninja/internal/world"
)

// Faults say what one direction does to what passes it. The zero value does nothing.
type Faults struct {
	world.Link
	// Rate is how many bytes a second pass; 0 is as many as come. Of datagrams, those that would wait more than 200 ms
	// for it are lost; streams wait.
	Rate int
}

// Config of a Relay.
type Config struct {
	// Seed draws the fates; 0 draws a seed, which Seed tells. The n-th datagram of a flow meets the same fate in every
	// run with the seed whose flows are made in the same order.
	Seed uint64
	// There is the direction of those who dial, Back the other.
	There, Back Faults
	// Host is the address of the relay's sockets; "" is 127.0.0.1.
	Host string
}

// Relay carries flows between real sockets.
type Relay struct {
	host string
	seed uint64
	work sync.WaitGroup
	stop chan struct{}

	mu       sync.Mutex
	faults   [2]Faults
	healed   chan struct{} // open while the sides are parted
	closers  map[int]func() error
	flows    int
	closed   bool
	forwards map[[2]string]string
}

// direction is an index of faults.
type direction int

const (
	there direction = iota
	back
)

// New makes a Relay. Close it.
func New(cfg Config) *Relay {
	if cfg.Seed == 0 {
		var b [8]byte
		rand.Read(b[:]) // never fails
		cfg.Seed = max(binary.BigEndian.Uint64(b[:])>>1, 1)
	}
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	healed := make(chan struct{})
	close(healed)
	return &Relay{
		host: cfg.Host, seed: cfg.Seed, stop: make(chan struct{}), faults: [2]Faults{cfg.There, cfg.Back}, healed: healed,
		closers: make(map[int]func() error), forwards: make(map[[2]string]string),
	}
}

// Seed is what the fates are drawn from: print it when a test fails.
func (r *Relay) Seed() uint64 { return r.seed }

// Set changes both directions for what passes from now on.
func (r *Relay) Set(to, fro Faults) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = [2]Faults{to, fro}
}

// Cut parts the sides: datagrams are lost, streams stand still. A new stream is accepted and stands still too.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.healed:
		r.healed = make(chan struct{})
	default:
	}
}

// Heal joins them again.
func (r *Relay) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.healed:
	default:
		close(r.healed)
	}
}

// state is what applies to a direction now.
func (r *Relay) state(d direction) (Faults, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.faults[d], r.healed
}

// Close ends all flows and waits for them. It may be called again.
func (r *Relay) Close() error {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.stop)
		for _, c := range r.closers {
			c()
		}
	}
	r.mu.Unlock()
	r.work.Wait()
	return nil
}

// hold makes Close close something until release is called; it fails after Close. number tells flows apart.
func (r *Relay) hold(c func() error) (number int, release func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		c()
		return 0, nil, fmt.Errorf("relay: %w", net.ErrClosed)
	}
	r.flows++
	number = r.flows
	r.closers[number] = c
	return number, func() {
		c()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.closers, number)
	}, nil
}

// source is the randomness of a direction of a flow.
func (r *Relay) source(flow int, d direction) *mathrand.Rand {
	return mathrand.New(mathrand.NewPCG(r.seed, uint64(flow)<<1|uint64(d)))
}

// Forward returns the address at which the relay stands for the target; the same when called again. The network is a
// "tcp" or a "udp" one.
func (r *Relay) Forward(network, target string) (string, error) {
	key := [2]string{network[:min(3, len(network))], target}
	r.mu.Lock()
	address, ok := r.forwards[key]
	r.mu.Unlock()
	if ok {
		return address, nil
	}
	var err error
	switch key[0] {
	case "tcp":
		address, err = r.forwardStreams(target)
	case "udp":
		var f *front
		if f, err = r.forwardPackets(target); err == nil {
			address = f.address
		}
	default:
		err = fmt.Errorf("network %q: want tcp or udp", network)
	}
	if err != nil {
		return "", fmt.Errorf("relay to %s: %w", target, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forwards[key] = address
	return address, nil
}

// World is the real world, whose Dials lead through the relay. What is listened for, and what is sent from a socket that
// was not dialed (multicast, for one), is not touched.
func (r *Relay) World() world.World {
	w := world.Real()
	w.Net = network{w.Net, r}
	return w
}

type network struct {
	world.Network
	relay *Relay
}

// Dial implements world.Network.
func (n network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if strings.HasPrefix(network, "udp") { // a socket of its own, which goes when the dialed one does
		return n.dialPackets(ctx, address)
	}
	through, err := n.relay.Forward(network, address)
	if err != nil {
		return nil, err
	}
	return n.Network.Dial(ctx, network, through)
}

func (n network) dialPackets(ctx context.Context, address string) (net.Conn, error) {
	front, err := n.relay.forwardPackets(address)
	if err != nil {
		return nil, fmt.Errorf("relay to %s: %w", address, err)
	}
	c, err := n.Network.Dial(ctx, "udp", front.address)
	if err != nil {
		front.close()
		return nil, err
	}
	return packetConn{c, front}, nil
}

// packetConn is a dialed socket that takes its front along.
type packetConn struct {
	net.Conn
	front *front
}

// Close implements net.Conn. What is under way still arrives.
func (c packetConn) Close() error {
	c.front.linger()
	return c.Conn.Close()
}

// transmission is how long n bytes take at the rate.
func (f Faults) transmission(n int) time.Duration {
	if f.Rate <= 0 {
		return 0
	}
	return time.Duration(math.Ceil(float64(n) / float64(f.Rate) * float64(time.Second)))
}

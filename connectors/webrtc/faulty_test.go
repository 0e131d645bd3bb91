package webrtc

import (
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"

	"ninja/connectors/connectorstest"
	"ninja/internal/world"
)

// faultyNet is the system's network whose datagrams are duplicated and late, and lost where loss says so.
type faultyNet struct {
	transport.Net
	loss, duplicate float64
	delay           time.Duration

	mu     sync.Mutex
	random *rand.Rand
}

func newFaultyNet(t *testing.T, loss float64) *faultyNet {
	n, err := stdnet.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &faultyNet{Net: n, loss: loss, duplicate: 0.1, delay: 5 * time.Millisecond, random: rand.New(rand.NewPCG(seed, 0))}
}

// ListenUDP implements transport.Net.
func (n *faultyNet) ListenUDP(network string, at *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, at)
	return &faultyConn{c, n}, err
}

type faultyConn struct {
	transport.UDPConn
	net *faultyNet
}

// WriteTo implements net.PacketConn.
func (c *faultyConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.net.mu.Lock()
	lost, twice, late := c.net.random.Float64() < c.net.loss, c.net.random.Float64() < c.net.duplicate, time.Duration(c.net.random.Int64N(int64(c.net.delay)))
	c.net.mu.Unlock()
	if lost {
		return len(b), nil
	}
	b = append([]byte(nil), b...)
	for range map[bool]int{false: 1, true: 2}[twice] {
		time.AfterFunc(late, func() { c.UDPConn.WriteTo(b, to) })
	}
	return len(b), nil
}

// Delay, duplicates and order do not show in what a hop means.
func TestConformanceSoundFaulty(t *testing.T) {
	kit()(t, func(t *testing.T) connectorstest.Ends {
		p := connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real())
		return ends(p, Config{Reorder: 500 * time.Millisecond, net: newFaultyNet(t, 0)}, pcmu)
	})
}

// Nor does loss, on the data channel.
func TestConformanceDataFaulty(t *testing.T) {
	kit()(t, func(t *testing.T) connectorstest.Ends {
		p := connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real())
		return ends(p, Config{Linger: 10 * time.Second, net: newFaultyNet(t, 0.02)}, "text/plain;lang=en")
	})
}

// kit is all of it where promises are proven, else the part of it that takes seconds.
func kit() func(*testing.T, func(*testing.T) connectorstest.Ends) {
	if os.Getenv("NINJA_PROVE") == "1" {
		return connectorstest.Run
	}
	return connectorstest.RunSome
}

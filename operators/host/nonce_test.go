package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ninja/ca/seal"
	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/connectors/rtp"
	"ninja/connectors/udp"
	"ninja/internal/world"
)

// ledger writes down the nonces of all sealed datagrams that a world sends, each with the name of its key: seal's handle
// and SRTP's SSRC are made with the key by the TLS exporter and stand in clear, as do the counters.
type ledger struct {
	mu     sync.Mutex
	keys   map[string]bool
	nonces map[string]bool
	twice  []string
}

// network records what is sent by the network within.
type network struct {
	world.Network
	ledger *ledger
}

type recorded struct {
	net.Conn
	ledger *ledger
}

func (n network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := n.Network.Dial(ctx, network, address)
	if err != nil || !strings.HasPrefix(network, "udp") {
		return c, err
	}
	return recorded{c, n.ledger}, nil
}

func (c recorded) Write(b []byte) (int, error) {
	c.ledger.note(b)
	return c.Conn.Write(b)
}

func (l *ledger) note(d []byte) {
	key, nonce := "", ""
	if h, err := seal.Parse(d); err == nil {
		key = fmt.Sprintf("seal %x", h.Handle)
		nonce = fmt.Sprint(key, " ", h.Counter)
	} else { // SRTP; no stream of the test is so long that its sequence number wraps
		key = fmt.Sprintf("srtp %x", binary.BigEndian.Uint32(d[8:]))
		nonce = fmt.Sprint(key, " ", binary.BigEndian.Uint16(d[2:]))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[key] = true
	if l.nonces[nonce] {
		l.twice = append(l.twice, nonce)
	}
	l.nonces[nonce] = true
}

// rounds is how many repairs and how many moves: 100 of each in make prove.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE")); err == nil && n > 1 {
		return 100
	}
	return 5
}

// Threats, row 21: "no (key, nonce) pair twice in 100 repairs and 100 moves", with sockets of the hops' own and on trunks.
// A repair makes the path anew after the old one is gone, or replaces the node of the source while the sink goes on; a move
// is made beside the old epoch, which still sends, and both stages go on.
func TestNoNonceTwice(t *testing.T) {
	for name, make := range map[string]func(testing.TB, string, ...world.World) []connectorstest.Process{
		"own sockets": connectorstest.Processes, "trunks": connectorstest.Trunked,
	} {
		for _, scheme := range []string{"udp", "rtp"} {
			t.Run(scheme+" "+name, func(t *testing.T) { remake(t, scheme, make) })
		}
	}
}

func remake(t *testing.T, scheme string, make func(testing.TB, string, ...world.World) []connectorstest.Process) {
	s := newScene(t)
	l := &ledger{keys: map[string]bool{}, nonces: map[string]bool{}}
	w := world.Real()
	w.Net = network{w.Net, l}
	ends := make(t, "127.0.0.1:0", w, w)
	var nodes []node
	for _, e := range ends {
		nodes = append(nodes, s.host(e.Identity.ID().Name(), func(c *Config) {
			c.Transports = []connectors.Transport{
				udp.New(udp.Config{Hops: e.Hops, Identity: e.Identity, World: e.World}),
				rtp.New(rtp.Config{Hops: e.Hops, Identity: e.Identity, World: e.World}),
			}
		}))
	}
	ctx := t.Context()
	var old []*Session
	for epoch := range uint32(3 * rounds()) {
		move, repair := epoch%3 == 1, epoch%3 == 2
		hop := func(n int) *HopEnd {
			return &HopEnd{Hop: "h", Transport: scheme, Type: connectors.MustType("audio/L16;channels=1;rate=8000"), Peer: ends[n].Identity.ID()}
		}
		prepare := func(n int, st Stage) (*Session, map[string]string) {
			session := s.open(nodes[n])
			st.Carry = st.ID
			addresses, err := session.Prepare(ctx, Assignment{
				Path: "p", Epoch: epoch + 1, Beside: move || repair, Drain: time.Second, Stages: []Stage{st},
			})
			must(t, err)
			return session, addresses
		}
		switch {
		case repair:
			must(t, old[0].Close(ctx))
		case !move:
			for _, each := range old {
				must(t, each.Close(ctx))
			}
		}
		second, addresses := prepare(1, step("sink", "sink", hop(0), nil))
		first, _ := prepare(0, step("source", "speech", nil, hop(1)))
		must(t, first.Connect(ctx, addresses))
		must(t, second.Start(ctx))
		must(t, first.Start(ctx))
		s.more(3)
		old = []*Session{first, second}
	}
	for _, each := range old {
		must(t, each.Close(ctx))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.nonces) > 0 && len(l.twice) == 0 { // the ledger sees one when there is one
		sealer, err := seal.NewSealer(bytes.Repeat([]byte{1}, seal.KeySize), 1)
		must(t, err)
		d, err := sealer.Seal(nil, 1, nil)
		must(t, err)
		check := &ledger{keys: map[string]bool{}, nonces: map[string]bool{}}
		check.note(d)
		check.note(d)
		if len(check.twice) != 1 {
			t.Fatal("the ledger does not see a nonce that comes twice")
		}
	}
	t.Logf("PROVE %s: %d paths made anew, %d moves with stages that go on, %d repairs with one, %d keys, %d nonces, %d twice", t.Name(), rounds(), rounds(), rounds(), len(l.keys), len(l.nonces), len(l.twice))
	if len(l.twice) > 0 || len(l.nonces) < 3*rounds() || len(l.keys) == 0 {
		t.Errorf("%d keys, %d nonces; twice: %.10q", len(l.keys), len(l.nonces), l.twice)
	}
}

package trunk

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca"
	"ninja/connectors/hop"
	"ninja/internal/world"
)

// Config of a Pool.
type Config struct {
	// Identity is who the process is; World is its surroundings. Both are required.
	Identity *ca.Identity
	World    world.World
	// Log may be nil.
	Log *slog.Logger
	// OneByOne does without the kernel's help, for comparison.
	OneByOne bool
}

// Times and bounds of a Pool.
const (
	// idle is how long a trunk stays open that no hop uses; the receiving end waits longer, so that it is the sending end
	// that closes.
	idle         = 10 * time.Second
	idleReceiver = 3 * idle
	// maxServed is how many trunks a peer may have here: one that ends and one that begins.
	maxServed = 2
	// redialAtFirst and redialAtMost bound the pause before a trunk is dialled again that was lost.
	redialAtFirst = 50 * time.Millisecond
	redialAtMost  = 5 * time.Second
)

// Pool is the trunks of a process: one to each peer that its hops send to, one from each that sends. It implements
// hop.Carrier.
//
// A trunk that is lost is dialled again for as long as hops use it, under new keys; what they send meanwhile is lost.
type Pool struct {
	cfg  Config
	stop chan struct{}
	work sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	peers   map[ca.ID]*peer
	lines   map[lineKey]*line
}

// peer is what the streams from a peer have in common.
type peer struct {
	users int // streams and trunks, under the pool's lock

	current atomic.Pointer[In] // the trunk whose socket readers may read

	mu      sync.Mutex
	streams map[streamKey]*hop.Queue
	opened  bool // any since the last look
	trunks  []served
}

// Lead implements hop.Pump.
func (e *peer) Lead(q *hop.Queue) bool {
	in := e.current.Load()
	return in != nil && in.turn.lead(q)
}

// Leave implements hop.Pump.
func (e *peer) Leave(q *hop.Queue) {
	if in := e.current.Load(); in != nil {
		in.turn.leave(q)
	}
}

// Kick implements hop.Pump.
func (e *peer) Kick(q *hop.Queue) {
	if in := e.current.Load(); in != nil {
		in.turn.kick(q)
	}
}

// served is a trunk that the peer has here, and what ends it.
type served struct {
	in     *In
	cancel func()
}

// serve makes the trunk the one that readers may read, in place of an older one.
func (e *peer) serve(in *In, cancel func()) {
	e.mu.Lock()
	if len(e.trunks) == maxServed {
		e.trunks[0].cancel()
		e.trunks = e.trunks[1:]
	}
	e.trunks = append(e.trunks, served{in, cancel})
	e.mu.Unlock()
	if old := e.current.Swap(in); old != nil {
		old.turn.set(false)
		old.call()
	}
}

// served forgets a trunk that has ended.
func (e *peer) served(in *In) {
	e.current.CompareAndSwap(in, nil)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.trunks = slices.DeleteFunc(e.trunks, func(s served) bool { return s.in == in })
}

// direct lets readers read the trunk, if it is still the one.
func (e *peer) direct(in *In) bool {
	if e.current.Load() != in {
		return false
	}
	in.turn.set(true)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, q := range e.streams {
		q.Wake()
	}
	return true
}

type streamKey struct {
	stream uint64
	epoch  uint32
}

type lineKey struct {
	peer    ca.ID
	address string
}

// NewPool makes a Pool. Close ends it.
func NewPool(cfg Config) *Pool {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Pool{cfg: cfg, stop: make(chan struct{}), peers: make(map[ca.ID]*peer), lines: make(map[lineKey]*line)}
}

// Close ends the trunks that this process sends on, and waits for that. It may be called again.
func (p *Pool) Close() error {
	p.mu.Lock()
	if !p.stopped {
		p.stopped = true
		close(p.stop)
	}
	p.mu.Unlock()
	p.work.Wait()
	return nil
}

// hold returns the peer's entry, which release lets go of.
func (p *Pool) hold(id ca.ID) *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.peers[id]
	if e == nil {
		e = &peer{streams: make(map[streamKey]*hop.Queue)}
		p.peers[id] = e
	}
	e.users++
	return e
}

func (p *Pool) release(id ca.ID, e *peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(p.peers, id)
	}
}

// Receive implements hop.Carrier.
func (p *Pool) Receive(id ca.ID, stream uint64, epoch uint32) (*hop.Queue, error) {
	e, key := p.hold(id), streamKey{stream, epoch}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.streams[key] != nil {
		p.release(id, e)
		return nil, fmt.Errorf("stream %x of epoch %d from %s is open already", stream, epoch, id)
	}
	q := hop.NewQueue(e, func() {
		e.mu.Lock()
		delete(e.streams, key)
		e.mu.Unlock()
		p.release(id, e)
	})
	e.streams[key], e.opened = q, true
	return q, nil
}

// deliver puts a datagram into the queue of its stream. One that nobody waits for, as of a hop that has ended, is dropped.
func (e *peer) deliver(stream uint64, epoch uint32, payload []byte) {
	e.mu.Lock()
	q := e.streams[streamKey{stream, epoch}]
	e.mu.Unlock()
	if q != nil {
		q.Put(payload)
	}
}

// used reports whether any hop receives from the peer, or has since the last look.
func (e *peer) used() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	used := e.opened || len(e.streams) > 0
	e.opened = false
	return used
}

// Serve implements hop.Carrier. A peer from which no hop receives is sent away after a while; of more trunks than it may
// have the oldest gives way, because a peer that has started anew does not end what it had before.
func (p *Pool) Serve(s *hop.Session, conn net.PacketConn) error {
	in, err := newIn(s, conn)
	if err != nil {
		conn.Close()
		s.Abandon(err)
		return err
	}
	e := p.hold(s.Peer())
	defer p.release(s.Peer(), e)
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch(ctx, cancel, e)
	}()
	defer func() { cancel(); <-watched }()
	e.serve(in, cancel)
	defer e.served(in)
	if err := in.Run(ctx, e.deliver, func() bool { return e.direct(in) }); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// watch calls cancel when no hop receives from the peer for long, until ctx ends.
func watch(ctx context.Context, cancel func(), e *peer) {
	for unused := 0; unused < 2; unused++ {
		if world.Sleep(ctx, idleReceiver) != nil {
			return
		}
		if e.used() {
			unused = -1
		}
	}
	cancel()
}

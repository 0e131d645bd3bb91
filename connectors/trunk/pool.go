package trunk

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca"
	"ninja/connectors"
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
	trunk int // trunks served

	current atomic.Pointer[In] // the trunk whose socket readers may read

	mu      sync.Mutex
	streams map[streamKey]*hop.Queue
	opened  bool // any since the last look
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

// serve makes the trunk the one that readers may read, in place of an older one.
func (e *peer) serve(in *In) {
	if old := e.current.Swap(in); old != nil {
		old.turn.set(false)
		old.call()
	}
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

// Serve implements hop.Carrier. A peer from which no hop receives is sent away after a while.
func (p *Pool) Serve(s *hop.Session, conn net.PacketConn) error {
	refuse := func(err error) error {
		conn.Close()
		s.Abandon(err)
		return err
	}
	e := p.hold(s.Peer())
	defer p.release(s.Peer(), e)
	p.mu.Lock()
	many := e.trunk >= maxServed
	if !many {
		e.trunk++
		defer func() { p.mu.Lock(); e.trunk--; p.mu.Unlock() }()
	}
	p.mu.Unlock()
	if many {
		return refuse(fmt.Errorf("%s has %d trunks here already", s.Peer(), maxServed))
	}
	in, err := newIn(s, conn)
	if err != nil {
		return refuse(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch(ctx, cancel, e)
	}()
	defer func() { cancel(); <-watched }()
	e.serve(in)
	defer e.current.CompareAndSwap(in, nil)
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

// line is the trunk to one peer, which is dialled again when it is lost. run owns it.
type line struct {
	pool  *Pool
	key   lineKey
	out   atomic.Pointer[Out] // nil while there is none
	ready chan struct{}       // closed when the first dial has ended, after err is set
	err   error
	users int // under the pool's lock
	left  chan struct{}
}

// Send implements hop.Carrier.
func (p *Pool) Send(ctx context.Context, address string, id ca.ID, stream uint64, epoch uint32) (io.WriteCloser, error) {
	l, err := p.line(lineKey{id, address})
	if err != nil {
		return nil, err
	}
	s := &sender{line: l, stream: stream, epoch: epoch}
	select {
	case <-l.ready:
		err = l.err
	case <-ctx.Done():
		err = fmt.Errorf("dial the trunk to %s at %s: %w", id, address, ctx.Err())
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// line returns the trunk to a peer, which is made where there is none.
func (p *Pool) line(key lineKey) (*line, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil, connectors.ErrClosed
	}
	l := p.lines[key]
	if l == nil {
		l = &line{pool: p, key: key, ready: make(chan struct{}), left: make(chan struct{}, 1)}
		p.lines[key] = l
		p.work.Go(l.run)
	}
	l.users++
	return l, nil
}

// run keeps the trunk while hops use it.
func (l *line) run() {
	p := l.pool
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.work.Go(func() {
		select {
		case <-p.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	pause := redialAtFirst
	for first := true; ; first = false {
		out, err := l.dial(ctx)
		if first {
			if l.err = err; err != nil {
				l.forget()
			}
			close(l.ready)
		}
		switch {
		case err != nil && first:
			return
		case err == nil:
			pause = redialAtFirst
			l.out.Store(out)
			lost := l.hold(ctx, out)
			l.out.Store(nil)
			out.Close()
			if !lost {
				return
			}
			p.cfg.Log.Warn("trunk lost; it is dialled again", "peer", l.key.peer, "address", l.key.address)
		default:
			p.cfg.Log.Warn("trunk is dialled again", "peer", l.key.peer, "address", l.key.address, "err", err)
		}
		if world.Sleep(ctx, p.cfg.World.Jitter(pause)) != nil || l.forgetUnused() {
			return
		}
		pause = min(2*pause, redialAtMost)
	}
}

func (l *line) dial(ctx context.Context) (*Out, error) {
	cfg := l.pool.cfg
	s, conn, err := hop.DialTrunk(ctx, cfg.World, cfg.Identity, l.key.address, l.key.peer)
	if err != nil {
		return nil, err
	}
	out, err := newOut(s, conn, cfg.OneByOne)
	if err != nil {
		conn.Close()
		s.Abandon(err)
	}
	return out, err
}

// hold waits while the trunk lasts and is used; lost says that it broke.
func (l *line) hold(ctx context.Context, out *Out) (lost bool) {
	unused := time.NewTimer(idle)
	defer unused.Stop()
	for {
		select {
		case <-out.Done():
			return !l.forgetUnused()
		case <-ctx.Done():
			l.forget()
			return false
		case <-l.left:
			unused.Reset(idle)
		case <-unused.C:
			if l.forgetUnused() {
				return false
			}
		}
	}
}

// forget takes the line off the books, so that the next hop makes another.
func (l *line) forget() {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	l.strike()
}

func (l *line) strike() {
	if l.pool.lines[l.key] == l {
		delete(l.pool.lines, l.key)
	}
}

// forgetUnused does so when no hop uses it.
func (l *line) forgetUnused() bool {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	if l.users > 0 {
		return false
	}
	l.strike()
	return true
}

// sender is the sending end of a stream.
type sender struct {
	line   *line
	stream uint64
	epoch  uint32
	once   sync.Once
}

// Write sends a datagram. While the trunk is lost so are its datagrams: the hop's own session says whether the peer is.
func (s *sender) Write(d []byte) (int, error) {
	if out := s.line.out.Load(); out != nil {
		out.Send(s.stream, s.epoch, d)
	}
	return len(d), nil
}

// Close lets go of the trunk.
func (s *sender) Close() error {
	s.once.Do(func() {
		p := s.line.pool
		p.mu.Lock()
		s.line.users--
		p.mu.Unlock()
		select {
		case s.line.left <- struct{}{}:
		default:
		}
	})
	return nil
}

package trunk

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/connectors/hop"
	"ninja/internal/world"
)

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
		if err == nil {
			l.out.Store(out)
		}
		if first { // after the trunk is there: what is written from now on must not be lost
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

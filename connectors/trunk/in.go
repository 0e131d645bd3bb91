package trunk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ninja/ca/seal"
	"ninja/connectors/hop"
)

// In is the receiving end.
type In struct {
	session *hop.Session
	conn    net.PacketConn
	raw     syscall.RawConn // nil outside the kernel
	ended   chan struct{}   // the sending end has ended it
	endOnce sync.Once
	called  chan struct{} // holds a token when Run is to look again
	turn    turn

	packets, strange atomic.Uint64
	many             atomic.Bool // came, by the rate, when some came last

	mu       sync.Mutex // held while what has come is read and delivered
	opener   *seal.Opener
	source   netip.AddrPort // of the first genuine datagram
	slab     []byte         // what was opened last is at its end
	deliver  func(stream uint64, epoch uint32, payload []byte)
	rate     rate
	rated    uint64 // packets that are counted in it
	message  *message
	readOnce func(fd uintptr) bool // reads what is there and reports whether anything was
	tryRead  func(fd uintptr)      // is readOnce without the report
}

func newIn(s *hop.Session, conn net.PacketConn) (*In, error) {
	key, handle, err := secrets(s)
	if err != nil {
		return nil, err
	}
	opener, err := seal.NewOpener(key, handle)
	if err != nil {
		return nil, err
	}
	i := &In{session: s, conn: conn, opener: opener, ended: make(chan struct{}), called: make(chan struct{}, 1)}
	i.turn.in = i
	if kernel := udp(conn); kernel != nil {
		if i.raw, err = kernel.SyscallConn(); err != nil {
			return nil, fmt.Errorf("make the receiving end of a trunk: %w", err)
		}
		coalesce(kernel) // where the kernel cannot, datagrams come one by one
		i.message = newMessage()
	}
	i.readOnce, i.tryRead = i.readRaw, func(fd uintptr) { i.readRaw(fd) }
	s.Begin(hop.Handler{
		End:   func(uint64) { i.endOnce.Do(func() { close(i.ended) }); i.call() },
		Ended: i.call,
	})
	return i, nil
}

// call makes Run look again.
func (i *In) call() {
	select {
	case i.called <- struct{}{}:
	default:
	}
	i.turn.wake(past)
}

const (
	// drain is how long datagrams are taken after the end was said: they may come later than it.
	drain = 50 * time.Millisecond
	// pollEvery is the pause between two looks at the socket while many datagrams come.
	pollEvery = 500 * time.Microsecond
	// leastPolls is how often it looks before it believes that few come. It is not a time: after a stall of the process
	// nothing has come for long, and what all senders make up for then comes at once.
	leastPolls = 20
)

// Run takes datagrams until the sending end closes, which returns nil, or the trunk breaks, or ctx ends, whose error it
// returns; then it releases the trunk. deliver must not block; one goroutine at a time calls it, and the payload is the
// callee's. What is not genuine, or came before, is counted and dropped.
//
// direct allows readers of streams to read in its place while few come (see turn); it may be nil.
func (i *In) Run(ctx context.Context, deliver func(stream uint64, epoch uint32, payload []byte), direct func() bool) error {
	defer i.conn.Close()
	defer i.session.Leave()
	defer i.turn.set(false)
	defer context.AfterFunc(ctx, i.call)()
	i.mu.Lock()
	i.deliver = deliver
	i.mu.Unlock()
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	polls := 0 // that are left before it counts that no crowd comes
	for {
		if over, err := i.over(ctx); over {
			return err
		}
		if i.raw != nil && i.busy() && i.crowded() {
			polls = leastPolls
		}
		switch {
		case polls > 0:
			polls--
			i.raw.Control(i.poll)
			timer.Reset(pollEvery)
			<-timer.C
		case i.raw != nil && direct != nil && !i.busy() && direct():
			<-i.called
		default:
			i.turn.wake(time.Time{})
			if err := i.read(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("read the trunk: %w", err)
			}
		}
	}
}

// poll reads what is there.
func (i *In) poll(fd uintptr) {
	for range maxReads {
		if !i.readRaw(fd) {
			return
		}
	}
}

// over reports whether the trunk has come to its end.
func (i *In) over(ctx context.Context) (bool, error) {
	select {
	case <-i.ended: // what is under way is waited for
		i.turn.set(false)
		i.turn.wake(time.Now().Add(drain))
		for i.read() == nil {
		}
		return true, nil
	default:
	}
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-i.session.Done():
		select {
		case <-i.ended: // since the look above
			return i.over(ctx)
		default:
			return true, i.session.Err()
		}
	default:
		return false, nil
	}
}

// maxReads bounds what is read between two looks at whether the trunk goes on.
const maxReads = 64

// busy reports whether many datagrams come.
func (i *In) busy() bool {
	if !i.counted() {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	many := i.rate.expects(time.Now())
	i.many.Store(many)
	return many
}

// crowded reports whether so many come that polling is cheaper than being woken for each batch.
func (i *In) crowded() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.rate.level >= crowd*float64(memory/patience)
}

// read waits for datagrams and delivers them.
func (i *In) read() error {
	if i.raw != nil {
		return i.raw.Read(i.readOnce)
	}
	b := make([]byte, seal.MaxDatagram+1)
	n, a, err := i.conn.ReadFrom(b)
	if err != nil {
		return err
	}
	var from netip.AddrPort
	if u, ok := a.(*net.UDPAddr); ok {
		from = u.AddrPort()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.take(b[:n], from)
	return nil
}

// readRaw reads what the kernel has put together: datagrams of one size, the last perhaps shorter.
func (i *In) readRaw(fd uintptr) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	b, size, from, ok := i.message.receive(int(fd))
	if !ok {
		return false
	}
	for len(b) > 0 {
		n := min(size, len(b))
		i.take(b[:n], from)
		b = b[n:]
	}
	return true
}

// counted counts what has come since the last time, and reports whether many datagrams come.
func (i *In) counted() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	came := i.packets.Load()
	if came != i.rated {
		now := time.Now()
		i.rate.add(now, float64(came-i.rated))
		i.rated = came
		i.many.Store(i.rate.expects(now))
	}
	return i.many.Load()
}

// take opens a datagram and delivers what it holds. The caller holds the lock.
func (i *In) take(d []byte, from netip.AddrPort) {
	if i.source.IsValid() && from != i.source {
		i.strange.Add(1)
		return
	}
	if cap(i.slab)-len(i.slab) < seal.MaxDatagram {
		i.slab = make([]byte, 0, slabSize)
	}
	used := len(i.slab)
	plain, h, err := i.opener.Open(i.slab[used:used:cap(i.slab)], d)
	if err != nil || h.Kind != kindBundle {
		i.strange.Add(1)
		return
	}
	i.source = from
	i.slab = i.slab[:used+len(plain)]
	for ok := true; ok; {
		var stream uint64
		var epoch uint32
		var payload []byte
		if stream, epoch, payload, plain, ok, err = parseFrame(plain); ok {
			i.packets.Add(1)
			i.deliver(stream, epoch, payload)
		}
	}
	if err != nil {
		i.strange.Add(1)
	}
}

// slabSize is how much is allocated at once for what comes: an allocation for many payloads, which hold it until the last
// of them is gone.
const slabSize = 64 << 10

// Stats counts the datagrams delivered, and those that were not the sending end's or came before.
func (i *In) Stats() (packets, strange uint64) { return i.packets.Load(), i.strange.Load() }

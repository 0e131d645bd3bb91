package trunk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca/seal"
	"ninja/connectors/hop"
)

// In is the receiving end.
type In struct {
	session *hop.Session
	conn    net.PacketConn
	kernel  *net.UDPConn // nil outside the kernel
	opener  *seal.Opener
	ended   chan struct{} // the sending end has ended it
	endOnce sync.Once
	source  netip.AddrPort // of the first genuine datagram
	slab    []byte         // what was opened last is at its end

	packets, strange atomic.Uint64
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
	i := &In{
		session: s, conn: conn, kernel: udp(conn), opener: opener, ended: make(chan struct{}),
	}
	if i.kernel != nil {
		coalesce(i.kernel) // where the kernel cannot, datagrams come one by one
	}
	s.Begin(hop.Handler{
		End: func(uint64) { i.endOnce.Do(func() { close(i.ended) }); i.wake(drain) },
		Ended: func() {
			select {
			case <-i.ended: // what is under way is waited for
			default:
				i.wake(0)
			}
		},
	})
	return i, nil
}

// drain is how long datagrams are taken after the end was said: they may come later than it.
const drain = 50 * time.Millisecond

// wake ends a read within the time.
func (i *In) wake(within time.Duration) { i.conn.SetReadDeadline(time.Now().Add(within)) }

// Run takes datagrams until the sending end closes, which returns nil, or the trunk breaks, or ctx ends, whose error it
// returns; then it releases the trunk. deliver is called by this goroutine and must not block; the payload is the callee's.
// What is not genuine, or came before, is counted and dropped.
func (i *In) Run(ctx context.Context, deliver func(stream uint64, epoch uint32, payload []byte)) error {
	defer i.conn.Close()
	defer i.session.Leave()
	defer context.AfterFunc(ctx, func() { i.wake(0) })()
	b, control := make([]byte, 1<<16), make([]byte, 64)
	for {
		n, size, from, err := i.read(b, control)
		if err == nil {
			for d := b[:n]; len(d) > 0; d = d[min(size, len(d)):] {
				i.take(d[:min(size, len(d))], from, deliver)
			}
			continue
		}
		select {
		case <-i.ended:
			return nil
		default:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-i.session.Done():
			return i.session.Err()
		default:
		}
		if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
			return fmt.Errorf("read the trunk: %w", err)
		}
	}
}

// read reads what the kernel has put together: datagrams of the size, the last perhaps shorter.
func (i *In) read(b, control []byte) (n, size int, from netip.AddrPort, err error) {
	if i.kernel != nil {
		var k int
		n, k, _, from, err = i.kernel.ReadMsgUDPAddrPort(b, control)
		size = n
		if s := segmentSize(control[:k]); s > 0 {
			size = s
		}
		return n, max(size, 1), from, err
	}
	n, a, err := i.conn.ReadFrom(b)
	if u, ok := a.(*net.UDPAddr); ok {
		from = u.AddrPort()
	}
	return n, max(n, 1), from, err
}

func (i *In) take(d []byte, from netip.AddrPort, deliver func(uint64, uint32, []byte)) {
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
			deliver(stream, epoch, payload)
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

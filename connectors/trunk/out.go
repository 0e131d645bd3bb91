package trunk

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca/seal"
	"ninja/connectors"
	"ninja/connectors/hop"
)

const (
	// patience is how long a datagram waits for others.
	patience = time.Millisecond
	// maxSegments is how many the kernel takes at once, maxBatch how many bytes.
	maxSegments = 64
	maxBatch    = 65_000
	// classes is how many lengths there are.
	classes = (seal.MaxDatagram + seal.Step - 1) / seal.Step
	// linger bounds Close.
	linger = 2 * time.Second
)

// group is the datagrams of one length that wait. They are sealed when they leave, so that the counters on the wire are
// in order: the replay window is narrower than what may wait here.
type group struct {
	plain []byte // all payloads of the seal, one after the other
	ends  []int  // of each
	size  int    // of the sealed datagrams
}

// Out is the sending end. Its methods may be called by any goroutine.
type Out struct {
	session *hop.Session
	conn    net.Conn
	once    sync.Once
	result  error

	packets, batches atomic.Uint64

	mu      sync.Mutex
	sealer  *seal.Sealer
	groups  [classes + 1]group
	timer   *time.Timer
	armed   bool
	sealed  []byte
	control []byte       // asks for segmentation; nil without offload
	kernel  *net.UDPConn // nil outside the kernel
	closed  bool
}

func newOut(s *hop.Session, conn net.Conn, oneByOne bool) (*Out, error) {
	key, handle, err := secrets(s)
	if err != nil {
		return nil, err
	}
	sealer, err := seal.NewSealer(key, handle)
	if err != nil {
		return nil, err
	}
	o := &Out{session: s, conn: conn, sealer: sealer, kernel: udp(conn), sealed: make([]byte, 0, maxBatch+2*seal.MaxDatagram)}
	if o.kernel != nil && !oneByOne && canSegment(o.kernel) {
		o.control = segmentControl()
	}
	o.timer = time.AfterFunc(time.Hour, o.fire)
	o.timer.Stop()
	s.Begin(hop.Handler{Event: func(connectors.Event) {}})
	return o, nil
}

// Send sends a datagram of a stream, within a millisecond. The payload is copied. The error is that of the trunk: what
// the network loses is not one.
func (o *Out) Send(stream uint64, epoch uint32, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("datagram of %d bytes: a trunk carries %d", len(payload), MaxPayload)
	}
	select {
	case <-o.session.Done():
		return o.session.Err()
	default:
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return connectors.ErrClosed
	}
	class := (headerSize + len(payload) + seal.Overhead + seal.Step - 1) / seal.Step
	g := &o.groups[class]
	g.size = min(class*seal.Step, seal.MaxDatagram)
	g.plain = append(appendHeader(g.plain, stream, epoch), payload...)
	g.ends = append(g.ends, len(g.plain))
	if len(g.ends) == maxSegments || (len(g.ends)+1)*g.size > maxBatch {
		return o.flush(g)
	}
	if !o.armed {
		o.armed = true
		o.timer.Reset(patience)
	}
	return nil
}

// fire sends what has waited.
func (o *Out) fire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.armed = false
	o.flushAll()
}

func (o *Out) flushAll() {
	for i := range o.groups {
		o.flush(&o.groups[i]) // an error shows with the next Send
	}
}

// flush seals and sends a group. The caller holds the lock.
func (o *Out) flush(g *group) error {
	n := len(g.ends)
	if n == 0 {
		return nil
	}
	b, from := o.sealed[:0], 0
	var err error
	for _, to := range g.ends {
		if b, err = o.sealer.Seal(b, kindTrunk, g.plain[from:to]); err != nil {
			return err
		}
		from = to
	}
	g.plain, g.ends = g.plain[:0], g.ends[:0]
	o.packets.Add(uint64(n))
	o.write(b, g.size, n)
	return nil
}

// write writes n datagrams of the size. What the network refuses is lost; when the peer is gone the session says so.
func (o *Out) write(b []byte, size, n int) {
	if o.control != nil && n > 1 {
		setSegment(o.control, size)
		_, _, err := o.kernel.WriteMsgUDPAddrPort(b, o.control, netip.AddrPort{})
		if err == nil || !refusesSegments(err) {
			o.batches.Add(1)
			return
		}
		o.control = nil // this way out cannot: from now on one by one
	}
	for ; len(b) > 0; b = b[size:] {
		o.conn.Write(b[:size])
		o.batches.Add(1)
	}
}

// Close sends what waits and ends the trunk. It may be called again.
func (o *Out) Close() error {
	o.once.Do(func() {
		o.mu.Lock()
		o.flushAll()
		o.closed = true
		o.timer.Stop()
		o.mu.Unlock()
		o.result = o.session.Finish(o.packets.Load(), linger)
		o.conn.Close()
	})
	return o.result
}

// Stats counts the datagrams of streams and the calls that it took to send them.
func (o *Out) Stats() (packets, calls uint64) { return o.packets.Load(), o.batches.Load() }

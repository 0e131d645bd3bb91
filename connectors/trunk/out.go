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
	// patience is how long a payload waits for others.
	patience = time.Millisecond
	// maxSegments is how many datagrams the kernel takes at once, maxBatch how many bytes.
	maxSegments = 64
	maxBatch    = 65_000
	// wasted is how much of a bundle may stay empty to make it as long as the others.
	wasted = 256
	// A payload waits where company is expected: where company payloads came in a millisecond lately, over about memory.
	memory  = 4 * time.Millisecond
	company = 3
	// crowd is how many in a millisecond make the receiving end poll.
	crowd = 16
	// linger bounds Close.
	linger = 2 * time.Second
)

// batch is what waits: bundles in the clear, one after the other.
type batch struct {
	plain []byte
	ends  []int // of each bundle but the open one, which is the last
}

// Out is the sending end. Its methods may be called by any goroutine.
type Out struct {
	session *hop.Session
	conn    net.Conn
	once    sync.Once
	result  error

	packets, batches atomic.Uint64

	// sending is held while a batch is sealed and written, so that the counters on the wire are in order: the replay
	// window is narrower than what may wait. It is taken before mu.
	sending sync.Mutex
	sealer  *seal.Sealer
	spare   batch
	sealed  []byte
	plain   []byte       // of a payload that is sent alone
	out     *hop.Outlet  // of conn
	control []byte       // asks for segmentation; nil without offload
	kernel  *net.UDPConn // nil outside the kernel

	mu     sync.Mutex
	batch  batch
	begin  int // of the open bundle
	timer  *time.Timer
	armed  bool
	closed bool
	rate   rate
	many   bool // others were to be expected after the last
}

// rate estimates how many payloads came lately.
type rate struct {
	level float64 // decays within memory
	last  time.Time
}

// expects reports whether others are to be expected within patience.
func (r *rate) expects(now time.Time) bool {
	r.add(now, 0)
	return r.level >= company*float64(memory/patience)
}

// add counts n.
func (r *rate) add(now time.Time, n float64) {
	passed := now.Sub(r.last)
	r.last = now
	if passed >= memory {
		r.level = 0
	} else {
		r.level -= r.level * float64(passed) / float64(memory)
	}
	r.level += n
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
	o := &Out{session: s, conn: conn, sealer: sealer, kernel: udp(conn), out: hop.NewOutlet(conn), sealed: make([]byte, 0, maxBatch+2*seal.MaxDatagram)}
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
	if o.closed {
		o.mu.Unlock()
		return connectors.ErrClosed
	}
	// The clock is read only once the payload is on its way, when few came before it and nothing waits.
	if !o.many && len(o.batch.plain) == 0 && o.sending.TryLock() {
		o.mu.Unlock()
		return o.sendAlone(stream, epoch, payload)
	}
	if len(o.batch.plain)-o.begin+frameHeader+len(payload) > seal.MaxPayload {
		o.closeBundle()
	}
	o.batch.plain = appendFrame(o.batch.plain, stream, epoch, payload)
	o.packets.Add(1)
	full := len(o.batch.plain) > maxBatch-2*seal.MaxDatagram
	if o.count() && !full {
		if !o.armed {
			o.armed = true
			o.timer.Reset(patience)
		}
		o.mu.Unlock()
		return nil
	}
	o.mu.Unlock()
	return o.flush()
}

// count counts a payload and reports whether others were to be expected before it. The caller holds the lock.
func (o *Out) count() bool {
	now := time.Now()
	wait := o.rate.expects(now)
	o.rate.add(now, 1)
	o.many = o.rate.expects(now)
	return wait
}

// sendAlone sends a payload in a datagram of its own. The caller has locked sending.
func (o *Out) sendAlone(stream uint64, epoch uint32, payload []byte) error {
	o.plain = appendFrame(o.plain[:0], stream, epoch, payload)
	d, err := o.sealer.Seal(o.sealed[:0], kindBundle, o.plain)
	if err == nil {
		o.out.Write(d)
	}
	o.sending.Unlock()
	o.packets.Add(1)
	o.batches.Add(1)
	o.mu.Lock()
	o.count()
	o.mu.Unlock()
	return err
}

// closeBundle closes the open bundle, and fills it where little is wasted by that.
func (o *Out) closeBundle() {
	if n := seal.MaxPayload - (len(o.batch.plain) - o.begin); n <= wasted {
		o.batch.plain = append(o.batch.plain, zeros[:n]...)
	}
	o.begin = len(o.batch.plain)
	o.batch.ends = append(o.batch.ends, o.begin)
}

var zeros [wasted]byte

// fire sends what has waited.
func (o *Out) fire() {
	o.flush() // an error shows with the next Send
}

// take takes what waits.
func (o *Out) take() batch {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.armed {
		o.armed = false
		o.timer.Stop()
	}
	if len(o.batch.plain) > o.begin {
		o.batch.ends = append(o.batch.ends, len(o.batch.plain))
	}
	b := o.batch
	o.batch, o.begin = batch{o.spare.plain[:0], o.spare.ends[:0]}, 0
	return b
}

// flush seals what waits and sends it.
func (o *Out) flush() error {
	o.sending.Lock()
	defer o.sending.Unlock()
	b := o.take()
	o.spare = b
	from, size, n := 0, 0, 0 // size is that of the run's datagrams, n how many there are
	out := o.sealed[:0]
	for _, to := range b.ends {
		before := len(out)
		var err error
		if out, err = o.sealer.Seal(out, kindBundle, b.plain[from:to]); err != nil {
			return err
		}
		from = to
		switch now := len(out) - before; {
		case n == 0:
			size, n = now, 1
		case now == size && n < maxSegments && len(out) <= maxBatch:
			n++
		case now < size && n < maxSegments && len(out) <= maxBatch: // the last of a run may be shorter
			o.write(out, size, n+1)
			out, n = out[:0], 0
		default:
			o.write(out[:before], size, n)
			out = out[:copy(out, out[before:])]
			size, n = now, 1
		}
	}
	if n > 0 {
		o.write(out, size, n)
	}
	return nil
}

// write writes n datagrams of the size, the last perhaps shorter. What the network refuses is lost; when the peer is gone
// the session says so.
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
	for ; len(b) > 0; b = b[min(size, len(b)):] {
		o.out.Write(b[:min(size, len(b))])
		o.batches.Add(1)
	}
}

// Done is closed when the trunk has ended.
func (o *Out) Done() <-chan struct{} { return o.session.Done() }

// Close sends what waits and ends the trunk. It may be called again.
func (o *Out) Close() error {
	o.once.Do(func() {
		o.mu.Lock()
		o.closed = true
		o.mu.Unlock()
		o.flush()
		o.timer.Stop()
		o.result = o.session.Finish(o.packets.Load(), linger)
		o.conn.Close()
	})
	return o.result
}

// Stats counts the datagrams of streams and the calls that it took to send them.
func (o *Out) Stats() (packets, calls uint64) { return o.packets.Load(), o.batches.Load() }

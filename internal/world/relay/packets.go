package relay

import (
	"cmp"
	"container/heap"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	maxPacket = 65_535
	// maxQueue is how many datagrams are under way in a direction of a flow; those beyond are lost.
	maxQueue = 4096
	// maxWait is how long a datagram waits for the rate before it is lost, as in a router's queue.
	maxWait = 200 * time.Millisecond
	// reorderBy is how much later a reordered datagram comes.
	reorderBy = 10 * time.Millisecond
)

// front is a socket that stands for a target. Each address that sends to it is a flow with a socket of its own behind.
type front struct {
	relay   *Relay
	conn    *net.UDPConn
	to      *net.UDPAddr
	address string
	closing chan struct{}
	once    sync.Once
}

// forwardPackets opens a front for the target.
func (r *Relay) forwardPackets(target string) (*front, error) {
	to, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(r.host)})
	if err != nil {
		return nil, err
	}
	conn.SetReadBuffer(1 << 20) // as much of it as the system allows: what is lost here is not in the seed
	_, release, err := r.hold(conn.Close)
	if err != nil {
		return nil, err
	}
	f := &front{relay: r, conn: conn, to: to, address: conn.LocalAddr().String(), closing: make(chan struct{})}
	r.work.Go(func() {
		defer release()
		f.serve()
	})
	return f, nil
}

func (f *front) close() { f.once.Do(func() { close(f.closing); f.conn.Close() }) }

// linger closes the front when what is under way has arrived.
func (f *front) linger() {
	faults, _ := f.relay.state(there)
	f.relay.work.Go(func() {
		f.relay.until(time.Now().Add(faults.Delay + faults.Jitter + reorderBy + maxWait))
		f.close()
	})
}

// over reports whether an error of a socket is its end. What the kernel tells of earlier datagrams (nobody listens at the
// target yet) is not.
func (f *front) over() bool {
	select {
	case <-f.closing:
		return true
	case <-f.relay.stop:
		return true
	default:
		return false
	}
}

func (f *front) serve() {
	flows := make(map[netip.AddrPort]flow)
	defer func() {
		for _, w := range flows {
			w.line.close()
			w.behind.Close()
		}
	}()
	b := make([]byte, maxPacket)
	for {
		n, from, err := f.conn.ReadFromUDPAddrPort(b)
		if err != nil && f.over() {
			return
		}
		if err != nil {
			continue
		}
		w, ok := flows[from]
		if !ok {
			if w, err = f.flow(from); err != nil {
				continue
			}
			flows[from] = w
		}
		w.line.send(b[:n])
	}
}

// flow is the way there of what one address sends.
type flow struct {
	line   *line
	behind *net.UDPConn
}

// flow makes the two directions of a flow.
func (f *front) flow(from netip.AddrPort) (flow, error) {
	behind, err := net.DialUDP("udp", nil, f.to)
	if err != nil {
		return flow{}, err
	}
	behind.SetReadBuffer(1 << 20)
	r := f.relay
	number, release, err := r.hold(behind.Close)
	if err != nil {
		return flow{}, err
	}
	out := r.line(number, there, func(b []byte) { behind.Write(b) })
	in := r.line(number, back, func(b []byte) { f.conn.WriteToUDPAddrPort(b, from) })
	r.work.Go(func() {
		defer release()
		defer in.close()
		b := make([]byte, maxPacket)
		for {
			n, err := behind.Read(b)
			if err != nil && f.over() {
				return
			}
			if err == nil {
				in.send(b[:n])
			}
		}
	})
	return flow{out, behind}, nil
}

// line is one direction of a flow of datagrams.
type line struct {
	relay     *Relay
	direction direction
	deliver   func([]byte)

	mu     sync.Mutex
	random *rand.Rand
	queue  deliveries
	number uint64
	last   time.Time // when the latest delivery in order is due
	free   time.Time // when the rate lets the next begin
	closed bool
}

func (r *Relay) line(flow int, d direction, deliver func([]byte)) *line {
	return &line{relay: r, direction: d, deliver: deliver, random: r.source(flow, d)}
}

// send sends a copy of b to whatever fate the line has for it.
func (l *line) send(b []byte) {
	f, healed := l.relay.state(l.direction)
	l.mu.Lock()
	defer l.mu.Unlock()
	// All draws are made each time, so that one share does not shift the others' fates.
	lost, twice, late := l.random.Float64() < f.Loss, l.random.Float64() < f.Duplicate, l.random.Float64() < f.Reorder
	jitter := time.Duration(l.random.Float64() * float64(f.Jitter))
	select {
	case <-healed:
	default:
		return
	}
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	if lost || l.closed || len(l.queue) >= maxQueue || l.free.Sub(now) > maxWait {
		return
	}
	l.free = l.free.Add(f.transmission(len(b)))
	due := l.free.Add(f.Delay + jitter)
	if late {
		due = due.Add(reorderBy)
	} else {
		if due.Before(l.last) {
			due = l.last
		}
		l.last = due
	}
	l.add(b, due)
	if twice {
		l.add(b, due)
	}
}

func (l *line) add(b []byte, due time.Time) {
	if len(l.queue) == 0 && !due.After(time.Now()) {
		l.deliver(b)
		return
	}
	l.number++
	heap.Push(&l.queue, delivery{due: due, number: l.number, data: append([]byte(nil), b...)})
	// One timer a delivery; whichever fires first does all that is due, in order.
	time.AfterFunc(time.Until(due), l.run)
}

func (l *line) run() {
	_, healed := l.relay.state(l.direction)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for len(l.queue) > 0 && !l.queue[0].due.After(now) {
		d := heap.Pop(&l.queue).(delivery)
		select {
		case <-healed:
			if !l.closed {
				l.deliver(d.data)
			}
		default: // lost on the way
		}
	}
}

func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// delivery is a datagram that arrives when it is due.
type delivery struct {
	due    time.Time
	number uint64
	data   []byte
}

// deliveries is a heap in order of time and then of sending.
type deliveries []delivery

func (d deliveries) Len() int { return len(d) }
func (d deliveries) Less(i, j int) bool {
	return cmp.Or(d[i].due.Compare(d[j].due), cmp.Compare(d[i].number, d[j].number)) < 0
}
func (d deliveries) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *deliveries) Push(x any)   { *d = append(*d, x.(delivery)) }
func (d *deliveries) Pop() any {
	old := *d
	x := old[len(old)-1]
	old[len(old)-1] = delivery{}
	*d = old[:len(old)-1]
	return x
}

package world

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Link says what one direction between two hosts does to what passes it.
type Link struct {
	// Delay is the one-way delay; Jitter is the most that is added to it, drawn evenly. Neither changes the order.
	Delay, Jitter time.Duration
	// Loss, Duplicate and Reorder are the shares of datagrams, 0 to 1, that are lost, come twice, or come later than
	// those sent up to 10 ms after them. Streams only feel Delay and Jitter.
	Loss, Duplicate, Reorder float64
}

// reorderBy is how much later a reordered datagram comes.
const reorderBy = 10 * time.Millisecond

// Sim is a simulated world of hosts that reach each other over links. All of it stands on channels and timers, so that
// inside a testing/synctest bubble hours pass in no time; make it inside the bubble.
//
// What each link does is drawn from a source of its own, seeded by the Sim's seed and the two addresses: the n-th
// datagram over a link meets the same fate in every run with that seed, whatever happens elsewhere.
type Sim struct {
	seed  uint64
	usual Link

	mu     sync.Mutex
	hosts  map[netip.Addr]*host
	links  map[[2]netip.Addr]*link
	groups map[netip.AddrPort][]*packetConn // in order of joining
}

// NewSim makes a world whose links are all like usual until SetLink. Print the seed when a test fails.
func NewSim(seed uint64, usual Link) *Sim {
	return &Sim{
		seed: seed, usual: usual, hosts: make(map[netip.Addr]*host), links: make(map[[2]netip.Addr]*link),
		groups: make(map[netip.AddrPort][]*packetConn),
	}
}

// Host is the surroundings of the host with the IP address; the same host when called again. Loopback addresses of a
// host are the host itself; datagrams to itself are neither delayed nor lost.
func (s *Sim) Host(ip string) World {
	h := s.host(netip.MustParseAddr(ip))
	return World{Now: h.now, Rand: h, Net: h}
}

// SetClock makes the host's wall clock differ from the others' by d.
func (s *Sim) SetClock(ip string, d time.Duration) {
	h := s.host(netip.MustParseAddr(ip))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.skew = d
}

// SetLink changes the direction from one host to another, for what is sent from now on.
func (s *Sim) SetLink(from, to string, l Link) {
	k := s.link(netip.MustParseAddr(from), netip.MustParseAddr(to))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.Link = l
}

// Cut parts two hosts, both ways: datagrams are lost, streams stand still, dialing waits.
func (s *Sim) Cut(a, b string) { s.setCut(a, b, true) }

// Heal joins them again: what streams held back comes after the link's delay.
func (s *Sim) Heal(a, b string) { s.setCut(a, b, false) }

func (s *Sim) setCut(a, b string, cut bool) {
	x, y := netip.MustParseAddr(a), netip.MustParseAddr(b)
	s.link(x, y).setCut(cut)
	s.link(y, x).setCut(cut)
}

func (s *Sim) host(ip netip.Addr) *host {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.hosts[ip]
	if !ok {
		h = &host{
			sim: s, ip: ip, source: s.source(ip), port: 40_000,
			listeners: make(map[uint16]*listener), sockets: make(map[uint16]*packetConn),
		}
		s.hosts[ip] = h
	}
	return h
}

func (s *Sim) link(from, to netip.Addr) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]netip.Addr{from, to}
	l, ok := s.links[key]
	if !ok {
		l = &link{Link: s.usual, random: rand.New(s.source(from, to))}
		if from == to {
			l.Link = Link{}
		}
		s.links[key] = l
	}
	return l
}

// source makes a random source for whatever the addresses name.
func (s *Sim) source(of ...netip.Addr) *rand.ChaCha8 {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], s.seed)
	for i, a := range of {
		b := a.As16()
		copy(seed[8+12*i:], b[4:]) // the last 12 bytes tell the addresses of a test apart
	}
	return rand.NewChaCha8(seed)
}

// host is a host of a Sim; it implements Network and is its own source of randomness.
type host struct {
	sim *Sim
	ip  netip.Addr

	mu        sync.Mutex
	skew      time.Duration
	source    *rand.ChaCha8
	port      uint16
	listeners map[uint16]*listener
	sockets   map[uint16]*packetConn
}

func (h *host) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Add(h.skew)
}

// Read implements io.Reader.
func (h *host) Read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return io.ReadFull(h.source, b)
}

// bind resolves a local address, drawing a port that is free for 0. The caller holds mu.
func (h *host) bind(network, address string, taken func(uint16) bool) (netip.AddrPort, error) {
	ip, port, err := h.resolve(address)
	if err != nil || ip != h.ip {
		return netip.AddrPort{}, fmt.Errorf("listen %s %s: not an address of host %v", network, address, h.ip)
	}
	for tries := 0; port == 0 || tries > 0 && taken(port); tries++ {
		h.port = max(h.port+1, 40_000)
		port = h.port
		if tries > 20_000 {
			return netip.AddrPort{}, fmt.Errorf("listen %s %s: no port is free", network, address)
		}
	}
	if taken(port) {
		return netip.AddrPort{}, fmt.Errorf("listen %s %s: the port is taken", network, address)
	}
	return netip.AddrPortFrom(ip, port), nil
}

// resolve reads an address; a loopback or unspecified one is the host itself.
func (h *host) resolve(address string) (netip.Addr, uint16, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.Addr{}, 0, err
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return netip.Addr{}, 0, err
	}
	if name == "" || name == "localhost" {
		return h.ip, uint16(n), nil
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return netip.Addr{}, 0, err
	}
	if ip = ip.Unmap(); ip.IsLoopback() || ip.IsUnspecified() {
		ip = h.ip
	}
	return ip, uint16(n), nil
}

// link carries what goes from one host to another.
type link struct {
	mu sync.Mutex
	Link
	random *rand.Rand
	cut    bool
	held   []delivery // streams' deliveries that wait for the link to heal
	queue  deliveries
	last   time.Time // when the latest delivery in order is due
	number uint64
}

// delivery is something that happens at the far end when it is due.
type delivery struct {
	due    time.Time
	number uint64
	do     func()
	stream bool
}

// datagram sends one, to whatever fate the link has for it.
func (l *link) datagram(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// All draws are made each time, so that one share does not shift the others' fates.
	lost, twice, late := l.random.Float64() < l.Loss, l.random.Float64() < l.Duplicate, l.random.Float64() < l.Reorder
	if lost || l.cut {
		return
	}
	l.add(do, false, late)
	if twice {
		l.add(do, false, false)
	}
}

// stream sends a piece of a stream; all pieces arrive in order.
func (l *link) stream(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(do, true, false)
}

func (l *link) add(do func(), stream, late bool) {
	due := time.Now().Add(l.Delay)
	if l.Jitter > 0 {
		due = due.Add(time.Duration(l.random.Int64N(int64(l.Jitter) + 1)))
	}
	if late {
		due = due.Add(reorderBy)
	} else {
		if due.Before(l.last) {
			due = l.last
		}
		l.last = due
	}
	l.number++
	heap.Push(&l.queue, delivery{due: due, number: l.number, do: do, stream: stream})
	// One timer a delivery; whichever fires first does all that is due, in order.
	time.AfterFunc(time.Until(due), l.run)
}

// run does what is due. Deliveries only lock the far end and never send, so the link may stay locked.
func (l *link) run() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for len(l.queue) > 0 && !l.queue[0].due.After(now) {
		d := heap.Pop(&l.queue).(delivery)
		switch {
		case !l.cut:
			d.do()
		case d.stream:
			l.held = append(l.held, d)
		}
	}
}

func (l *link) setCut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut {
		return
	}
	held := l.held
	l.held = nil
	l.last = time.Now()
	// What is still under way of the same streams comes after what was held.
	rest := l.queue[:0]
	for _, d := range l.queue {
		if d.stream {
			held = append(held, d)
		} else {
			rest = append(rest, d)
		}
	}
	l.queue = rest
	heap.Init(&l.queue)
	slices.SortFunc(held, func(a, b delivery) int { return cmp.Compare(a.number, b.number) })
	for _, d := range held {
		l.add(d.do, true, false)
	}
}

// deliveries is a heap in order of time and then of sending.
type deliveries []delivery

func (d deliveries) Len() int { return len(d) }
func (d deliveries) Less(i, j int) bool {
	if d[i].due.Equal(d[j].due) {
		return d[i].number < d[j].number
	}
	return d[i].due.Before(d[j].due)
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

// deadline ends waits; the zero value is none.
type deadline struct {
	mu    sync.Mutex
	over  chan struct{}
	timer *time.Timer
}

// wait is closed when the deadline passes.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over == nil {
		d.over = make(chan struct{})
	}
	return d.over
}

// set changes the deadline; those who wait already feel it.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.over == nil {
		d.over = make(chan struct{})
	}
	select {
	case <-d.over:
		d.over = make(chan struct{})
	default:
	}
	switch {
	case t.IsZero():
	case !t.After(time.Now()):
		close(d.over)
	default:
		var mine *time.Timer
		mine = time.AfterFunc(time.Until(t), func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.timer == mine { // not changed since
				d.timer = nil
				close(d.over)
			}
		})
		d.timer = mine
	}
}

package announce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca"
	"ninja/internal/world"
)

// Defaults of a Receiver.
const (
	// DefaultMaxEpochs is how many epochs of senders are held; about 1.5 KB each.
	DefaultMaxEpochs = 100_000
	// DefaultLane is how many strangers may wait to be verified.
	DefaultLane = 512
	// DefaultMaxPeriod is the longest period that a budget leads to: what vanishes is gone five times as long after.
	DefaultMaxPeriod = 64 * 1024 * time.Millisecond
)

// laneShare is how much longer the lane of strangers rests than it works: it takes a quarter of one core at most.
const laneShare = 3

// ReceiverConfig configures a Receiver.
type ReceiverConfig struct {
	Identity *ca.Identity // the server's; needed
	World    world.World  // needed
	Log      *slog.Logger // nil: slog.Default
	// Announcer is the server's: it holds the sealing keys and says which channel and unicast address to listen on. Needed.
	Announcer *ServerAnnouncer
	Sink      Sink // needed
	// Listen is the unicast address to bind to; "": the one that is announced. When none is announced either, a port of
	// the system's choice is used for replies only.
	Listen    string
	MaxEpochs int // zero: DefaultMaxEpochs
	Lane      int // zero: DefaultLane
	// Budget is how many bytes a second all service announcements together may take: the period is then estimated from
	// what is heard (PERIOD.md), from the announcer's first period up to MaxPeriod. Zero: the period stays.
	Budget    float64
	MaxPeriod time.Duration // zero: DefaultMaxPeriod
}

// Receiver listens to what services announce, on the service channel and by unicast, and tells a Sink.
type Receiver struct {
	cfg     ReceiverConfig
	hearing *hearing
	wake    chan struct{} // a stranger is whole
	counts  counts
	gripes  *gripes
}

// ReceiverStats count since the start.
type ReceiverStats struct {
	// Datagrams were received; Bytes were in those that were authentic and new; Replies were sent.
	Datagrams, Bytes, Replies uint64
	// Refused were not accepted.
	Refused map[Reason]uint64
	// Epochs are held now.
	Epochs int
}

// counts are the numbers behind ReceiverStats.
type counts struct {
	datagrams atomic.Uint64
	mu        sync.Mutex
	replies   uint64
	refused   map[Reason]uint64
}

// NewReceiver makes a Receiver.
func NewReceiver(cfg ReceiverConfig) (*Receiver, error) {
	if cfg.Identity == nil || cfg.World.Now == nil || cfg.Announcer == nil || cfg.Sink == nil {
		return nil, errors.New("receive announcements: Identity, World, Announcer and Sink are needed")
	}
	cfg.Log = orDefaultLog(cfg.Log)
	setDefault(&cfg.MaxEpochs, DefaultMaxEpochs)
	setDefault(&cfg.Lane, DefaultLane)
	setDefault(&cfg.MaxPeriod, DefaultMaxPeriod)
	if udp := cfg.Announcer.cfg.UDP; cfg.Listen == "" && udp.IsValid() {
		cfg.Listen = udp.String()
	}
	r := &Receiver{
		cfg:     cfg,
		hearing: newHearing(cfg.Identity, cfg.Announcer, cfg.Sink, cfg.MaxEpochs, newLane(cfg.Lane, cfg.World.Uint64)),
		wake:    make(chan struct{}, 1),
		gripes:  newGripes(cfg.Log),
	}
	r.counts.refused = map[Reason]uint64{}
	return r, nil
}

// Stats returns the counts.
func (r *Receiver) Stats() ReceiverStats {
	r.hearing.mu.Lock()
	epochs := len(r.hearing.epochs)
	r.hearing.mu.Unlock()
	r.counts.mu.Lock()
	defer r.counts.mu.Unlock()
	s := ReceiverStats{
		Datagrams: r.counts.datagrams.Load(), Replies: r.counts.replies, Bytes: r.hearing.heard.Load(),
		Epochs: epochs, Refused: map[Reason]uint64{},
	}
	for reason, n := range r.counts.refused {
		s.Refused[reason] = n
	}
	return s
}

// Run receives until ctx ends, whose error it returns; other errors say that a socket could not be opened.
func (r *Receiver) Run(ctx context.Context) error {
	unicast, channel, err := r.open(ctx)
	if err != nil {
		return fmt.Errorf("receive announcements: %w", err)
	}
	var readers sync.WaitGroup
	for _, conn := range []net.PacketConn{unicast, channel} {
		if conn == nil {
			continue
		}
		defer conn.Close()
		readers.Go(func() {
			readLoop(conn, r.cfg.Log, func(d []byte, from netip.AddrPort) { r.take(d, from, conn == unicast, unicast) })
		})
	}
	readers.Go(func() { r.runLane(ctx, unicast) })
	r.tend(ctx)
	for _, conn := range []net.PacketConn{unicast, channel} {
		if conn != nil {
			conn.Close()
		}
	}
	readers.Wait()
	return ctx.Err()
}

// open makes the unicast socket, which replies leave by, and that of the channel; channel is nil where there is none.
func (r *Receiver) open(ctx context.Context) (unicast, channel net.PacketConn, err error) {
	a := r.cfg.Announcer.cfg
	listen := r.cfg.Listen
	if listen == "" {
		listen = netip.AddrPortFrom(a.Via, 0).String()
	}
	if unicast, err = r.cfg.World.Net.ListenPacket(ctx, "udp", listen); err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", listen, err)
	}
	widen(unicast)
	if a.Services.IsValid() {
		if channel, err = r.cfg.World.Net.ListenMulticast(ctx, a.Services, a.Via); err != nil {
			unicast.Close()
			return nil, nil, fmt.Errorf("join the service channel: %w", err)
		}
		widen(channel)
	}
	return unicast, channel, nil
}

// take handles one datagram.
func (r *Receiver) take(d []byte, from netip.AddrPort, byUnicast bool, out net.PacketConn) {
	if !byUnicast && kindOf(d) == kindSolicit {
		return // many servers would answer to one
	}
	reply, waiting, err := r.hearing.handle(d, from, r.cfg.World.Now())
	r.counts.datagrams.Add(1)
	if err != nil {
		r.refused(err)
	}
	if waiting {
		poke(r.wake)
	}
	r.send(out, reply)
}

func (r *Receiver) refused(err error) {
	refused, ok := err.(*Refused) // nothing wraps them on the way
	if !ok {
		refused = &Refused{Reason: ReasonMalformed, Detail: err.Error()}
	}
	r.counts.mu.Lock()
	r.counts.refused[refused.Reason]++
	r.counts.mu.Unlock()
	r.gripes.about(refused, r.cfg.World.Now())
}

func (r *Receiver) send(out net.PacketConn, a answer) {
	if len(a.datagram) == 0 || !a.to.IsValid() {
		return
	}
	if _, err := out.WriteTo(a.datagram, net.UDPAddrFromAddrPort(a.to)); err != nil {
		return // it is asked for again
	}
	r.counts.mu.Lock()
	r.counts.replies++
	r.counts.mu.Unlock()
}

// runLane verifies strangers one by one, resting between them.
func (r *Receiver) runLane(ctx context.Context, out net.PacketConn) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for ctx.Err() == nil {
			began := time.Now()
			s := r.hearing.takeStranger(r.cfg.World.Now())
			if s == nil {
				break
			}
			guard(r.cfg.Log, func() {
				reply, err := r.hearing.admit(s, r.cfg.World.Now())
				if err != nil {
					r.refused(err)
				}
				r.send(out, reply)
			})
			if world.Sleep(ctx, laneShare*time.Since(began)) != nil {
				return
			}
		}
	}
}

// tend sweeps and estimates once a period until ctx ends.
func (r *Receiver) tend(ctx context.Context) {
	least, changed := r.cfg.Announcer.Period(), false
	for last := r.hearing.heard.Load(); ; {
		period := r.cfg.Announcer.Period()
		if world.Sleep(ctx, period) != nil {
			return
		}
		r.hearing.sweep(r.cfg.World.Now())
		heard := r.hearing.heard.Load()
		next := period
		if r.cfg.Budget > 0 && !changed { // after a change, the first round is a mixture of both periods
			next = EstimatePeriod(period, float64(heard-last), r.cfg.Budget, least, r.cfg.MaxPeriod)
		}
		if last, changed = heard, next != period; changed {
			r.cfg.Log.Info("announcement period changed", "from", period, "to", next)
			r.cfg.Announcer.SetPeriod(next)
		}
	}
}

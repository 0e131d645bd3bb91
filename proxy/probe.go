package proxy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"ninja/ca"
	"ninja/internal/world"
)

// Peer is another proxy that can be probed.
type Peer struct {
	ID      ca.ID
	Region  string
	Address string
}

// Prober measures how far regions are: one peer a region, at most a kilobit a second in all.
type Prober struct {
	// World is the proxy's surroundings.
	World world.World
	// Peers lists proxies that may be probed; it is asked every ten minutes.
	Peers func(ctx context.Context) ([]Peer, error)
	// Probe measures one round trip to an address; nil is the time in which a TCP connection opens, which the peer need
	// not know anything about.
	Probe func(ctx context.Context, address string) (time.Duration, error)
	// Log may be nil.
	Log *slog.Logger
}

// The budget: a connection that is opened and closed is seven packets of at most 74 bytes both ways, counted as 500
// bytes; a kilobit a second is 125 of them.
const (
	probeBytes  = 500
	probeBudget = 125 // bytes a second
	probeEvery  = probeBytes * time.Second / probeBudget
	probeTime   = 2 * time.Second
	peersEvery  = 10 * time.Minute
)

// Bounds of what is measured and told.
const (
	maxRegions = 12 // of the sixteen numbers that a service may have
	// maxRegion is the longest name of a region that is told: a number's name has at most 32 bytes.
	maxRegion   = 28
	keptProbes  = 16
	leastProbes = 3 // nothing is said of a region before
	// staleProbe is how long a measurement counts.
	staleProbe = 20 * time.Minute
	// maxMissed probes in a row have another peer of the region asked.
	maxMissed = 3
)

// rttNumber begins the names of the numbers; seconds.
const rttNumber = "rtt."

// schedule decides who is probed next and what is told. It is a value without clock or network.
type schedule struct {
	self    ca.ID
	regions map[string]*regionProbes
	order   []string // of regions, taken in turn
	turn    int
}

type regionProbes struct {
	peers  []Peer // the one to probe first
	missed int
	got    []sample // the latest last
}

type sample struct {
	at  time.Time
	rtt time.Duration
}

// learn takes in who there is now. Each proxy probes another peer of a region, by a hash of both, so that the probes
// spread; and the same one for as long as it is there. The regions are the first by the same hash when there are too many.
func (s *schedule) learn(peers []Peer) {
	by := make(map[string][]Peer)
	for _, p := range peers {
		if p.ID != s.self && p.Address != "" && len(p.Region) <= maxRegion {
			by[p.Region] = append(by[p.Region], p)
		}
	}
	var order []string
	for region := range by {
		order = append(order, region)
	}
	slices.SortFunc(order, func(a, b string) int { return cmp.Or(cmp.Compare(s.hash(a), s.hash(b)), cmp.Compare(a, b)) })
	s.order = order[:min(len(order), maxRegions)]
	regions := make(map[string]*regionProbes)
	for _, region := range s.order {
		slices.SortFunc(by[region], func(a, b Peer) int {
			return cmp.Or(cmp.Compare(s.hash(string(a.ID)), s.hash(string(b.ID))), cmp.Compare(a.ID, b.ID))
		})
		r := &regionProbes{peers: by[region]}
		if old := s.regions[region]; old != nil {
			r.got = old.got
			if old.peers[0] == r.peers[0] {
				r.missed = old.missed
			}
		}
		regions[region] = r
	}
	s.regions = regions
}

func (s *schedule) hash(of string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", s.self, of))
	return string(sum[:])
}

// next is the peer whose turn it is; ok is false when there is none.
func (s *schedule) next() (p Peer, ok bool) {
	if len(s.order) == 0 {
		return Peer{}, false
	}
	s.turn = (s.turn + 1) % len(s.order)
	return s.regions[s.order[s.turn]].peers[0], true
}

// took takes in how a probe went. After some misses the next peer of the region has its turn.
func (s *schedule) took(p Peer, at time.Time, rtt time.Duration, err error) {
	r := s.regions[p.Region]
	if r == nil || r.peers[0] != p {
		return
	}
	if err != nil || rtt <= 0 {
		if r.missed++; r.missed >= maxMissed {
			r.missed, r.peers = 0, append(r.peers[1:len(r.peers):len(r.peers)], r.peers[0])
		}
		return
	}
	r.missed = 0
	r.got = append(r.got, sample{at, rtt})
	r.got = r.got[max(0, len(r.got)-keptProbes):]
}

// numbers are what is told: the second longest round trip of the latest, so that one that went wrong says nothing.
func (s *schedule) numbers(now time.Time) map[string]float64 {
	n := make(map[string]float64)
	for region, r := range s.regions {
		var all []time.Duration
		for _, x := range r.got {
			if now.Sub(x.at) < staleProbe {
				all = append(all, x.rtt)
			}
		}
		if len(all) < leastProbes {
			continue
		}
		slices.Sort(all)
		n[rttNumber+region] = all[len(all)-2].Seconds()
	}
	return n
}

// connectTime is the default probe.
func (p *Prober) connectTime(ctx context.Context, address string) (time.Duration, error) {
	begun := time.Now() // monotonic
	conn, err := p.World.Net.Dial(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	took := time.Since(begun)
	return took, conn.Close()
}

// run probes until ctx ends, and hands the numbers to tell whenever they may have changed.
func (p *Prober) run(ctx context.Context, self ca.ID, tell func(map[string]float64)) {
	s := &schedule{self: self}
	probe := p.Probe
	if probe == nil {
		probe = p.connectTime
	}
	var asked time.Time
	// Proxies that were started together do not probe together.
	wait := time.Duration(p.World.Uint64() % uint64(probeEvery))
	for world.Sleep(ctx, wait) == nil {
		wait = probeEvery
		now := p.World.Now()
		if asked.IsZero() || now.Sub(asked) >= peersEvery || len(s.order) == 0 && now.Sub(asked) >= peersEvery/10 {
			asked = now
			p.ask(ctx, s)
		}
		peer, ok := s.next()
		if !ok {
			continue
		}
		limit, cancel := context.WithTimeout(ctx, probeTime)
		rtt, err := probe(limit, peer.Address)
		cancel()
		s.took(peer, p.World.Now(), rtt, err)
		tell(s.numbers(p.World.Now()))
	}
}

func (p *Prober) ask(ctx context.Context, s *schedule) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	peers, err := p.Peers(ctx)
	if err != nil {
		if p.Log != nil {
			p.Log.Debug("the other proxies are not known; those of before are probed", "error", err)
		}
		return
	}
	s.learn(peers)
}

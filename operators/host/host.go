// Package host is the path runtime of a node: it makes the operators of its part of a path, joins them by hops, runs
// them, measures them and takes them down, as the creator of the path commands over one control stream
// (ninja-architecture, 7.2, steps 3 and 4). Proxies, bases and units all run one Host. The other half of the package,
// Dialer and Session, is the creator's end of the stream.
//
// What may be relied on:
//   - Data never waits for control. A path runs on while its control stream is gone, until its lease runs out; a
//     creator that comes back takes control again with Attach.
//   - A fault stays where it is. A failed or panicking operator ends its own stage and closes its two hops; the other
//     stages and paths run on, and the creator decides. A fault names the hop and the neighbour when a hop broke; the stage
//     waits for a while for the hop of a newer epoch.
//   - Tear-down is bounded and leaves nothing: hops, goroutines, and operators that are an io.Closer are closed. Only
//     an operator that does not heed its context can outlive its path, and it is logged.
//   - Events travel against the data, past operators that do not take them. An operator takes them from its first call
//     of out.Events on, and then passes on itself, with in.Signal, what concerns those above it.
//   - Older epochs of a path are refused, a newer one replaces what runs here, except the stages that it carries on: they keep
//     their operators, and lose and repeat nothing. Creators cannot touch each other's paths.
//
// Every epoch of a path has one goroutine that owns its state (path.run); there is one for each running operator, one for each
// hop's events. An operator's goroutine changes owners when a newer epoch carries it.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/internal/world"
	"ninja/operators"
)

// Config is what a Host is made of.
type Config struct {
	// Identity is the node's; it is needed.
	Identity *ca.Identity
	World    world.World
	// Registry holds the programs that the node runs; it is needed.
	Registry *operators.Registry
	// Transports make the hops to other nodes. Mem needs none.
	Transports []connectors.Transport
	// Permit judges whether the creator may have this node run the assignment, by the capability in it. It is asked at
	// Prepare, at Attach and at each renewal, with the host's set-up timeout. It is needed.
	Permit func(ctx context.Context, creator ca.Peer, a Assignment) error
	// Fetch fetches external data from another node; at most MaxData bytes. The host checks the hash. With nil,
	// operators that ask for data fail.
	Fetch func(ctx context.Context, ref string, source DataSource) ([]byte, error)
	// Log is where the host reports; nil discards.
	Log *slog.Logger

	// MaxPaths and MaxStages (of one path) are limits; zero is 256 and 32.
	MaxPaths, MaxStages int
	// Cores is what Load is a share of; zero is what the process may use.
	Cores float64
	// Heartbeat is the period of heartbeats; zero is a second.
	Heartbeat time.Duration
	// Lease is the life of a path whose creator asks for none; zero is 30 s.
	Lease time.Duration
	// SetupTimeout bounds Prepare, Connect, Permit, the wait for a sender after Start, and the wait for the hop of a newer
	// epoch when one broke; zero is 10 s. StopTimeout bounds tear-down; zero is 5 s.
	SetupTimeout, StopTimeout time.Duration
}

// Host runs this node's parts of paths. Make one with New; it is safe for use by many goroutines.
type Host struct {
	cfg        Config
	transports map[string]connectors.Transport
	fetched    fetched

	mu       sync.Mutex
	paths    map[key]*path
	draining []*path        // older epochs that come to their ends
	fence    map[key]uint32 // highest epoch seen
	fenced   []key          // in order of arrival, to bound the fence
	streams  int
	stopping bool
}

// key names a path: each creator has names of its own.
type key struct {
	creator ca.ID
	path    string
}

// maxFence bounds how many paths that are gone the host still knows the epoch of.
const maxFence = 4096

// New makes a Host. It starts nothing.
func New(cfg Config) (*Host, error) {
	if cfg.Identity == nil || cfg.Registry == nil || cfg.Permit == nil || cfg.World.Now == nil {
		return nil, errors.New("host: Identity, World, Registry and Permit are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Cores <= 0 {
		cfg.Cores = float64(runtime.GOMAXPROCS(0))
	}
	orDefault(&cfg.MaxPaths, 256)
	orDefault(&cfg.MaxStages, 32)
	orDefault(&cfg.Heartbeat, time.Second)
	orDefault(&cfg.Lease, 30*time.Second)
	orDefault(&cfg.SetupTimeout, 10*time.Second)
	orDefault(&cfg.StopTimeout, 5*time.Second)
	h := &Host{
		cfg: cfg, transports: make(map[string]connectors.Transport),
		paths: make(map[key]*path), fence: make(map[key]uint32),
	}
	for _, t := range cfg.Transports {
		h.transports[t.Scheme()] = t
	}
	return h, nil
}

func orDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Run waits for ctx to end, then refuses new paths, tears down all that run, and returns when nothing of them is left.
func (h *Host) Run(ctx context.Context) error {
	<-ctx.Done()
	h.mu.Lock()
	h.stopping = true
	h.mu.Unlock()
	for _, p := range h.all() {
		p.cancel(errStopping)
	}
	for _, p := range h.all() {
		<-p.done
	}
	return ctx.Err()
}

// begin judges an assignment, admits it and sets its goroutine off, which answers first when the path is prepared.
func (h *Host) begin(ctx context.Context, creator ca.Peer, a Assignment, first command) (*path, error) {
	if err := a.check(h.cfg.MaxStages); err != nil {
		return nil, err
	}
	if err := h.permit(ctx, creator, a); err != nil {
		return nil, err
	}
	pctx, cancel := context.WithCancelCause(context.Background()) // a path outlives the command that made it
	p := newPath(h, creator, a, cancel)
	p.box = first.box
	old, err := h.admit(p)
	if err != nil {
		cancel(err)
		return nil, err
	}
	go p.run(pctx, old, first)
	return p, nil
}

// permit asks Permit, with a bound on its time.
func (h *Host) permit(ctx context.Context, creator ca.Peer, a Assignment) error {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.SetupTimeout)
	defer cancel()
	if err := h.cfg.Permit(ctx, creator, a); err != nil {
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	return nil
}

// admit enters p in the books. old is what it replaces at once: it is being torn down.
func (h *Host) admit(p *path) (old *path, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, epoch := h.paths[p.key], p.assignment.Epoch
	switch {
	case h.stopping:
		return nil, fmt.Errorf("%w: it is stopping", ErrFull)
	case epoch < h.fence[p.key]:
		return nil, fmt.Errorf("%w: path %q is at epoch %d here, the command is of %d", ErrFenced, p.key.path, h.fence[p.key], epoch)
	case old != nil && old.assignment.Epoch == epoch:
		return nil, fmt.Errorf("%w: path %q is here at epoch %d: attach to it, or prepare a higher epoch", ErrInvalid, p.key.path, epoch)
	case old == nil && len(h.paths) >= h.cfg.MaxPaths:
		return nil, fmt.Errorf("%w: it runs %d paths", ErrFull, len(h.paths))
	}
	if old != nil {
		old = p.follow(old)
	}
	if _, known := h.fence[p.key]; !known {
		h.fenced = append(h.fenced, p.key)
		if len(h.fenced) > maxFence {
			delete(h.fence, h.fenced[0])
			h.fenced = h.fenced[1:]
		}
	}
	h.fence[p.key] = epoch
	h.paths[p.key] = p
	return old, nil
}

// follow makes p the next epoch of a path; it returns what p has to wait for before it prepares. The host's mu is held.
func (p *path) follow(old *path) *path {
	p.older, old.older = old.older, nil // what ran beside an epoch that was never started
	if !p.assignment.Beside {
		old.cancel(errReplaced)
		if p.older != nil {
			p.older.cancel(errReplaced)
		}
		return old
	}
	if p.older == nil {
		p.older = old
	} else {
		old.cancel(errReplaced)
	}
	return nil
}

// forget strikes p off the books.
func (h *Host) forget(p *path) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = slices.DeleteFunc(h.draining, func(d *path) bool { return d == p })
	switch now := h.paths[p.key]; {
	case now == p && p.older != nil: // it was never started
		h.paths[p.key] = p.older
	case now == p:
		delete(h.paths, p.key)
	case now != nil && now.older == p:
		now.older = nil
	}
}

// find is the path that a creator has here.
func (h *Host) find(k key) *path {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.paths[k]
}

func (h *Host) all() []*path {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Clone(h.draining)
	for _, p := range h.paths {
		all = append(all, p)
		if p.older != nil {
			all = append(all, p.older)
		}
	}
	return all
}

// Load is the share of the host's cores that its paths take: for each stage that runs or is about to, what its
// description declares or what is measured, whichever is more. It may exceed 1.
func (h *Host) Load() float64 {
	var sum float64
	for _, p := range h.all() {
		for _, s := range p.stats() {
			if s.State == Running || s.State == Prepared {
				sum += s.CPU
			}
		}
	}
	return sum / h.cfg.Cores
}

// Paths lists what runs here, in order of name.
func (h *Host) Paths() []PathInfo {
	var infos []PathInfo
	for _, p := range h.all() {
		infos = append(infos, p.info())
	}
	slices.SortFunc(infos, func(a, b PathInfo) int {
		return strings.Compare(a.Path+"\n"+string(a.Creator), b.Path+"\n"+string(b.Creator))
	})
	return infos
}

// Package apc is the automatic path creator: asked for a path between two endpoints through what must be included, it
// finds operators by their types, places them on nodes, starts and joins them, watches the path and takes it down
// (ninja-architecture, section 7.2).
//
// The creator has no rights of its own. Every request carries the asker's capability, narrowed to the creator's key and
// to the path: the SDS answers the creator's queries with what the asker may find, and every node checks the same
// capability before it runs anything.
package apc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/sds"
)

// Kind is the kind of a creator's own description in the SDS.
const Kind = "creator"

// Errors that callers branch on.
var (
	// ErrNoPath is a path that does not exist, or that is somebody else's.
	ErrNoPath = errors.New("no such path")
	// ErrBadRequest is a request that cannot be read.
	ErrBadRequest = errors.New("bad request")
	// ErrRefused is a request that no path can meet; the error says what made it impossible.
	ErrRefused = errors.New("no path can meet the request")
	// ErrBusy is a bound of the creator that is reached.
	ErrBusy = errors.New("the creator is at its limit")
)

// Finder answers queries with the rights of a capability; it is met by sds.Client.
type Finder interface {
	QueryAs(ctx context.Context, token []byte, q sds.Query) ([]sds.Found, error)
}

// Opener opens the control channel to a node.
type Opener func(ctx context.Context, address string, node ca.ID) (Session, error)

// Config makes a Creator.
type Config struct {
	World world.World
	Log   *slog.Logger
	// Self is the creator's identity: the capabilities it is given are bound to its key.
	Self *ca.Identity
	Find Finder
	Open Opener
	// Audit is told of each path that was made or could not be; nil is nowhere.
	Audit *ca.AuditLog
	// Claims checks a capability held by the creator.
	Claims func(token []byte) (capability.Claims, error)
	// MaxPaths bounds the paths of all owners, zero is 1,000; MaxPerOwner those of one owner, zero is 100.
	MaxPaths, MaxPerOwner int
	// Follow follows queries for those who ask again; nil has every request ask the SDS for everything.
	Follow Follower
	// MaxViews bounds what is followed at once: one view for all askers of equal rights; zero is 64.
	MaxViews int
	// Idle is how long a view is followed after its last use; zero is five minutes.
	Idle time.Duration
	// Keep is how long an ended path can still be shown; zero is ten minutes.
	Keep time.Duration
	// Look is how often a running path is compared with the best that there would be; zero is ten seconds.
	Look time.Duration
	// Hysteresis says when a running path moves to a better plan; the zero value is a cost of moving of 0.02, of 0.01 for each
	// stage that is made anew, and a gain of a tenth. Its loads are always counted.
	Hysteresis plan.Hysteresis
}

// Creator makes paths and looks after them.
type Creator struct {
	cfg  Config
	live context.Context // ends with Run

	mu    sync.Mutex
	paths map[string]*path
	// descriptions are parsed once for each version.
	descriptions map[descriptionKey]*operators.Description
	views        map[string]*live // by rights
	learned      *learned
	cache        *plan.Cache
	preparing    chan struct{} // holds the one that prepares spare plans, or looks for better ones
	moving       arrivals
	kept         sync.WaitGroup
}

// maxCached bounds the plans and refusals that are cached; each keeps the catalogue that it was made of.
const maxCached = 256

// New makes a creator; Run must be running for paths to be made.
func New(cfg Config) (*Creator, error) {
	if cfg.Find == nil || cfg.Open == nil || cfg.Claims == nil || cfg.Self == nil {
		return nil, errors.New("apc: an identity, a finder, an opener and a check of capabilities are needed")
	}
	if cfg.MaxPaths == 0 {
		cfg.MaxPaths = 1000
	}
	if cfg.MaxPerOwner == 0 {
		cfg.MaxPerOwner = 100
	}
	if cfg.Keep == 0 {
		cfg.Keep = 10 * time.Minute
	}
	if cfg.MaxViews == 0 {
		cfg.MaxViews = 64
	}
	if cfg.Idle == 0 {
		cfg.Idle = 5 * time.Minute
	}
	if cfg.Look == 0 {
		cfg.Look = 10 * time.Second
	}
	if cfg.Hysteresis == (plan.Hysteresis{}) {
		cfg.Hysteresis = plan.Hysteresis{Moving: 0.02, Stage: 0.01}
	}
	return &Creator{
		cfg: cfg, paths: make(map[string]*path), descriptions: make(map[descriptionKey]*operators.Description),
		views: make(map[string]*live), learned: newLearned(), cache: plan.NewCache(maxCached),
		preparing: make(chan struct{}, 1),
	}, nil
}

// Run keeps the paths until ctx ends, then tears them down.
func (c *Creator) Run(ctx context.Context) error {
	c.mu.Lock()
	c.live = ctx
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	//lint:ignore SA2001 whoever still saw it running under the lock has begun what they begin
	c.mu.Unlock()
	c.kept.Wait()
	return nil
}

// Plan says what Create would make.
func (c *Creator) Plan(ctx context.Context, asker ca.Peer, r Request) (Info, error) {
	p, _, err := c.plan(ctx, asker, r)
	if err != nil {
		return Info{}, err
	}
	return p.info, nil
}

// Create makes a path and starts the flow.
func (c *Creator) Create(ctx context.Context, asker ca.Peer, r Request) (Info, error) {
	info, err := c.create(ctx, asker, r)
	record := ca.Record{Time: c.cfg.World.Now(), Event: "path", By: asker.ID, About: clip(r.Path, 16), Detail: clip(r.Line, maxRecorded)}
	if err != nil {
		record.Denied = err.Error()
	}
	if err := c.cfg.Audit.Write(record); err != nil {
		c.cfg.Log.Error("cannot write the audit log", "error", err)
	}
	return info, err
}

// maxRecorded is how many bytes of a request, and of the name that a bad one gives its path, an audit record holds.
const maxRecorded = 512

func clip(s string, most int) string { return s[:min(len(s), most)] }

func (c *Creator) create(ctx context.Context, asker ca.Peer, r Request) (Info, error) {
	begun := c.cfg.World.Now()
	if b, err := hex.DecodeString(r.Path); err != nil || len(b) != 8 || r.Path != strings.ToLower(r.Path) {
		return Info{}, fmt.Errorf("%w: path %q: want 16 lower-case hexadecimal digits", ErrBadRequest, r.Path)
	}
	p, s, err := c.plan(ctx, asker, r)
	if err != nil {
		return Info{}, err
	}
	p.log = c.cfg.Log.With("path", r.Path)
	p.info.State = Preparing
	if err := c.admit(p); err != nil {
		return Info{}, err
	}
	f := p.flow(c.cfg.Open, s.print, 1)
	if err = f.set(ctx, r.Capability, false); err == nil {
		err = f.start(ctx)
	}
	if err != nil {
		p.become(Failed, err.Error())
		c.cfg.Log.Warn("a path could not be made", "path", r.Path, "error", err)
		close(p.done)
		return Info{}, fmt.Errorf("path %s: %w", r.Path, err)
	}
	p.mu.Lock()
	p.info.SetUp = c.cfg.World.Now().Sub(begun)
	p.mu.Unlock()
	p.become(Running, "")
	c.keep(p, s, f)
	return p.snapshot(), nil
}

// admit takes a path in under the creator's bounds.
func (c *Creator) admit(p *path) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil || c.live.Err() != nil {
		return fmt.Errorf("%w: it is stopping", ErrBusy)
	}
	if _, taken := c.paths[p.info.Path]; taken {
		return fmt.Errorf("%w: path %s exists already", ErrBadRequest, p.info.Path)
	}
	all, mine := 0, 0
	for _, other := range c.paths {
		if s := other.snapshot(); s.State != Ended && s.State != Failed {
			all++
			if s.Owner == p.info.Owner {
				mine++
			}
		}
	}
	if all >= c.cfg.MaxPaths || mine >= c.cfg.MaxPerOwner {
		return fmt.Errorf("%w: %d paths, %d of them yours (at most %d and %d): delete one first",
			ErrBusy, all, mine, c.cfg.MaxPaths, c.cfg.MaxPerOwner)
	}
	p.done = make(chan struct{})
	c.paths[p.info.Path] = p
	return nil
}

// keep looks after a running path until it ends, and remembers it for a while.
func (c *Creator) keep(p *path, s *sketch, f *flow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithCancel(c.live)
	p.stop = cancel
	k := c.keeper(p, s, f)
	c.kept.Go(func() { c.prepare(ctx, p, s, f.epoch) })
	c.kept.Go(func() {
		defer cancel()
		k.run(ctx)
		_ = world.Sleep(c.live, c.cfg.Keep)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.paths, p.info.Path)
	})
}

// of finds a path of the owner's.
func (c *Creator) of(owner ca.ID, id string) (*path, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.paths[id]; ok && p.info.Owner == owner {
		return p, nil
	}
	return nil, fmt.Errorf("%w: %s (ninjactl path list names yours)", ErrNoPath, id)
}

// Show tells of one path.
func (c *Creator) Show(owner ca.ID, id string) (Info, error) {
	p, err := c.of(owner, id)
	if err != nil {
		return Info{}, err
	}
	return p.snapshot(), nil
}

// List tells of the owner's paths, oldest first.
func (c *Creator) List(owner ca.ID) []Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Info
	for _, p := range c.paths {
		if p.info.Owner == owner {
			all = append(all, p.snapshot())
		}
	}
	slices.SortFunc(all, func(a, b Info) int { return a.Created.Compare(b.Created) })
	return all
}

// Delete tears a path down and returns when nothing of it is left.
func (c *Creator) Delete(ctx context.Context, owner ca.ID, id string) (Info, error) {
	p, err := c.of(owner, id)
	if err != nil {
		return Info{}, err
	}
	c.mu.Lock()
	if p.stop != nil {
		p.stop()
	}
	c.mu.Unlock()
	select {
	case <-p.done:
		return p.snapshot(), nil
	case <-ctx.Done():
		return Info{}, fmt.Errorf("path %s is being torn down: %w", id, ctx.Err())
	}
}

// Renew has a path run under another capability of its owner's, narrowed to the creator and the path as for Create; its
// nodes judge it at once.
func (c *Creator) Renew(ctx context.Context, asker ca.Peer, id string, token []byte) (Info, error) {
	p, err := c.of(asker.ID, id)
	if err != nil {
		return Info{}, err
	}
	if len(token) > maxCapability {
		return Info{}, fmt.Errorf("%w: a capability of %d bytes: at most %d are allowed", ErrBadRequest, len(token), maxCapability)
	}
	r := renewal{token: token, done: make(chan error, 1)}
	if r.claims, err = c.claims(asker, token, id); err != nil {
		return Info{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*commandTime)
	defer cancel()
	select {
	case p.renewals <- r:
		if err := <-r.done; err != nil { // bounded by commandTime
			return Info{}, fmt.Errorf("path %s: %w", id, err)
		}
		return p.snapshot(), nil
	case <-p.done:
		return Info{}, fmt.Errorf("%w: %s has ended: %s", ErrNoPath, id, p.snapshot().Why)
	case <-ctx.Done():
		return Info{}, fmt.Errorf("path %s is being set up or repaired: try again: %w", id, ctx.Err())
	}
}

// Watch calls f with each event of a path, those remembered first, until the path has ended or ctx ends.
func (c *Creator) Watch(ctx context.Context, owner ca.ID, id string, f func(Event) error) error {
	p, err := c.of(owner, id)
	if err != nil {
		return err
	}
	past, next, err := p.watch()
	if err != nil {
		return fmt.Errorf("%w: %v", ErrBusy, err)
	}
	defer p.unwatch(next)
	for _, e := range past {
		if err := f(e); err != nil {
			return err
		}
	}
	for next != nil {
		select {
		case e, ok := <-next:
			if !ok {
				return nil
			}
			if err := f(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

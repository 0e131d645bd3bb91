// Package tree joins SDS servers into hierarchies and moves questions through them (ninja-architecture 6.2): what each
// server has is told to its parents in summaries (package summary), where a question goes is decided by package route,
// and this package holds the links, the streams and the clocks.
//
// A server may stand in several hierarchies at once, each with a parent, children and routing table of its own. A child
// dials its parent and everything between them travels on that one stream: beats, summaries, questions and answers both
// ways. A server that loses its parent goes on serving and joins again.
package tree

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/route"
	"ninja/sds/tree/treepb"
)

// Parent is where a server joins a hierarchy.
type Parent struct {
	// Hierarchy is its name; the same server may have one parent in each of several.
	Hierarchy string
	// Addresses are those of servers that can be the parent, HOST:PORT, tried in order.
	Addresses []string
	// Domain is the parent's; "" is the server's own. Another one must be trusted here (ca.State.Domains).
	Domain string
}

// Config is what a Node needs.
type Config struct {
	// Identity is the SDS server's, World its surroundings, Local the server that keeps its services. Required.
	Identity *ca.Identity
	World    world.World
	Local    *sds.Server
	// Address is where the server is reached, for people to see.
	Address string
	// Parents are joined while Run runs. Join and Leave change them.
	Parents []Parent
	// Configured is where the configuration has the server join a hierarchy, whatever was changed since; nil: nowhere. It may
	// be nil: nowhere at all.
	Configured func(hierarchy string) *Parent
	// Keep keeps a change of the parent in a hierarchy beyond a restart: another one, none for nil, or, as configured, whatever
	// the configuration says. It may be nil.
	Keep func(hierarchy string, p *Parent, configured bool) error
	// Administers says who may change parents over the network; nil is nobody.
	Administers func(peer ca.Peer) error
	// Accept says who may join a hierarchy as a child; nil is any SDS server of the server's own domain.
	Accept func(hierarchy string, peer ca.Peer) error
	// Period is how often summaries and beats are sent; 0 is a second. A link is down after three periods of silence.
	Period time.Duration
	// Secret returns what tokens of hidden services are made with (summary.Token); nil, or nothing returned, is that
	// hidden services are found at their own server alone.
	Secret func() []byte
	// Routes are that and what the domain shares with others; nil is Secret alone.
	Routes func() *capability.Routes
	// Spawned is the server that started this one to share its load; "" is none.
	Spawned ca.ID
	// Log may be nil.
	Log *slog.Logger
}

// Node is a server's place in its hierarchies.
type Node struct {
	treepb.UnimplementedTreeServer
	cfg   Config
	self  ca.ID
	boxes *boxes
	seen  *seen
	known *questions
	// standing are the questions that stand here, by their 16 bytes.
	standing sync.Map
	mine     atomic.Pointer[mine]
	made     atomic.Pointer[made]
	rootCtx  context.Context // of Run; streams end with it
	end      context.CancelFunc
	parts    crew

	placing sync.Mutex // held while a parent is changed over the network, and that is kept

	whole  sync.Once
	filled chan struct{} // closed when the spawner has told all

	mu          sync.Mutex
	hierarchies map[string]*hierarchy
	copied      map[ca.ID]bool // spawned servers all of whose services are here too
}

// Bounds.
const (
	hierarchiesMost = 16
	childrenMost    = 1024
	lineMost        = 64
	nameMost        = 64
	deadAfter       = 3 // periods of silence
	forgetAfter     = 10 * time.Minute
)

// New makes a node. Register it before the gRPC server serves, and Run it.
func New(cfg Config) (*Node, error) {
	if cfg.Identity == nil || cfg.World.Now == nil || cfg.Local == nil {
		return nil, errors.New("tree: a node wants an identity, a world and an SDS server")
	}
	if cfg.Period == 0 {
		cfg.Period = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Secret == nil {
		cfg.Secret = func() []byte { return nil }
	}
	if cfg.Routes == nil {
		cfg.Routes = secretAlone(cfg.Secret)
	}
	n := &Node{cfg: cfg, self: cfg.Identity.ID(), seen: newSeen(), known: newQuestions(), hierarchies: make(map[string]*hierarchy), copied: make(map[ca.ID]bool), filled: make(chan struct{})}
	n.rootCtx, n.end = context.WithCancel(context.Background())
	if cfg.Accept == nil {
		n.cfg.Accept = n.ownDomain
	}
	var err error
	if n.boxes, err = newBoxes(cfg.Identity); err != nil {
		return nil, err
	}
	names := make(map[string]bool)
	for _, p := range cfg.Parents {
		if err := p.Check(); err != nil {
			return nil, err
		}
		if names[p.Hierarchy] {
			return nil, fmt.Errorf("tree: hierarchy %s wants one parent with addresses", p.Hierarchy)
		}
		names[p.Hierarchy] = true
		h, err := n.hierarchy(p.Hierarchy)
		if err != nil {
			return nil, err
		}
		h.commands <- func() { h.moveTo(h.ascend(p, nil)) }
	}
	return n, nil
}

// CheckName says what is wrong with the name of a hierarchy.
func CheckName(name string) error {
	ok := name != "" && len(name) <= nameMost && !slices.ContainsFunc([]byte(name), func(c byte) bool {
		return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.')
	})
	if !ok {
		return fmt.Errorf("tree: hierarchy %q: want at most %d lower-case letters, digits, '-' and '.'", name, nameMost)
	}
	return nil
}

func (n *Node) ownDomain(_ string, peer ca.Peer) error {
	if peer.ID.Domain() != n.self.Domain() {
		return fmt.Errorf("%s is of another domain", peer.ID)
	}
	return nil
}

// Register adds the service to a gRPC server, which must use ca.ServerCredentials.
func (n *Node) Register(r grpc.ServiceRegistrar) { treepb.RegisterTreeServer(r, n) }

// Run keeps the links until ctx ends, whose error it returns.
func (n *Node) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, n.end)
	defer stop()
	tick := time.NewTicker(seenLife)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.seen.turn()
		case <-ctx.Done():
			n.end()
			n.parts.Wait()
			return ctx.Err()
		}
	}
}

// hierarchy is the one of that name, made when there is none.
func (n *Node) hierarchy(name string) (*hierarchy, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.hierarchies[name]; h != nil {
		return h, nil
	}
	if len(n.hierarchies) >= hierarchiesMost {
		return nil, fmt.Errorf("this server stands in %d hierarchies, more it does not join", hierarchiesMost)
	}
	h := newHierarchy(n, name)
	n.hierarchies[name] = h
	n.parts.Go(h.run)
	return h, nil
}

// all are the hierarchies in the order of their names.
func (n *Node) all() []*hierarchy {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]*hierarchy, 0, len(n.hierarchies))
	for _, h := range n.hierarchies {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b *hierarchy) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return out
}

// neighbours are all those of a hierarchy, or of all for "", with branches that say how they are.
func (n *Node) neighbours(in string) (who []*neighbour, branches []route.Branch) {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	most := 0
	for _, h := range n.hierarchies {
		most += len(*h.view.Load())
	}
	who, branches = make([]*neighbour, 0, most), make([]route.Branch, 0, most)
	for name, h := range n.hierarchies {
		if in != "" && in != name {
			continue
		}
		for _, nb := range *h.view.Load() {
			if nb.spawned && n.copied[nb.id] {
				continue // what it has is here
			}
			who = append(who, nb)
			branches = append(branches, nb.branch(now))
		}
	}
	return who, branches
}

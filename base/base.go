// Package base is a node of a base: the home of long-lived services (ninja-architecture, section 3). A component is a
// service's code; it is pushed into a running node, listed and stopped there (multispace-base, 2: iSpace). What it
// publishes makes it findable in the SDS and joinable by paths.
//
// This first version runs components that are built into the node's program, named by key.
package base

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/operators"
)

// Service is a component that has started: what it publishes of itself and the programs that paths may run.
type Service struct {
	Kind, Summary string
	Position      *operators.Position
	// Operators describe the service's members in paths; each Spec's Program is a key of Programs.
	Operators []operators.Spec
	Programs  map[string]operators.Factory
	// Data is served by hash to whoever the types refer to it; the key is the name in the description.
	Data map[string][]byte
	// Numbers are the named numbers of the next refresh, such as load; nil is none.
	Numbers func() map[string]float64
	// Close releases what the service holds; nil is nothing.
	Close func() error
}

// Site is what a component is started in.
type Site struct {
	World world.World
	Log   *slog.Logger
	// ID is the service's id, OWNER-ID#name: the references in its types begin with it.
	ID   string
	Args map[string]string
	// State is a directory that outlives the component.
	State string
}

// Component starts a service. It returns when the service can answer, or an error that says what is missing.
type Component func(ctx context.Context, site Site) (*Service, error)

// publisher announces descriptions; it is met by announce.Announcer.
type publisher interface {
	Publish(name string, description []byte) error
	SetNumbers(name string, numbers map[string]float64)
	Withdraw(name string)
}

// dataServer serves external data by hash; it is met by hop.Server.
type dataServer interface {
	ServeData(data []byte) (sha256hex string)
}

// Config makes a Node. Every field is needed.
type Config struct {
	World world.World
	Log   *slog.Logger
	Owner ca.ID
	// Components are the kinds of service that the node can start, by key.
	Components map[string]Component
	// Node is the node element of the descriptions.
	Node operators.Node
	// Registry is the one of the node's path runtime.
	Registry  *operators.Registry
	Publisher publisher
	Data      dataServer
	// State is the directory under which each service has its own.
	State string
}

// Node runs services.
type Node struct {
	cfg Config

	mu       sync.Mutex
	services map[string]*running
}

type running struct {
	Status
	service *Service // nil while it starts
}

// Status is what List tells of a service.
type Status struct {
	Name, Component string
	// State is "starting" or "running".
	State   string
	Started time.Time
}

// New makes a node without services.
func New(cfg Config) (*Node, error) {
	if cfg.Publisher == nil || cfg.Registry == nil || cfg.Data == nil {
		return nil, errors.New("base: a publisher, a registry and a data server are needed")
	}
	return &Node{cfg: cfg, services: make(map[string]*running)}, nil
}

// Start pushes a component into the node as a service with the name, and publishes it.
func (n *Node) Start(ctx context.Context, component, name string, args map[string]string) error {
	start, ok := n.cfg.Components[component]
	if !ok {
		return fmt.Errorf("component %q: this node has %v", component, slices.Sorted(maps.Keys(n.cfg.Components)))
	}
	r := &running{Status: Status{Name: name, Component: component, State: "starting", Started: n.cfg.World.Now()}}
	n.mu.Lock()
	_, taken := n.services[name]
	if !taken {
		n.services[name] = r
	}
	n.mu.Unlock()
	if taken {
		return fmt.Errorf("service %q runs already: stop it first or choose another name", name)
	}
	service, err := start(ctx, Site{
		World: n.cfg.World, Log: n.cfg.Log.With("service", name), ID: string(n.cfg.Owner) + "#" + name,
		Args: args, State: n.cfg.State + "/" + name,
	})
	if err == nil {
		err = n.publish(name, service)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		delete(n.services, name)
		return fmt.Errorf("start %s as %q: %w", component, name, err)
	}
	r.service, r.State = service, "running"
	return nil
}

// publish registers the programs and announces the description.
func (n *Node) publish(name string, s *Service) error {
	d := operators.Description{
		Kind: s.Kind, Name: name, Summary: s.Summary, Node: &n.cfg.Node, Operators: slices.Clone(s.Operators), Position: s.Position,
	}
	for _, dataName := range slices.Sorted(maps.Keys(s.Data)) {
		content := s.Data[dataName]
		hash := sha256.Sum256(content)
		n.cfg.Data.ServeData(content)
		d.Data = append(d.Data, operators.Data{Name: dataName, SHA256: hex.EncodeToString(hash[:]), Size: int64(len(content))})
	}
	for i := range d.Operators {
		d.Operators[i].Program = programKey(name, d.Operators[i].Program)
	}
	b, err := d.Marshal()
	if err != nil {
		return err
	}
	for key, factory := range s.Programs {
		n.cfg.Registry.Add(programKey(name, key), factory)
	}
	if err := n.cfg.Publisher.Publish(name, b); err != nil {
		n.forget(name, s)
		return err
	}
	return nil
}

// forget removes a service's programs.
func (n *Node) forget(name string, s *Service) {
	for key := range s.Programs {
		n.cfg.Registry.Remove(programKey(name, key))
	}
}

func programKey(service, program string) string { return service + "/" + program }

// Stop withdraws a service and releases it. Paths that run through it run on to their end.
func (n *Node) Stop(name string) error {
	n.mu.Lock()
	r, ok := n.services[name]
	if ok && r.service != nil {
		delete(n.services, name)
	}
	n.mu.Unlock()
	if !ok || r.service == nil {
		return fmt.Errorf("service %q does not run here", name)
	}
	n.cfg.Publisher.Withdraw(name)
	n.forget(name, r.service)
	if r.service.Close != nil {
		return r.service.Close()
	}
	return nil
}

// List tells of every service, in order of name.
func (n *Node) List() []Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []Status
	for _, name := range slices.Sorted(maps.Keys(n.services)) {
		all = append(all, n.services[name].Status)
	}
	return all
}

// Run refreshes the services' numbers every second until ctx ends, then stops them all.
func (n *Node) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.refresh()
		case <-ctx.Done():
			var failed error
			for _, s := range n.List() {
				if s.State == "running" {
					failed = errors.Join(failed, n.Stop(s.Name))
				}
			}
			return failed
		}
	}
}

func (n *Node) refresh() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, r := range n.services {
		if r.service != nil && r.service.Numbers != nil {
			n.cfg.Publisher.SetNumbers(name, r.service.Numbers())
		}
	}
}

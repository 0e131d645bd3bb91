// Package proxy is an active proxy: a node that hosts dynamic operators for paths (ninja-architecture, section 5). It
// keeps only soft state: what it publishes is announced again and again, what it runs can be started elsewhere.
//
// A proxy publishes itself, with its load and the round-trip times to regions as named numbers ("load", a share of its
// cores; "rtt.REGION", seconds), and one description for each operator that it can run.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"ninja/ca"
	"ninja/operators"
)

// publisher announces descriptions; it is met by announce.Announcer.
type publisher interface {
	Publish(name string, description []byte) error
	SetNumbers(name string, numbers map[string]float64)
	Withdraw(name string)
}

// runtime is the path runtime of the node; it is met by host.Host.
type runtime interface {
	// Load is the share of the node's cores in use, 0 to 1.
	Load() float64
}

// Config makes a Proxy.
type Config struct {
	Owner ca.ID
	// Node is the node element of the descriptions.
	Node operators.Node
	// Specs are the operators that the proxy's registry can run.
	Specs     []operators.Spec
	Publisher publisher
	Runtime   runtime
	// Period is how often the load is told; zero is one second.
	Period time.Duration
	// Prober measures how far regions are; nil does not.
	Prober *Prober
}

// Proxy publishes an active proxy.
type Proxy struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Proxy, error) {
	if cfg.Publisher == nil || cfg.Runtime == nil {
		return nil, errors.New("proxy: a publisher and a runtime are needed")
	}
	if cfg.Prober != nil && cfg.Prober.Peers == nil {
		return nil, errors.New("proxy: a prober wants to know its peers")
	}
	if cfg.Period == 0 {
		cfg.Period = time.Second
	}
	return &Proxy{cfg}, nil
}

// Names are the names that the proxy publishes under: its own, then one for each operator.
func (p *Proxy) Names() []string {
	names := []string{p.cfg.Owner.Name()}
	for i := range p.cfg.Specs {
		names = append(names, operatorName(&p.cfg.Specs[i]))
	}
	return names
}

// operatorName keeps operators apart from the proxy itself, whatever it is called.
func operatorName(s *operators.Spec) string { return "operator." + s.Name }

// Run publishes the proxy and its operators, tells the load every period, and withdraws all when ctx ends.
func (p *Proxy) Run(ctx context.Context) error {
	if err := p.publish(); err != nil {
		return err
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	far := make(chan map[string]float64)
	if p.cfg.Prober != nil {
		wait.Go(func() {
			p.cfg.Prober.run(ctx, p.cfg.Owner, func(n map[string]float64) {
				select {
				case far <- n:
				case <-ctx.Done():
				}
			})
		})
	}
	tick := time.NewTicker(p.cfg.Period)
	defer tick.Stop()
	self := p.cfg.Owner.Name()
	var rtts map[string]float64
	for {
		numbers := map[string]float64{"load": p.cfg.Runtime.Load()}
		maps.Copy(numbers, rtts)
		p.cfg.Publisher.SetNumbers(self, numbers)
		select {
		case <-tick.C:
		case rtts = <-far:
		case <-ctx.Done():
			for _, name := range p.Names() {
				p.cfg.Publisher.Withdraw(name)
			}
			return nil
		}
	}
}

func (p *Proxy) publish() error {
	node := p.cfg.Node
	self := operators.Description{Kind: operators.KindProxy, Name: p.cfg.Owner.Name(), Summary: "active proxy", Node: &node}
	if err := p.publishOne(&self); err != nil {
		return err
	}
	// An operator's description needs only where it runs: the capacity stands with the proxy.
	where := operators.Node{Control: node.Control, Data: node.Data}
	for i := range p.cfg.Specs {
		spec := p.cfg.Specs[i]
		d := operators.Description{Kind: operators.KindOperator, Name: operatorName(&spec), Node: &where, Operators: []operators.Spec{spec}}
		if err := p.publishOne(&d); err != nil {
			return err
		}
	}
	return nil
}

func (p *Proxy) publishOne(d *operators.Description) error {
	b, err := d.Marshal()
	if err == nil {
		err = p.cfg.Publisher.Publish(d.Name, b)
	}
	if err != nil {
		return fmt.Errorf("publish %s %q: %w", d.Kind, d.Name, err)
	}
	return nil
}

package proxy

import (
	"context"
	"fmt"
	"math"

	"ninja/connectors"
	"ninja/internal/world"
	"ninja/operators"
)

// Run examines guests in service, one after another, drawn at random at random times, until ctx ends; then it withdraws
// all.
func (g *Guests) Run(ctx context.Context) error {
	for world.Sleep(ctx, g.cfg.World.Jitter(g.cfg.Period)) == nil {
		if x := g.draw(); x != nil {
			g.inspect(ctx, x)
		}
	}
	g.mu.Lock()
	var all []*guest
	for _, x := range g.guests {
		all = append(all, x)
	}
	g.mu.Unlock()
	for _, x := range all {
		g.withdraw(x, "the proxy has stopped")
		g.remove(x)
	}
	return nil
}

// draw picks one of the guests that can be examined.
func (g *Guests) draw() *guest {
	g.mu.Lock()
	defer g.mu.Unlock()
	var can []*guest
	for _, x := range g.guests {
		if x.set != nil && !x.closed() {
			can = append(can, x)
		}
	}
	if len(can) == 0 {
		return nil
	}
	return can[g.cfg.World.Uint64()%uint64(len(can))]
}

// inService is how many samples an examination in service has.
const inService = 4

// inspect examines a guest in service. One failure is confirmed with more samples before it counts: the node may have been
// busy.
func (g *Guests) inspect(ctx context.Context, x *guest) {
	before := g.cost(x)
	r, err := g.examine(ctx, x, inService)
	if err == nil && !r.Passed() {
		r, err = g.examine(ctx, x, again)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		g.cfg.Log.Warn("a guest could not be examined", "operator", x.spec.Name, "error", err)
	case !r.Passed():
		why := fmt.Sprintf("examined in service, it failed: %s", r.Against[0])
		g.cfg.Log.Warn("a guest is withdrawn", "operator", x.spec.Name, "author", x.author, "reason", why)
		g.withdraw(x, why)
	case differs(before, g.cost(x)):
		if err := g.publish(x); err != nil {
			g.cfg.Log.Warn("a guest's new cost is not published", "operator", x.spec.Name, "error", err)
		}
	default: // the numbers go with the next refresh; the description stays
		g.numbers(x)
	}
}

func (g *Guests) cost(x *guest) operators.Cost {
	g.mu.Lock()
	defer g.mu.Unlock()
	return x.published.Cost
}

// numbers tells what was measured last, beside the description.
func (g *Guests) numbers(x *guest) {
	g.mu.Lock()
	numbers := map[string]float64{"examinations": float64(x.exams), "quality": x.quality, "latency": x.last.P99.Seconds()}
	g.mu.Unlock()
	g.cfg.Publisher.SetNumbers(x.name(), numbers)
}

// differs reports whether costs differ by so much that the planner should know: a change of a description is not free.
func differs(a, b operators.Cost) bool {
	far := func(x, y float64) bool { return math.Abs(x-y) > 0.25*math.Max(x, y) }
	return math.Abs(a.Quality-b.Quality) > 0.02 || far(a.CPU, b.CPU) || far(float64(a.Latency), float64(b.Latency)) ||
		far(float64(a.Memory), float64(b.Memory))
}

// factory makes instances of a guest that end when it is withdrawn.
func (x *guest) factory(r *operators.Registry) operators.Factory {
	args := make(map[string]string)
	for _, a := range x.spec.Args {
		args[a.Name] = a.Value
	}
	return func(ctx context.Context, env operators.Env) (operators.Operator, error) {
		if x.closed() {
			return nil, fmt.Errorf("the operator %q is withdrawn", x.spec.Name)
		}
		env.Args = args
		op, err := r.Make(ctx, x.spec.Program, env)
		if err != nil {
			return nil, err
		}
		return &gated{op, x}, nil
	}
}

// gated is an instance of a guest.
type gated struct {
	operators.Operator
	guest *guest
}

// Run runs the operator until it ends or is withdrawn.
func (o *gated) Run(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-o.guest.shut:
			cancel()
		case <-ended:
		}
	}()
	err := o.Operator.Run(ctx, in, out)
	if o.guest.closed() {
		return fmt.Errorf("the operator %q was withdrawn while it ran", o.guest.spec.Name)
	}
	return err
}

// Close lets go of what the operator holds.
func (o *gated) Close() error {
	if c, ok := o.Operator.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}

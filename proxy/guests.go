package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/golden"
)

// GuestConfig makes Guests.
type GuestConfig struct {
	World world.World
	// Owner is the proxy. Its own operators are no guests.
	Owner ca.ID
	// Node says where guests run.
	Node operators.Node
	// Registry holds the node's programs.
	Registry *operators.Registry
	// Programs are the keys of the programs that a guest's description may name: those that wrap.
	Programs []string
	// Taken are names that no guest may have: those of the proxy's own operators.
	Taken []string
	// Sets are the samples to examine guests with, each of the owner of a pair of types; none leaves guests unexamined.
	Sets []*golden.Set
	// Allow sets who may find and use what is published under a name, before it is; nil changes nothing.
	Allow func(ctx context.Context, name string) error
	// Publisher announces.
	Publisher publisher
	// Used tells what the program behind a description has used so far; nil is not known.
	Used func(spec operators.Spec) (cpu time.Duration, memory int64)
	// Keys lists the programs that descriptions may name; nil is not said.
	Keys func() []string
	// Period is the mean time between two examinations in service; 0 is 10 minutes.
	Period time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Bounds of guests.
const (
	maxGuests     = 64
	maxOfAnAuthor = 16
	// patience is how long an examination waits for the answer to one sample.
	patience = 5 * time.Second
	// unexamined is the most quality that is published of an operator that nobody could examine.
	unexamined = 0.8
	// What no operator is believed to stay under.
	leastCPU    = 0.0005
	leastMemory = 1 << 20
	leastTime   = time.Millisecond
	// again is how many samples confirm a failure in service.
	again = 16
)

// Guests are operators that others wrote and the proxy runs: wrapped programs and services, each described in a few
// lines. A guest is examined before it is published, with samples that its author has not seen, and again, at times that
// nobody can foresee, in service; one that fails is withdrawn, its instances are ended, so that their paths are repaired
// with other operators, and its author is told why. What is published of a guest's cost and quality is what was measured,
// where it was.
//
// A guest runs under a program of its own name, which holds its arguments: what a path says cannot change them.
type Guests struct {
	cfg       GuestConfig
	examining chan struct{} // holds one token: one examination at a time

	mu      sync.Mutex
	guests  map[string]*guest
	refused map[ca.ID][]time.Time // the latest refusals of an author
}

// guest is one operator. Its fields below the line are guarded by the mu of Guests.
type guest struct {
	spec   operators.Spec // as its author wrote it
	author ca.ID
	set    *golden.Set   // nil when there are no samples of its types
	shut   chan struct{} // closed when it is withdrawn
	// ----
	why       string // once shut
	published operators.Spec
	last      golden.Report
	exams     int
	quality   float64 // of all examinations, the latest weighing most
}

// Guest is what is known of one.
type Guest struct {
	Name, Service string
	Author        ca.ID
	// State is "published" or "withdrawn", Text why it is withdrawn or what its examination said.
	State, Text  string
	Examinations int
	// Cost is what is published.
	Cost operators.Cost
}

// NewGuests checks the configuration.
func NewGuests(cfg GuestConfig) (*Guests, error) {
	if cfg.Registry == nil || cfg.Publisher == nil {
		return nil, errors.New("guests: a registry and a publisher are needed")
	}
	if cfg.Period == 0 {
		cfg.Period = 10 * time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Guests{cfg: cfg, examining: make(chan struct{}, 1), guests: make(map[string]*guest),
		refused: make(map[ca.ID][]time.Time)}, nil
}

// ErrGuest is wrapped by the refusal of a guest.
var ErrGuest = errors.New("the operator is not taken in")

// Offer examines an operator and publishes it. It is published until leave is called or it is withdrawn: gone is closed
// then, and List says why. The error says what is wrong, in a sentence.
func (g *Guests) Offer(ctx context.Context, author ca.ID, spec operators.Spec) (as Guest, gone <-chan struct{}, leave func(), err error) {
	x, err := g.reserve(author, spec)
	if err != nil {
		return Guest{}, nil, nil, fmt.Errorf("%w: %w", ErrGuest, err)
	}
	if err := g.admit(ctx, x); err != nil {
		g.remove(x)
		g.refuse(author)
		return Guest{}, nil, nil, fmt.Errorf("%w: %w", ErrGuest, err)
	}
	return g.tell(x), x.shut, func() { g.withdraw(x, "its author took it back"); g.remove(x) }, nil
}

// Samples could be guessed from what examinations say, if there were enough of them: an author who was refused maxRefusals
// times within refusalTime waits.
const (
	maxRefusals = 10
	refusalTime = 10 * time.Minute
	maxAuthors  = 1000
)

func (g *Guests) refuse(author ca.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.refused) >= maxAuthors {
		clear(g.refused)
	}
	g.refused[author] = append(g.recent(author), g.cfg.World.Now())
}

// recent are the refusals of an author that count still.
func (g *Guests) recent(author ca.ID) []time.Time {
	since := g.cfg.World.Now().Add(-refusalTime)
	return slices.DeleteFunc(g.refused[author], func(t time.Time) bool { return t.Before(since) })
}

// reserve takes a place for a guest, under its name.
func (g *Guests) reserve(author ca.ID, spec operators.Spec) (*guest, error) {
	if !slices.Contains(g.cfg.Programs, spec.Program) {
		return nil, fmt.Errorf("the program %.60q: a description may name %v", spec.Program, g.cfg.Programs)
	}
	if spec.In.IsZero() || spec.Out.IsZero() {
		return nil, errors.New("an operator that others wrote has an in and an out element")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	of := 0
	for _, x := range g.guests {
		if x.author == author {
			of++
		}
	}
	old := g.guests[spec.Name]
	g.refused[author] = g.recent(author)
	switch {
	case len(g.refused[author]) >= maxRefusals:
		return nil, fmt.Errorf("%s was refused %d times within %v: try again later, after ninjactl operator check", author, maxRefusals, refusalTime)
	case slices.Contains(g.cfg.Taken, spec.Name):
		return nil, fmt.Errorf("the proxy has an operator %q of its own: give yours another name", spec.Name)
	case old != nil && !old.closed():
		return nil, fmt.Errorf("%s has published an operator %q here: give yours another name", old.author, spec.Name)
	case old != nil && old.author != author:
		return nil, fmt.Errorf("the operator %q of %s was withdrawn here: give yours another name", spec.Name, old.author)
	case old == nil && len(g.guests) >= maxGuests:
		return nil, fmt.Errorf("this proxy has %d guests, as many as it takes: try another one", maxGuests)
	case old == nil && of >= maxOfAnAuthor:
		return nil, fmt.Errorf("%s has %d operators here, as many as one may have: take one back", author, of)
	}
	if old != nil { // withdrawn in service, and mended
		g.cfg.Registry.Remove(old.program())
	}
	x := &guest{spec: spec, author: author, shut: make(chan struct{})}
	for _, s := range g.cfg.Sets {
		if s.Fits(&spec) == nil {
			x.set = s
			break
		}
	}
	g.guests[spec.Name] = x
	return x, nil
}

func (x *guest) closed() bool {
	select {
	case <-x.shut:
		return true
	default:
		return false
	}
}

// program is the key that the guest's program has in the registry, name what it is published under.
func (x *guest) program() string { return "guest/" + x.spec.Name }
func (x *guest) name() string    { return operatorName(&x.spec) }

// admit registers, examines and publishes.
func (g *Guests) admit(ctx context.Context, x *guest) error {
	g.cfg.Registry.Add(x.program(), x.factory(g.cfg.Registry))
	spec := x.spec
	spec.Program, spec.Args, spec.Transports = x.program(), nil, nil
	if x.set != nil {
		r, err := g.examine(ctx, x, again)
		if err == nil && r.OnlySlow() {
			r, err = g.examine(ctx, x, again)
		}
		if err != nil {
			return err
		}
		if !r.Passed() {
			return errors.New(r.Against[0])
		}
	}
	if g.cfg.Allow != nil {
		if err := g.cfg.Allow(ctx, x.name()); err != nil {
			return err
		}
	}
	return g.publish(x)
}

// examine gives a guest samples and takes the measurements in.
func (g *Guests) examine(ctx context.Context, x *guest, samples int) (*golden.Report, error) {
	select {
	case g.examining <- struct{}{}:
		defer func() { <-g.examining }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var before time.Duration
	if g.cfg.Used != nil {
		before, _ = g.cfg.Used(x.spec)
	}
	subject := golden.In(g.cfg.Registry, x.spec)
	subject.Make = func(ctx context.Context, env operators.Env) (operators.Operator, error) {
		return g.cfg.Registry.Make(ctx, x.program(), env)
	}
	r, err := golden.Check(ctx, golden.Config{World: g.cfg.World, Samples: samples, Patience: patience, Discreet: true}, subject, x.set)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	x.last, x.exams = *r, x.exams+1
	if x.exams == 1 {
		x.quality = r.Quality
	}
	x.quality += (r.Quality - x.quality) / 4
	x.published = x.measured(r)
	if g.cfg.Used != nil && r.Samples > 0 {
		after, memory := g.cfg.Used(x.spec)
		each := time.Second // a request a second is what a cost is of
		if x.set.Stream {
			each = max(x.set.Sound(), 20*time.Millisecond)
		}
		x.published.Cost.CPU = max(leastCPU, (after-before).Seconds()/float64(r.Samples)/each.Seconds())
		x.published.Cost.Memory = max(memory, leastMemory)
	}
	return r, nil
}

// measured is the description with what an examination found: a latency within what was seen, and the quality seen.
func (x *guest) measured(r *golden.Report) operators.Spec {
	s := x.believed()
	s.Cost.Quality = min(x.declared(), x.quality)
	latency := min(max(time.Duration(x.spec.Cost.Latency), r.P50), max(r.P99, r.P50))
	s.Cost.Latency = operators.Latency(max(latency.Round(leastTime), leastTime))
	return s
}

func (x *guest) declared() float64 {
	if x.spec.Cost.Quality == 0 {
		return 1
	}
	return x.spec.Cost.Quality
}

// believed is the description as far as one believes it of an operator that nobody has examined.
func (x *guest) believed() operators.Spec {
	s := x.spec
	s.Program, s.Args, s.Transports = x.program(), nil, nil
	s.Cost.Quality = min(x.declared(), unexamined)
	s.Cost.CPU = max(s.Cost.CPU, leastCPU)
	s.Cost.Memory = max(s.Cost.Memory, leastMemory)
	s.Cost.Latency = max(s.Cost.Latency, operators.Latency(leastTime))
	return s
}

// publish announces a guest as it is known now, and its numbers.
func (g *Guests) publish(x *guest) error {
	g.mu.Lock()
	if x.exams == 0 {
		x.published = x.believed()
	}
	spec := x.published
	numbers := map[string]float64{"examinations": float64(x.exams)}
	if x.exams > 0 {
		numbers["quality"], numbers["latency"] = x.quality, x.last.P99.Seconds()
	}
	g.mu.Unlock()
	where := operators.Node{Control: g.cfg.Node.Control, Data: g.cfg.Node.Data}
	d := operators.Description{Kind: operators.KindOperator, Name: x.name(), Node: &where, Operators: []operators.Spec{spec}}
	b, err := d.Marshal()
	if err == nil {
		err = g.cfg.Publisher.Publish(d.Name, b)
	}
	if err != nil {
		return err
	}
	g.cfg.Publisher.SetNumbers(d.Name, numbers)
	return nil
}

// withdraw ends a guest for a reason: nobody finds it any more, and its instances end. It may be called again.
func (g *Guests) withdraw(x *guest, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if x.closed() {
		return
	}
	x.why = why
	g.cfg.Publisher.Withdraw(x.name())
	close(x.shut)
}

// remove forgets a guest and frees its name.
func (g *Guests) remove(x *guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.guests[x.spec.Name] == x {
		delete(g.guests, x.spec.Name)
		g.cfg.Registry.Remove(x.program())
	}
}

// tell is what is known of a guest.
func (g *Guests) tell(x *guest) Guest {
	g.mu.Lock()
	defer g.mu.Unlock()
	o := Guest{Name: x.spec.Name, Service: string(g.cfg.Owner) + "#" + x.name(), Author: x.author, State: "published",
		Examinations: x.exams, Cost: x.published.Cost}
	switch {
	case x.closed():
		o.State, o.Text = "withdrawn", x.why
	case x.exams > 0:
		o.Text = fmt.Sprintf("%d samples: quality %.2f, latency p50 %v p99 %v", x.last.Samples, x.last.Quality,
			x.last.P50.Round(10*time.Microsecond), x.last.P99.Round(10*time.Microsecond))
	default:
		o.Text = fmt.Sprintf("nobody keeps samples from %v to %v here: it is published unexamined, with a quality of at most %.1f",
			x.spec.In, x.spec.Out, unexamined)
	}
	return o
}

// List tells of all guests, those withdrawn in service too, in order of name.
func (g *Guests) List() []Guest {
	g.mu.Lock()
	all := slices.Collect(maps.Values(g.guests))
	g.mu.Unlock()
	var list []Guest
	for _, x := range all {
		list = append(list, g.tell(x))
	}
	slices.SortFunc(list, func(a, b Guest) int { return strings.Compare(a.Name, b.Name) })
	return list
}

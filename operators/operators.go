// Package operators says what an operator is: the code that transforms what flows along a path, its XML description, the
// patterns over types that say what it accepts and makes, and the unifier that decides what fits to what
// (ninja-architecture, section 7: operators are strongly typed, and "the type and attributes for each operator are
// combined to form an XML description").
package operators

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"ninja/connectors"
	"ninja/internal/world"
)

// Operator transforms what flows. Run reads ADUs from in until io.EOF and writes to out, returns nil when the stream
// ended and what it had was written, and an error that says what was being done otherwise. It closes neither end. It
// ends soon after ctx does. A source is given no reader, a sink no writer (nil).
//
// An operator that holds back output (a queue of speech) takes connectors.Flush from out.Events and passes it on with
// in.Signal; others need not: what an operator does not take is passed upstream by its host.
type Operator interface {
	Run(ctx context.Context, in connectors.Reader, out connectors.Writer) error
}

// Func is an Operator that is a function.
type Func func(ctx context.Context, in connectors.Reader, out connectors.Writer) error

// Run calls f.
func (f Func) Run(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
	return f(ctx, in, out)
}

// Each is the operator that turns every ADU into one ADU. The function may change the ADU and reuse its payload.
func Each(f func(a connectors.ADU) (connectors.ADU, error)) Operator {
	return Func(func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
		for {
			a, err := in.Read(ctx)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if a, err = f(a); err != nil {
				return err
			}
			if err := out.Write(ctx, a); err != nil {
				return err
			}
		}
	})
}

// Env is what an operator is made in.
type Env struct {
	World world.World
	Log   *slog.Logger
	// In and Out are the ground types of this instance; In is zero for a source, Out for a sink.
	In, Out connectors.Type
	// Args are the arguments of the description's program element.
	Args map[string]string
	// Data fetches external data that a type or argument refers to (SERVICE@sha256:HASH); at most 4 MiB, verified.
	Data func(ctx context.Context, ref string) ([]byte, error)
	// Note tells the path's owner something: "recognised", "6 15 main street". Kind is a word, text at most 1 KiB; it
	// does not block, and notes beyond a bound are dropped.
	Note func(kind, text string)
	// Position is the place of the user, when the request gave one.
	Position *Position
	// Path is the path that the operator is part of; "" outside of one.
	Path string
}

// Position is a place on earth in degrees (WGS 84).
type Position struct {
	Lat float64 `xml:"lat,attr"`
	Lon float64 `xml:"lon,attr"`
}

// Factory makes an operator. It fetches what the operator needs and fails when that cannot be had: after it, the
// operator is ready to run.
type Factory func(ctx context.Context, env Env) (Operator, error)

// Registry holds the programs that a node may run, by the key that descriptions name them with. A description never
// starts anything else. The zero Registry is empty and ready; it is safe for use by many goroutines.
type Registry struct {
	mu        sync.RWMutex
	factories map[string]Factory
}

// Add registers a program. A key that is taken is a mistake in the program that calls, and panics.
func (r *Registry) Add(key string, f Factory) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.factories[key]; taken {
		panic("operators: program " + key + " is registered twice")
	}
	if r.factories == nil {
		r.factories = make(map[string]Factory)
	}
	r.factories[key] = f
}

// Remove forgets a program. Operators that were made of it run on.
func (r *Registry) Remove(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.factories, key)
}

// Keys lists the programs in order.
func (r *Registry) Keys() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.factories))
}

// ErrNoProgram is returned for a key that is not registered.
var ErrNoProgram = errors.New("this node has no such program")

// Make makes the operator whose program has the key.
func (r *Registry) Make(ctx context.Context, key string, env Env) (Operator, error) {
	r.mu.RLock()
	f, ok := r.factories[key]
	r.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("program %q: %w", key, ErrNoProgram)
	}
	op, err := f(ctx, env)
	if err != nil {
		return nil, fmt.Errorf("program %q: %w", key, err)
	}
	return op, nil
}

// Package wrap makes operators of services that know nothing of paths (ninja-architecture, section 7.3: "a special class
// of dynamic operators that can be used to wrap existing services ... that can't communicate directly with our
// connectors"): a program, an HTTP service, a gRPC service. One ADU is one request, and its answer is one ADU.
//
// A wrapped service is described in a few lines; nobody writes code:
//
//	<operator name="sort-lines" program="wrap-program">
//	  <in>text/plain;lang=$l</in>
//	  <out>text/plain;lang=$l;sorted=yes</out>
//	  <cost cpu="0.01" latency="20ms" memory="1048576"/>
//	  <arg name="key" value="sort"/>
//	</operator>
//
//	program="wrap-http"   url="https://translate.example/en-de"
//	program="wrap-grpc"   address="speech.example:443" method="/speech.v1.Speech/Hear" message="bytes|string|raw" tls="yes|no"
//
// Descriptions come from strangers, so they decide nothing that matters. A program is named by a key in the node's own
// list, which says what is started, with which arguments and limits. Services are reached at public addresses alone, and
// at those the node's list allows; the address is checked after the name was resolved, at every dial and every redirect,
// and it is the checked address that is dialled.
package wrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ninja/connectors"
	"ninja/operators"
)

// Keys of the programs that Register adds.
const (
	ProgramKey = "wrap-program"
	HTTPKey    = "wrap-http"
	GRPCKey    = "wrap-grpc"
)

// Config is what a node allows wrapped services.
type Config struct {
	// Programs are what may be started, by key; empty is nothing.
	Programs map[string]Program
	// Allow lists addresses that services may have beside public ones; empty is none.
	Allow []netip.Prefix
	// Resolve looks a name up; nil asks the resolver of the system.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Timeout is how long one request may take; 0 is 10 s.
	Timeout time.Duration
	// Folder is where running programs get a folder of their own each; "" is the system's for temporary files.
	Folder string
	// Log is told why programs end; nil is nowhere.
	Log *slog.Logger
}

// Wrapper makes wrapped operators.
type Wrapper struct {
	cfg    Config
	policy *policy

	mu   sync.Mutex
	used map[string]Usage
}

// Usage is what a program's processes that have ended used.
type Usage struct {
	// CPU is their processor time in all.
	CPU time.Duration
	// Memory is the most that one of them had at once, in bytes; 0 when it is not known.
	Memory int64
}

// Used tells what the program with a key has used, of processes that have ended.
func (w *Wrapper) Used(key string) Usage {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.used[key]
}

func (w *Wrapper) account(key string, u Usage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := w.used[key]
	w.used[key] = Usage{CPU: sum.CPU + u.CPU, Memory: max(sum.Memory, u.Memory)}
}

// Keys lists the programs that may be started, in order.
func (w *Wrapper) Keys() []string { return slices.Sorted(maps.Keys(w.cfg.Programs)) }

// New checks the configuration.
func New(cfg Config) (*Wrapper, error) {
	if cfg.Timeout < 0 {
		return nil, fmt.Errorf("wrap: a timeout of %v", cfg.Timeout)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Programs = maps.Clone(cfg.Programs)
	for key, p := range cfg.Programs {
		checked, err := p.withDefaults()
		if err != nil {
			return nil, fmt.Errorf("wrap: program %q: %w", key, err)
		}
		cfg.Programs[key] = checked
	}
	return &Wrapper{cfg: cfg, policy: newPolicy(cfg), used: make(map[string]Usage)}, nil
}

// Register registers the three programs that wrap.
func (w *Wrapper) Register(r *operators.Registry) {
	r.Add(ProgramKey, w.makeProgram)
	r.Add(HTTPKey, w.makeHTTP)
	r.Add(GRPCKey, w.makeGRPC)
}

// service answers one request after another. It is used by one goroutine.
type service interface {
	// ask returns the answer, at most connectors.MaxPayload bytes. After an error it may be asked again.
	ask(ctx context.Context, payload []byte) ([]byte, error)
	close()
}

// failures is how many requests in a row may fail before the operator gives up: what is wrong then does not mend by
// itself, and the path may find another operator.
const failures = 5

// wrapped is the operator.
type wrapped struct {
	service service
	timeout time.Duration
	env     operators.Env
}

// Run asks the service once for each ADU. An answer has the marks of its request. A request that fails is dropped after
// a note: the next one may be good.
func (o *wrapped) Run(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
	defer o.service.close()
	if w, ok := o.service.(interface{ warm() }); ok {
		w.warm()
	}
	failed := 0
	for {
		a, err := in.Read(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer, err := o.ask(ctx, a.Payload)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if failed++; failed == failures {
				return fmt.Errorf("%d requests in a row failed: %w", failed, err)
			}
			if o.env.Note != nil {
				o.env.Note("fault", err.Error())
			}
			continue
		}
		failed = 0
		if err := out.Write(ctx, connectors.ADU{Payload: answer, MediaTime: a.MediaTime, Mark: a.Mark}); err != nil {
			return err
		}
	}
}

func (o *wrapped) ask(ctx context.Context, payload []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	return o.service.ask(ctx, payload)
}

// Close lets go of a service whose operator was made and never run.
func (o *wrapped) Close() error { o.service.close(); return nil }

func (w *Wrapper) operator(env operators.Env, s service) operators.Operator {
	return &wrapped{service: s, timeout: w.cfg.Timeout, env: env}
}

// checkArgs refuses arguments that the program does not know, and missing ones.
func checkArgs(args map[string]string, needed []string, allowed ...string) error {
	for _, name := range needed {
		if args[name] == "" {
			return fmt.Errorf("the argument %s is wanted", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if !slices.Contains(needed, name) && !slices.Contains(allowed, name) {
			return fmt.Errorf("argument %.40q is not known; it knows %v", name, append(needed, allowed...))
		}
	}
	return nil
}

// tooLong is the error of an answer over the bound.
func tooLong() error {
	return fmt.Errorf("the answer has more than %d bytes", connectors.MaxPayload)
}

package speech

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"ninja/internal/world"
)

// recogniser is an engine with a grammar, started again whenever it dies.
type recogniser struct {
	engines *pool
	grammar string
	words   []string
	lex     *lexicon
	world   world.World
	log     *slog.Logger

	// Of one goroutine, first the factory's and then Run's.
	engine  *engine   // nil when none runs
	started time.Time // when it was
	deaths  int       // how many engines in a row ended by themselves, each soon after its start

	mu     sync.Mutex // guards what follows: a recogniser that was made and never run must not keep its engine
	taken  bool
	expire *time.Timer
}

const (
	// unused is how long the engine of an operator waits for Run.
	unused = 30 * time.Second
	// Starting is tried startTries times, waiting firstWait, twice that, and so on, each with jitter.
	startTries = 6
	firstWait  = 50 * time.Millisecond
	// An engine that ends by itself within youngest is followed by a wait that doubles each time, up to longestWait.
	youngest    = 10 * time.Second
	longestWait = 5 * time.Second
	// An utterance that the engine dies of is not given to it more often than this.
	hearTries = 3
)

// prepare starts an engine and gives it the grammar. It fails at once: what is wrong then, a retry does not mend.
func (r *recogniser) prepare(ctx context.Context) error {
	e, err := r.engines.take()
	if err != nil {
		return err
	}
	if err := r.teach(ctx, e); err != nil {
		e.close()
		return err
	}
	r.engine, r.started = e, r.world.Now()
	return nil
}

// teach gives an engine the words it does not know and the grammar.
func (r *recogniser) teach(ctx context.Context, e *engine) error {
	missing, err := e.ask(ctx, askLookup, []byte(strings.Join(r.words, "\n")))
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		entries, err := r.lex.entries(ctx, strings.Fields(string(missing)))
		if err != nil {
			return err
		}
		if _, err := e.ask(ctx, askAdd, []byte(entries)); err != nil {
			return err
		}
	}
	_, err = e.ask(ctx, askGrammar, []byte(r.grammar))
	return err
}

// await lets the engine go when nobody takes the recogniser in time.
func (r *recogniser) await() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire = time.AfterFunc(unused, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.taken {
			r.drop()
		}
	})
}

// take makes the caller the one who uses and closes the recogniser.
func (r *recogniser) take() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = true
	if r.expire != nil {
		r.expire.Stop()
	}
}

func (r *recogniser) drop() {
	if r.engine != nil {
		r.engine.close()
		r.engine = nil
	}
}

// dead is closed when the engine has ended; nil, which blocks, when there is none.
func (r *recogniser) dead() <-chan struct{} {
	if r.engine == nil {
		return nil
	}
	return r.engine.dead
}

// revive makes sure that an engine runs.
func (r *recogniser) revive(ctx context.Context) error {
	if r.engine != nil {
		select {
		case <-r.engine.dead:
			r.drop()
			if err := r.mourn(ctx); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	wait := firstWait
	for try := 1; ; try++ {
		err := r.prepare(ctx)
		if err == nil {
			return nil
		}
		var no *refused
		if ctx.Err() != nil || errors.As(err, &no) || try == startTries {
			return fmt.Errorf("start the recogniser, %d tries: %w", try, err)
		}
		r.log.Warn("the recogniser did not start", "try", try, "error", err)
		if err := world.Sleep(ctx, r.world.Jitter(wait)); err != nil {
			return err
		}
		wait *= 2
	}
}

// mourn waits after the end of an engine, unless it had lived well.
func (r *recogniser) mourn(ctx context.Context) error {
	if r.world.Now().Sub(r.started) >= youngest {
		r.deaths = 0
		return nil
	}
	r.deaths++
	return world.Sleep(ctx, r.world.Jitter(min(firstWait<<min(r.deaths, 10), longestWait)))
}

// hear decodes an utterance of 16 kHz samples; "" when it is nothing that the grammar allows. When the engine dies over
// it, another gets the same samples; when that happens again and again, the utterance counts as not heard.
func (r *recogniser) hear(ctx context.Context, samples []int16) (string, error) {
	samples = samples[:min(len(samples), maxBody/2)]
	body := make([]byte, 0, 2*len(samples))
	for _, s := range samples {
		body = binary.LittleEndian.AppendUint16(body, uint16(s))
	}
	for try := 1; try <= hearTries; try++ {
		if err := r.revive(ctx); err != nil {
			return "", err
		}
		words, err := r.engine.ask(ctx, askUtterance, body)
		var no *refused
		switch {
		case err == nil:
			return strings.TrimSpace(string(words)), nil
		case ctx.Err() != nil:
			return "", ctx.Err()
		case errors.As(err, &no):
			r.log.Warn("an utterance was refused", "error", err)
			return "", nil
		}
		r.log.Warn("the recogniser failed over an utterance", "try", try, "error", err)
		r.drop()
	}
	return "", nil
}

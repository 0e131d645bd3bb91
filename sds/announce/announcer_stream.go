package announce

import (
	"context"
	"errors"
	"time"

	"ninja/internal/world"
)

// runStream brings by the stream what datagrams do not, once a period and when something changes.
func (a *Announcer) runStream(ctx context.Context) {
	const least = 50 * time.Millisecond // several changes go together
	for {
		again := a.useStream(ctx)
		period := a.streamPeriod()
		if again {
			period = least
		}
		timer := time.NewTimer(period)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-a.stream:
			timer.Stop()
			if world.Sleep(ctx, least) != nil {
				return
			}
		}
	}
}

func (a *Announcer) streamPeriod() time.Duration {
	if s, ok := a.Server(); ok {
		return s.Period
	}
	return a.cfg.Period
}

// firstWait is for how long a server is listened for before the stream is used instead.
func (a *Announcer) firstWait() time.Duration {
	if a.cfg.NoMulticast && !a.cfg.Server.IsValid() {
		return 0
	}
	return a.cfg.Period
}

// useStream sends once and says whether the server lacks something of it.
func (a *Announcer) useStream(ctx context.Context) (again bool) {
	a.mu.Lock()
	bodies, pairs, ended := a.sender.forStream(a.sender.unheard(a.cfg.World.Now(), a.firstWait()))
	a.mu.Unlock()
	if len(bodies)+len(pairs)+len(ended) == 0 {
		return false
	}
	limited, cancel := context.WithTimeout(ctx, max(a.streamPeriod(), 10*time.Second))
	defer cancel()
	unknown, err := a.cfg.Stream.Send(limited, bodies, pairs, ended)
	var refused *Refused
	if errors.As(err, &refused) { // the rest got through
		bodies = a.oneByOne(limited, bodies)
	} else if err != nil {
		if ctx.Err() == nil {
			a.cfg.Log.Warn("announcement not streamed; tried again next period", "error", err)
		}
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sender.streamed(bodies, ended, unknown)
	return len(unknown) > 0
}

// oneByOne finds out which of the bodies are refused, and returns the others.
func (a *Announcer) oneByOne(ctx context.Context, bodies []Body) (taken []Body) {
	for _, b := range bodies {
		_, err := a.cfg.Stream.Send(ctx, []Body{b}, nil, nil)
		var refused *Refused
		switch {
		case err == nil:
			taken = append(taken, b)
		case errors.As(err, &refused):
			a.mu.Lock()
			a.logRefusal(refusal{b.Name, b.Version, refused.Reason, refused.Detail})
			a.mu.Unlock()
		}
	}
	return taken
}

package announce

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// gripeEvery is how often one reason is logged: whoever can send datagrams must not be able to fill the log.
const gripeEvery = time.Minute

// gripes logs what was refused, at most once a minute for each reason, with how often it happened in between.
type gripes struct {
	log  *slog.Logger
	mu   sync.Mutex
	last map[Reason]gripe
}

type gripe struct {
	at    time.Time
	since int
}

func newGripes(log *slog.Logger) *gripes { return &gripes{log: log, last: map[Reason]gripe{}} }

func (g *gripes) about(r *Refused, now time.Time) {
	g.mu.Lock()
	last := g.last[r.Reason]
	quiet := !last.at.IsZero() && now.Sub(last.at) < gripeEvery
	if last.since++; !quiet {
		g.last[r.Reason] = gripe{at: now}
	} else {
		g.last[r.Reason] = gripe{at: last.at, since: last.since}
	}
	g.mu.Unlock()
	if quiet {
		return
	}
	level := slog.LevelWarn
	if r.Reason == ReasonUnknown || r.Reason == ReasonReplay {
		level = slog.LevelDebug // both happen in good order: after a restart, and when a network duplicates
	}
	g.log.Log(context.Background(), level, "announcement refused", "reason", string(r.Reason), "detail", r.detail(), "times", last.since)
}

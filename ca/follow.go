package ca

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"ninja/internal/world"
)

// Guide says whom to trust: a Client over the network, an *Authority in its own process. Follow calls each with the
// state when it has changed and with nil about once a second.
type Guide interface {
	Follow(ctx context.Context, each func(*State) error) error
}

// FollowerConfig configures a Follower.
type FollowerConfig struct {
	// World and Identity. Required.
	World    world.World
	Identity *Identity
	// Guide is the authority. Required.
	Guide Guide
	// Dir is where the identity is saved when the roots have changed; "" is nowhere.
	Dir string
	// Log is told of changes and failures; nil is slog.Default().
	Log *slog.Logger
}

// Follower keeps what an identity knows of whom to trust in step with its authority: new roots, other domains, bans,
// within a second or two of the change. While the authority is away the last state holds; what was not heard of a ban
// then ends with the certificates of whoever was banned.
type Follower struct{ cfg FollowerConfig }

// NewFollower makes a Follower.
func NewFollower(cfg FollowerConfig) (*Follower, error) {
	if cfg.Identity == nil || cfg.Guide == nil {
		return nil, errors.New("following the authority: an identity and a guide are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Follower{cfg}, nil
}

// Waits between attempts, and how long a silent connection is believed in.
const (
	followRetryFirst = 250 * time.Millisecond
	followRetryMost  = 10 * time.Second
	followSilence    = 3 * time.Second
)

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	retry := followRetryFirst
	for {
		begun := time.Now()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		f.cfg.Log.Debug("the certificate authority is not followed", "id", f.cfg.Identity.ID(), "error", err)
		if time.Since(begun) > followRetryMost {
			retry = followRetryFirst
		}
		if world.Sleep(ctx, f.cfg.World.Jitter(retry)) != nil {
			return nil
		}
		retry = min(2*retry, followRetryMost)
	}
}

// follow follows over one connection, which it gives up when it falls silent.
func (f *Follower) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(callTimeout, func() { cancel(errors.New("the authority has fallen silent")) })
	defer silence.Stop()
	return f.cfg.Guide.Follow(ctx, func(s *State) error {
		silence.Reset(followSilence)
		if s == nil {
			return nil
		}
		return f.adopt(*s)
	})
}

func (f *Follower) adopt(s State) error {
	before := f.cfg.Identity.State()
	if err := f.cfg.Identity.Adopt(s); err != nil {
		return err
	}
	same := sameCertificates(before.Roots, s.Roots)
	if same && sameDomains(before, s) || f.cfg.Dir == "" {
		return nil
	}
	if !same {
		f.cfg.Log.Info("the domain's roots have changed", "id", f.cfg.Identity.ID(), "roots", len(s.Roots))
	}
	return f.cfg.Identity.Save(f.cfg.Dir)
}

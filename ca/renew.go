package ca

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"ninja/internal/world"
)

// Source renews certificates: a Client over the network, an *Authority in its own process.
type Source interface {
	RenewIdentity(ctx context.Context, i *Identity) (chain, roots [][]byte, err error)
}

// RenewerConfig configures a Renewer.
type RenewerConfig struct {
	// World and Identity. Required.
	World    world.World
	Identity *Identity
	// Source makes the new certificates. Required.
	Source Source
	// Dir is where each renewed identity is saved; "" is nowhere.
	Dir string
	// Log is told of renewals and failures; nil is slog.Default().
	Log *slog.Logger
}

// Renewer keeps an identity's certificate fresh: it renews it over the same key after about two thirds of its life,
// each identity at a time of its own. An authority that is away for less than the last third is not missed; when it is
// away for longer the renewer keeps trying, and the identity comes back by itself.
type Renewer struct{ cfg RenewerConfig }

// NewRenewer makes a Renewer.
func NewRenewer(cfg RenewerConfig) (*Renewer, error) {
	if cfg.Identity == nil || cfg.Source == nil {
		return nil, errors.New("certificate renewal: an identity and a source are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Renewer{cfg}, nil
}

// Waits between attempts.
const (
	renewRetryFirst = time.Second
	renewRetryMost  = time.Minute
)

// Run renews until ctx ends.
func (r *Renewer) Run(ctx context.Context) error {
	for {
		if world.Sleep(ctx, r.wait()) != nil {
			return nil
		}
		retry := renewRetryFirst
		for {
			err := r.Renew(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return nil
			}
			r.cfg.Log.Warn("certificate not renewed", "id", r.cfg.Identity.ID(), "expires", r.cfg.Identity.Expires(), "error", err)
			if world.Sleep(ctx, r.cfg.World.Jitter(retry)) != nil {
				return nil
			}
			retry = min(2*retry, renewRetryMost)
		}
	}
}

// Due says whether the certificate is in the last third of its life.
func (r *Renewer) Due() bool {
	leaf := r.cfg.Identity.credential.Load().leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore.Add(clockSkew))
	return leaf.NotAfter.Sub(r.cfg.World.Now()) < life/3
}

// wait is how long from now to the next renewal: at 2/3 of the certificate's life, give or take 1/24.
func (r *Renewer) wait() time.Duration {
	leaf := r.cfg.Identity.credential.Load().leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore.Add(clockSkew))
	early := life/3 - life/24 + r.cfg.World.Jitter(life/12) - life/24
	return leaf.NotAfter.Add(-early).Sub(r.cfg.World.Now())
}

// Renew renews once, now.
func (r *Renewer) Renew(ctx context.Context) error {
	chain, roots, err := r.cfg.Source.RenewIdentity(ctx, r.cfg.Identity)
	if err == nil {
		err = r.cfg.Identity.Renew(chain, roots)
	}
	if err == nil && r.cfg.Dir != "" {
		err = r.cfg.Identity.Save(r.cfg.Dir)
	}
	if err != nil {
		return fmt.Errorf("renew the certificate of %s: %w", r.cfg.Identity.ID(), err)
	}
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ninja/ca"
	"ninja/internal/world"
)

// daemon is one running ninjad.
type daemon struct {
	cfg    config
	log    *slog.Logger
	world  world.World
	health *health
	// authority is the one of the role ca, nil without it.
	authority *ca.Authority
	// manager is the address of the capability manager that the role sds announces.
	manager string
	// ready holds the address of each role, told in the ready file.
	ready map[string]string

	ctx   context.Context // what keep runs under; ends after the roles that came later
	stop  context.CancelCauseFunc
	parts sync.WaitGroup
}

// stopTime bounds a clean stop; what has not ended by then is left to the end of the process.
const stopTime = 5 * time.Second

// run plays the roles until ctx ends or one of their parts fails.
func (c config) run(ctx context.Context) error {
	lock, err := lockState(c.State)
	if err != nil {
		return err
	}
	defer lock.Close()
	d := &daemon{cfg: c, log: c.logger(), world: world.Real(), health: newHealth(), ready: make(map[string]string)}
	d.ctx, d.stop = context.WithCancelCause(ctx)
	defer d.stop(nil)
	begun := d.world.Now()
	if err := d.start(d.ctx); err != nil {
		d.stop(err)
		d.await()
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	d.health.ready.Store(true)
	if err := d.tellReady(); err != nil {
		return err
	}
	d.log.Info("ready", "after", d.world.Now().Sub(begun).Round(time.Millisecond))
	<-d.ctx.Done()
	d.log.Info("stopping")
	d.await()
	if cause := context.Cause(d.ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// await waits for the parts to end.
func (d *daemon) await() {
	ended := make(chan struct{})
	go func() {
		d.parts.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(stopTime):
		d.log.Warn("some parts did not stop in time")
	}
}

// keep runs a part in the background. A part that fails stops the daemon: a half-working one helps nobody.
func (d *daemon) keep(log *slog.Logger, what string, part func(context.Context) error) {
	d.parts.Go(func() {
		if err := part(d.ctx); err != nil && d.ctx.Err() == nil {
			log.Error("a part has failed", "part", what, "error", err)
			d.stop(fmt.Errorf("%s: %w", what, err))
		}
	})
}

// start starts the roles, those that others depend on first.
func (d *daemon) start(ctx context.Context) error {
	if d.cfg.HTTP != "" {
		if err := d.health.serve(d); err != nil {
			return err
		}
	}
	r := d.cfg.Roles
	for _, role := range []struct {
		played bool
		name   string
		start  func(context.Context) error
	}{
		{r.CA != nil, "ca", d.startCA},
		{r.Capability != nil, "capability", d.startCapability},
		{r.SDS != nil, "sds", d.startSDS},
		{r.APC != nil, "apc", d.startAPC},
		{r.Proxy != nil, "proxy", d.startProxy},
		{r.Base != nil, "base", d.startBase},
		{r.Unit != nil, "unit", d.startUnit},
		{r.DNSSD != nil, "dnssd", d.startDNSSD},
		{r.HTTPSD != nil, "httpsd", d.startHTTPSD},
	} {
		if !role.played {
			continue
		}
		if err := role.start(ctx); err != nil {
			return fmt.Errorf("role %s: %w", role.name, err)
		}
	}
	return nil
}

// tellReady writes the ready file whole or not at all.
func (d *daemon) tellReady() error {
	if d.cfg.Ready == "" {
		return nil
	}
	b, err := json.Marshal(d.ready)
	if err != nil {
		return err
	}
	half := d.cfg.Ready + ".new"
	if err := os.WriteFile(half, b, 0o644); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	return os.Rename(half, d.cfg.Ready)
}

// dir is a directory of the daemon's own within its state.
func (d *daemon) dir(name string) string { return filepath.Join(d.cfg.State, name) }

package main

import (
	"context"
	"fmt"
	"log/slog"

	"ninja/capability"
	"ninja/cmd/home"
	"ninja/sds"
)

// dial finds the server and the capability to ask with: both by listening, unless they were named.
func (o *options) dial(ctx context.Context, t terminal) (*sds.Client, error) {
	cfg, err := o.config(ctx, t)
	if err != nil {
		return nil, err
	}
	return sds.Dial(cfg)
}

// config is what a client of the server needs.
func (o *options) config(ctx context.Context, t terminal) (cfg sds.ClientConfig, err error) {
	h, err := home.Open(ctx, o.Home)
	if err != nil {
		return cfg, err
	}
	if o.Watch { // it may outlive the certificate
		if err := h.Stay(ctx); err != nil {
			return cfg, err
		}
	}
	if o.Scope == "all" { // what comes from other domains is checked against their roots
		if err := h.Update(ctx); err != nil {
			fmt.Fprintln(t.err, "sdsquery: the authority does not say which other domains are trusted; as far as is known:", plain(err.Error()))
		}
	}
	cfg = sds.ClientConfig{
		Identity: h.Identity, World: h.World, Address: o.Server,
		Log: slog.New(slog.NewTextHandler(t.err, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if o.Server == "" {
		servers, err := h.Server(ctx)
		if err != nil {
			return cfg, err
		}
		cfg.Address = servers.SDS
	}
	rights, err := o.rights(ctx, h)
	if err != nil {
		fmt.Fprintln(t.err, "sdsquery: no capability manager is known, so only what everyone may find:", plain(err.Error()))
		return cfg, nil
	}
	cfg.Capability, cfg.Vouch = rights.Capability, rights.Vouch
	return cfg, nil
}

// rights is a client of the capability manager.
func (o *options) rights(ctx context.Context, h *home.Home) (*capability.Client, error) {
	if o.Manager == "" {
		return h.Rights(ctx)
	}
	return capability.NewClient(capability.ClientConfig{World: h.World, Identity: h.Identity, Address: o.Manager})
}

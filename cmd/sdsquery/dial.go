package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/announce"
)

// settings say where to listen for servers: the file settings.json that ninjactl join writes beside the identity.
type settings struct {
	Group string `json:"group"` // the well-known channel of server announcements; "" is the default
	Via   string `json:"via"`   // the address of the interface to listen on; "" is the default
}

// listenTime is how long to wait for a server to be heard.
const listenTime = 5 * time.Second

// dial finds the server and the capability to ask with. The caller closes both.
func (o *options) dial(ctx context.Context, t terminal) (*sds.Client, *capability.Client, error) {
	w := world.Real()
	dir, err := o.directory()
	if err != nil {
		return nil, nil, err
	}
	id, err := ca.Load(dir, w)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("there is no identity in %s: run `ninjactl join TOKEN` with a token from whoever runs the servers, or set NINJA_HOME", dir)
	}
	if err != nil {
		return nil, nil, err
	}
	address, manager := o.Server, o.Manager
	if address == "" || manager == "" {
		info, err := listen(ctx, w, id, dir)
		switch {
		case err != nil && address == "":
			return nil, nil, err
		case err != nil:
			fmt.Fprintln(t.err, "sdsquery: no capability manager is known (--manager), so only what everyone may find:", plain(err.Error()))
		}
		if address == "" && len(info.Addresses) > 0 {
			address = info.Addresses[0]
		}
		if manager == "" && len(info.Capability) > 0 {
			manager = info.Capability[0]
		}
	}
	cfg := sds.ClientConfig{
		Identity: id, World: w, Address: address,
		Log: slog.New(slog.NewTextHandler(t.err, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	var rights *capability.Client
	if manager != "" {
		if rights, err = capability.NewClient(capability.ClientConfig{World: w, Identity: id, Address: manager}); err != nil {
			return nil, nil, err
		}
		cfg.Capability = rights.Capability
	}
	client, err := sds.Dial(cfg)
	return client, rights, err
}

// directory is where the identity lies.
func (o *options) directory() (string, error) {
	if o.Home != "" {
		return o.Home, nil
	}
	user, err := os.UserHomeDir()
	return filepath.Join(user, ".ninja"), err
}

// listen waits for a server to announce itself.
func listen(ctx context.Context, w world.World, id *ca.Identity, dir string) (announce.ServerInfo, error) {
	cfg := announce.ListenConfig{Identity: id, World: w, Log: slog.New(slog.DiscardHandler)}
	var s settings
	b, err := os.ReadFile(filepath.Join(dir, "settings.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return announce.ServerInfo{}, fmt.Errorf("settings in %s: %w", dir, err)
	}
	if s.Group != "" {
		if cfg.Servers, err = netip.ParseAddrPort(s.Group); err != nil {
			return announce.ServerInfo{}, fmt.Errorf("settings in %s: group: %w", dir, err)
		}
	}
	if s.Via != "" {
		if cfg.Via, err = netip.ParseAddr(s.Via); err != nil {
			return announce.ServerInfo{}, fmt.Errorf("settings in %s: via: %w", dir, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, listenTime)
	defer cancel()
	info, err := announce.Listen(ctx, cfg)
	if err != nil {
		return info, fmt.Errorf("no SDS server was heard for %v (is one running, and is %s right?): %w", listenTime, filepath.Join(dir, "settings.json"), err)
	}
	return info, nil
}

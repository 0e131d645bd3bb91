package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockState makes the state directory and takes it for this process alone. The lock ends with the process.
func lockState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("state directory %s is in use by another ninjad: stop it, or name another directory", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// listen opens a listener. Where the configuration leaves the port open (port 0), the daemon takes the one it had before
// if it is free: others remember its addresses over a restart.
func (d *daemon) listen(ctx context.Context, what, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen address of %s: %w", what, err)
	}
	if port != "0" {
		return d.world.Net.Listen(ctx, "tcp", address)
	}
	file := d.dir("port-" + what)
	if before, err := os.ReadFile(file); err == nil {
		if l, err := d.world.Net.Listen(ctx, "tcp", net.JoinHostPort(host, strings.TrimSpace(string(before)))); err == nil {
			return l, nil
		}
	}
	l, err := d.world.Net.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", what, err)
	}
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err == nil {
		err = os.WriteFile(file, []byte(port+"\n"), 0o600)
	}
	return l, err
}

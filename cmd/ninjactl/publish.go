package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ninja/cmd/home"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/announce"
	"ninja/sds/check"
)

type publishCommand struct {
	File  string `arg:"" type:"existingfile" help:"The description, one XML document."`
	Name  string `help:"Name of the service; the default is the document's name attribute, or the file's name."`
	Watch bool   `help:"Publish again whenever the file changes."`
}

// Run announces the description until it is interrupted, then withdraws it.
func (p *publishCommand) Run(ctx context.Context, c *commands) error {
	description, name, err := p.read()
	if err != nil {
		return err
	}
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return err
	}
	if err := h.Stay(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	client, err := h.SDS(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	cfg, err := h.Announcing(client)
	if err != nil {
		return err
	}
	a, err := announce.New(cfg)
	if err != nil {
		return err
	}
	if err := a.Publish(name, description); err != nil {
		return err
	}
	// The announcer outlives the interrupt for as long as the withdrawal takes.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(running) }()
	defer func() {
		a.Withdraw(name)
		_ = world.Sleep(context.WithoutCancel(ctx), withdrawTime)
		stop()
		<-ended
	}()
	id := fmt.Sprintf("%s#%s", h.Identity.ID(), name)
	if err := accepted(ctx, client, h, name); err != nil {
		return err
	}
	fmt.Printf("%s is published (%d bytes); interrupt to withdraw it\n", id, len(description))
	fmt.Printf("only you can find it until you say otherwise: ninjactl acl grant %s everyone find\n", name)
	return p.follow(ctx, a, name, description, ended)
}

// withdrawTime lets the last datagrams out.
const withdrawTime = 300 * time.Millisecond

// accepted waits until the server has the service.
func accepted(ctx context.Context, client *sds.Client, h *home.Home, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		found, err := client.Query(ctx, sds.Query{By: h.Identity.ID()})
		for _, f := range found {
			if f.Name == name {
				return nil
			}
		}
		if world.Sleep(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("the SDS server has not taken %q in: %w (its log says why)", name, errors.Join(err, ctx.Err()))
		}
	}
}

// follow publishes the file again when it changes, until ctx ends.
func (p *publishCommand) follow(ctx context.Context, a *announce.Announcer, name string, before []byte, ended <-chan error) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return err
		case <-tick.C:
		}
		if !p.Watch {
			continue
		}
		now, _, err := p.read()
		switch {
		case err != nil:
			fmt.Fprintln(os.Stderr, "ninjactl: the file is not published as it is now:", err)
		case string(now) != string(before):
			if err := a.Publish(name, now); err != nil {
				return err
			}
			before = now
			fmt.Printf("%s: published again (%d bytes)\n", name, len(now))
		}
	}
}

// read reads and checks the file: what the server would refuse is refused here, with the same words.
func (p *publishCommand) read() (description []byte, name string, err error) {
	f, err := os.Open(p.File)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	if description, err = io.ReadAll(io.LimitReader(f, announce.MaxDescription+1)); err != nil {
		return nil, "", err
	}
	doc, err := check.Parse(description)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", p.File, err)
	}
	name = p.Name
	for _, a := range doc.Attributes(0) {
		if name == "" && a.Local == "name" && a.Space == "" {
			name = a.Value
		}
	}
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(p.File), filepath.Ext(p.File))
	}
	return description, name, announce.CheckName(name)
}

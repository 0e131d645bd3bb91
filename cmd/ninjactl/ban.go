package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"ninja/ca"
	"ninja/cmd/home"
)

type banCommand struct {
	ID   string `arg:"" help:"Whom: spiffe://DOMAIN/KIND/NAME."`
	Lift bool   `help:"End the ban."`
	output
}

// Run shuts a principal out: its capabilities end within seconds and it gets no others, and its certificate, which holds
// for an hour at most, is not renewed. Either is done though the other should fail.
func (b *banCommand) Run(ctx context.Context, c *commands) error {
	id, err := ca.ParseID(b.ID)
	if err != nil {
		return err
	}
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return err
	}
	rights, err := h.Rights(ctx)
	if err != nil {
		return err
	}
	defer rights.Close()
	err = errors.Join(
		about("the capability manager", rights.Bar(ctx, id, b.Lift)),
		about("the certificate authority", ca.NewClient(h.World, h.Identity).Ban(ctx, id, b.Lift)),
	)
	if err != nil {
		return err
	}
	out := struct {
		ID     ca.ID `json:"id"`
		Banned bool  `json:"banned"`
	}{id, !b.Lift}
	return b.print(out, func(w io.Writer) {
		if b.Lift {
			fmt.Fprintf(w, "%s is no longer banned\n", id)
			return
		}
		fmt.Fprintf(w, "%s has lost its capabilities and its certificate is not renewed; to end that: ninjactl ban --lift %s\n", id, id)
	})
}

// about says whose error it is.
func about(who string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", who, readable(err))
}

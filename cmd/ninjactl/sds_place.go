package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"ninja/sds/tree"
)

// sdsPlacing is what join and leave have in common.
type sdsPlacing struct {
	Hierarchy string        `arg:"" help:"The hierarchy's name."`
	Timeout   time.Duration `default:"30s" help:"How long to wait for a parent."`
	sdsServer
}

type sdsJoin struct {
	sdsPlacing
	Addresses []string `arg:"" optional:"" placeholder:"HOST:PORT" help:"Where servers are that can be the parent, tried in order. Without one the server stands as its configuration says (roles.sds.parents), whatever was changed since."`
	Domain    string   `help:"The parents' domain, where it is not the server's own; it must be trusted there (ninjactl ca trust)."`
}

func (j *sdsJoin) Run(ctx context.Context, c *commands) error {
	return j.placed(ctx, c, func(ctx context.Context, client *tree.Client) (tree.Place, error) {
		return client.Join(ctx, tree.Parent{Hierarchy: j.Hierarchy, Addresses: j.Addresses, Domain: j.Domain})
	})
}

type sdsLeave struct{ sdsPlacing }

func (l *sdsLeave) Run(ctx context.Context, c *commands) error {
	return l.placed(ctx, c, func(ctx context.Context, client *tree.Client) (tree.Place, error) {
		return client.Leave(ctx, l.Hierarchy)
	})
}

// placed has the server stand elsewhere, and says where it does.
func (p *sdsPlacing) placed(ctx context.Context, c *commands, f func(context.Context, *tree.Client) (tree.Place, error)) error {
	if err := tree.CheckName(p.Hierarchy); err != nil {
		return err
	}
	client, err := p.dial(ctx, c)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	place, err := f(ctx, client)
	if err != nil {
		return readable(err)
	}
	return p.print(place, func(w io.Writer) {
		if place.Parent == "" {
			fmt.Fprintf(w, "%s: without a parent\n", place.Hierarchy)
			return
		}
		fmt.Fprintf(w, "%s: below %s at %s\n", place.Hierarchy, place.Parent, place.Address)
	})
}

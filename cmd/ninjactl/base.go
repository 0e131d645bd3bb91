package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"ninja/base"
	"ninja/cmd/home"
)

type baseCommand struct {
	Start baseStart `cmd:"" help:"Push a component into a node as a service."`
	List  baseList  `cmd:"" help:"List a node's services and the components it could start."`
	Stop  baseStop  `cmd:"" help:"Withdraw a service and release it."`
}

// at names a node.
type at struct {
	Node string `required:"" help:"The node's control address, HOST:PORT (sdsquery shows it in the node element of its services)."`
}

func (a at) open(ctx context.Context, c *commands) (*base.Client, error) {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return nil, err
	}
	return base.NewClient(h.Identity, a.Node)
}

type baseStart struct {
	Component string   `arg:"" help:"Key of the component, as base list prints it."`
	Name      string   `arg:"" help:"Name of the service."`
	Args      []string `arg:"" optional:"" help:"NAME=VALUE."`
	at
}

func (b *baseStart) Run(ctx context.Context, c *commands) error {
	args := make(map[string]string)
	for _, text := range b.Args {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("%q: want NAME=VALUE", text)
		}
		args[name] = value
	}
	node, err := b.open(ctx, c)
	if err != nil {
		return err
	}
	defer node.Close()
	return node.Start(ctx, b.Component, b.Name, args)
}

type baseList struct {
	at
	output
}

func (b *baseList) Run(ctx context.Context, c *commands) error {
	node, err := b.open(ctx, c)
	if err != nil {
		return err
	}
	defer node.Close()
	services, components, err := node.List(ctx)
	if err != nil {
		return err
	}
	all := struct {
		Services   []base.Status `json:"services"`
		Components []string      `json:"components"`
	}{services, components}
	return b.print(all, func(w io.Writer) {
		fmt.Fprintln(w, "SERVICE\tCOMPONENT\tSTATE\tSINCE")
		for _, s := range services {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, s.Component, s.State, s.Started.Format(time.DateTime))
		}
		fmt.Fprintf(w, "\ncomponents: %s\n", strings.Join(components, ", "))
	})
}

type baseStop struct {
	Name string `arg:"" help:"Name of the service."`
	at
}

func (b *baseStop) Run(ctx context.Context, c *commands) error {
	node, err := b.open(ctx, c)
	if err != nil {
		return err
	}
	defer node.Close()
	return node.Stop(ctx, b.Name)
}

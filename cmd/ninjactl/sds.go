package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ninja/ca"
	"ninja/cmd/home"
	"ninja/sds"
	"ninja/sds/route"
	"ninja/sds/tree"
)

type sdsCommand struct {
	Tree    sdsTree    `cmd:"" help:"Walk the hierarchies from a server and show every server that is reached, and those that are not."`
	Links   sdsLinks   `cmd:"" help:"Show a server's parents and children and how they fare."`
	Summary sdsSummary `cmd:"" help:"Show what a server's children have told of what they have, and what it costs."`
	Join    sdsJoin    `cmd:"" help:"Have a server stand below another parent in a hierarchy, now and after a restart: its domain's administrator."`
	Leave   sdsLeave   `cmd:"" help:"Have a server stand without a parent in a hierarchy, now and after a restart: its domain's administrator."`
	// Simulate needs no server.
	Simulate sdsSimulate `cmd:"" help:"Simulate a hierarchy of many servers with churn and faults: what its links would carry, and where queries would go."`
}

// sdsServer is the server that is asked.
type sdsServer struct {
	Server string `env:"NINJA_SDS" placeholder:"HOST:PORT" help:"The SDS server; else it is found by listening."`
	output
}

func (s *sdsServer) dial(ctx context.Context, c *commands) (*tree.Client, error) {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return nil, err
	}
	cfg := sds.ClientConfig{Identity: h.Identity, World: h.World, Address: s.Server}
	rights, err := h.Rights(ctx)
	if err != nil && s.Server == "" {
		return nil, err
	}
	if err == nil {
		cfg.Capability, cfg.Vouch = rights.Capability, rights.Vouch
	}
	if cfg.Address == "" {
		servers, err := h.Server(ctx)
		if err != nil {
			return nil, err
		}
		cfg.Address = servers.SDS
	}
	return tree.Dial(cfg)
}

func (s *sdsServer) standing(ctx context.Context, c *commands) (tree.Standing, error) {
	client, err := s.dial(ctx, c)
	if err != nil {
		return tree.Standing{}, err
	}
	defer client.Close()
	standing, err := client.Standing(ctx)
	return standing, readable(err)
}

type sdsLinks struct{ sdsServer }

func (l *sdsLinks) Run(ctx context.Context, c *commands) error {
	s, err := l.standing(ctx, c)
	if err != nil {
		return err
	}
	return l.print(s, func(w io.Writer) {
		fmt.Fprintf(w, "%s\n", s.Server)
		if len(s.Links) == 0 {
			fmt.Fprintln(w, "  stands alone: name its parents (ninjactl sds join, or roles.sds.parents), or have others name it as theirs")
		}
		for _, k := range s.Links {
			as, state := "child", "alive"
			if k.Up {
				as = "parent"
			}
			if !k.Alive {
				state = "down"
			}
			if k.Flag != "" {
				state += ", " + k.Flag
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\tat %s\theard %v ago\t%d asked, %d in vain\t%s\n", k.Hierarchy, as, k.Neighbour, state, k.Address,
				k.Age.Round(time.Millisecond), k.Sent, k.Wasted, k.Detail)
		}
	})
}

type sdsSummary struct{ sdsServer }

func (l *sdsSummary) Run(ctx context.Context, c *commands) error {
	s, err := l.standing(ctx, c)
	if err != nil {
		return err
	}
	return l.print(s, func(w io.Writer) {
		for _, name := range sortedKeys(s.Plans) {
			p := s.Plans[name]
			fmt.Fprintf(w, "%s: plan %d tells %d kinds of facts in pairs and %d in triples\n", name, p.Epoch, p.Pairs, p.Triples)
			for _, k := range s.Links {
				if k.Hierarchy == name && !k.Up {
					fmt.Fprintf(w, "  %s\t%d services\t%d terms\t%d bytes of memory\t%d bytes received\t%v old\t%s\n", k.Neighbour, k.Services, k.Terms,
						k.Bytes, k.Received, k.Age.Round(time.Millisecond), k.Flag)
				}
			}
		}
		if len(s.Plans) == 0 {
			fmt.Fprintf(w, "%s stands in no hierarchy\n", s.Server)
		}
	})
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

type sdsTree struct {
	sdsServer
	Timeout time.Duration `default:"10s" help:"How long to wait for the farthest."`
}

// treeNode is a server of the tree that is printed.
type treeNode struct {
	Server    ca.ID  `json:"server"`
	Via       ca.ID  `json:"via"`
	Hierarchy string `json:"hierarchy,omitempty"`
	Parent    bool   `json:"parent"` // of via
	Status    string `json:"status"`
	AgeMs     int64  `json:"age_ms"`
}

func (l *sdsTree) Run(ctx context.Context, c *commands) error {
	client, err := l.dial(ctx, c)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	a, err := client.Ask(ctx, sds.Query{Limit: 1}, tree.Options{Scope: route.All}) // everything matches: every server is asked
	if err != nil {
		return readable(err)
	}
	var nodes []treeNode
	for _, o := range a.Outcomes {
		nodes = append(nodes, treeNode{o.Server, o.Via, o.Hierarchy, o.Up, o.Status.String(), o.Age.Milliseconds()})
	}
	return l.print(nodes, func(w io.Writer) { printTree(w, a.Outcomes) })
}

// printTree writes servers under those that asked them.
func printTree(w io.Writer, outcomes []route.Outcome) {
	below := make(map[ca.ID][]route.Outcome)
	var top []route.Outcome
	for _, o := range outcomes {
		if o.Via == o.Server {
			top = append(top, o)
			continue
		}
		below[o.Via] = append(below[o.Via], o)
	}
	var write func(o route.Outcome, depth int)
	write = func(o route.Outcome, depth int) {
		arrow := ""
		if depth > 0 {
			arrow = "v "
		}
		if o.Up {
			arrow = "^ "
		}
		fmt.Fprintf(w, "%s%s%s\t%s %s\t%v\t%s\n", strings.Repeat("  ", depth), arrow, o.Server, o.Hierarchy, o.Status, o.Took.Round(time.Microsecond), o.Detail)
		next := below[o.Server]
		delete(below, o.Server) // a server that was asked by two ways is written once with all below it
		slices.SortFunc(next, func(a, b route.Outcome) int { return cmp.Compare(a.Server, b.Server) })
		for _, n := range next {
			write(n, depth+1)
		}
	}
	for _, o := range top {
		write(o, 0)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"ninja/cmd/home"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/wrap"
	"ninja/proxy"
)

type operatorPublish struct {
	project
	Node      string `help:"The proxy's control address, HOST:PORT; the default is the first proxy that you may find, may publish at, and that has the program on its list."`
	Unchecked bool   `help:"Leave out the check beforehand."`
}

// Run publishes until it is interrupted or the operator is withdrawn for a reason.
func (p *operatorPublish) Run(ctx context.Context, c *commands) error {
	description, spec, err := p.read()
	if err != nil {
		return err
	}
	if !p.Unchecked && spec.Program == wrap.ProgramKey {
		m, err := (&operatorCheck{project: p.project}).try(ctx)
		if err != nil {
			return err
		}
		if !m.Passed {
			return fmt.Errorf("%s: %s (--unchecked publishes it all the same, and the proxy will say the same)", m.Operator, strings.Join(m.Against, "; "))
		}
	}
	wait := 200 * time.Millisecond
	for {
		err := p.once(ctx, c, description, spec, func() { wait = 200 * time.Millisecond })
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, proxy.ErrLost) {
			return err
		}
		fmt.Fprintln(os.Stderr, "ninjactl:", err, "- trying again")
		if world.Sleep(ctx, world.Real().Jitter(wait)) != nil {
			return nil
		}
		wait = min(2*wait, 30*time.Second)
	}
}

// once publishes over one connection.
func (p *operatorPublish) once(ctx context.Context, c *commands, description []byte, spec *operators.Spec, up func()) error {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return err
	}
	client, err := p.find(ctx, h, spec)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Offer(ctx, description, func(g proxy.Guest) {
		up()
		fmt.Printf("%s is published; interrupt to take it back\n%s\n", g.Service, g.Text)
		fmt.Printf("paths find it by its types; to require it: ninjactl path plan '... ! operator:operator.%s ! ...'\n", g.Name)
	})
}

// find is a client of the proxy to publish at.
func (p *operatorPublish) find(ctx context.Context, h *home.Home, spec *operators.Spec) (*proxy.Client, error) {
	if p.Node != "" {
		return proxy.NewClient(h.Identity, p.Node)
	}
	halls, err := patiently(ctx, h)
	if err != nil {
		return nil, err
	}
	var why []string
	for _, x := range halls {
		switch k := key(spec); {
		case x.err != nil:
			why = append(why, fmt.Sprintf("%s: %v", x.name, x.err))
		case !x.hall.Welcome:
			why = append(why, x.name+": you are not among its publishers")
		case k != "" && !slices.Contains(x.hall.Keys, k):
			why = append(why, fmt.Sprintf("%s: it has no program %q on its list", x.name, k))
		default:
			return proxy.NewClient(h.Identity, x.address)
		}
	}
	if len(halls) == 0 {
		return nil, fmt.Errorf("no proxy is published that you may find, after %v (sdsquery kind=proxy)", appearTime)
	}
	return nil, fmt.Errorf("no proxy takes the operator (%s): whoever runs one adds what program.yaml says under roles.proxy.programs, and you under publishers",
		strings.Join(why, "; "))
}

// appearTime is how long to wait for the first proxy: one that has just started is not published yet.
const appearTime = 15 * time.Second

// patiently is halls, which waits while there is none.
func patiently(ctx context.Context, h *home.Home) (all []hallOf, err error) {
	ctx, cancel := context.WithTimeout(ctx, appearTime)
	defer cancel()
	for {
		if all, err = halls(ctx, h); err != nil || len(all) > 0 || world.Sleep(ctx, 300*time.Millisecond) != nil {
			return all, err
		}
	}
}

// hallOf is what one proxy has for authors.
type hallOf struct {
	name, address string
	hall          proxy.Hall
	err           error
}

// maxHalls bounds how many proxies are asked.
const maxHalls = 50

// halls asks the proxies that the user may find.
func halls(ctx context.Context, h *home.Home) ([]hallOf, error) {
	found, err := h.Find(ctx, operators.KindProxy, "")
	if err != nil {
		return nil, err
	}
	var all []hallOf
	for _, d := range found[:min(len(found), maxHalls)] {
		x := hallOf{name: d.Name, address: d.Node.Control}
		client, err := proxy.NewClient(h.Identity, x.address)
		if err == nil {
			limit, cancel := context.WithTimeout(ctx, 5*time.Second)
			x.hall, err = client.List(limit)
			cancel()
			client.Close()
		}
		x.err = err
		all = append(all, x)
	}
	return all, nil
}

type operatorList struct{ output }

func (l *operatorList) Run(ctx context.Context, c *commands) error {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return err
	}
	all, err := halls(ctx, h)
	if err != nil {
		return err
	}
	type row struct {
		Proxy  string        `json:"proxy"`
		Error  string        `json:"error,omitempty"`
		Keys   []string      `json:"programs"`
		Guests []proxy.Guest `json:"operators"`
	}
	var rows []row
	for _, x := range all {
		r := row{Proxy: x.name, Keys: x.hall.Keys, Guests: x.hall.Guests}
		if x.err != nil {
			r.Error = x.err.Error()
		}
		rows = append(rows, r)
	}
	return l.print(rows, func(w io.Writer) {
		fmt.Fprintln(w, "PROXY\tOPERATOR\tAUTHOR\tSTATE\tQUALITY\tLATENCY\tWHY")
		for _, r := range rows {
			for _, g := range r.Guests {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.2f\t%v\t%s\n", r.Proxy, g.Name, g.Author, g.State, g.Cost.Quality, time.Duration(g.Cost.Latency), g.Text)
			}
		}
		for _, r := range rows {
			switch {
			case r.Error != "":
				fmt.Fprintf(w, "\n%s: %s\n", r.Proxy, r.Error)
			default:
				fmt.Fprintf(w, "\n%s may be asked to run: %s\n", r.Proxy, strings.Join(r.Keys, ", "))
			}
		}
	})
}

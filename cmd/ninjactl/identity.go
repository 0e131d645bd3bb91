package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"ninja/ca"
	"ninja/cmd/home"
	"ninja/internal/world"
)

type joinCommand struct {
	Token string `arg:"" help:"The token that ninjactl token printed; it is used up."`
	Group string `help:"Channel of server announcements." placeholder:"239.255.77.1:7701"`
	Via   string `help:"Address of the network interface to listen on." placeholder:"127.0.0.1"`
	// Server is for networks without multicast.
	Server string `help:"UDP address of an SDS server to ask, where there is no multicast." placeholder:"HOST:PORT"`
}

func (j *joinCommand) Run(ctx context.Context, c *commands) error {
	dir, err := home.Default(c.Home)
	if err != nil {
		return err
	}
	w := world.Real()
	if old, err := ca.Load(dir, w); err == nil {
		return fmt.Errorf("%s holds the identity of %s already: name another directory with --home", dir, old.ID())
	}
	id, err := ca.JoinIn(ctx, w, j.Token, dir)
	if err != nil {
		return err
	}
	if err := (home.Settings{Group: j.Group, Via: j.Via, Server: j.Server}).Save(dir); err != nil {
		return err
	}
	fmt.Printf("you are %s; the identity is in %s\n", id.ID(), dir)
	return nil
}

type tokenCommand struct {
	For  string        `required:"" placeholder:"KIND/NAME" help:"Whom the token is for: user/ann, proxy/p1, base/b1, unit/lobby ..."`
	Life time.Duration `default:"1h" help:"How long it can be redeemed."`
}

func (t *tokenCommand) Run(ctx context.Context, c *commands) error {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return err
	}
	kind, name, ok := strings.Cut(t.For, "/")
	if !ok {
		return fmt.Errorf("--for %q: want KIND/NAME, as in user/ann", t.For)
	}
	id, err := ca.MakeID(h.Identity.ID().Domain(), kind, name)
	if err != nil {
		return err
	}
	token, err := ca.NewClient(h.World, h.Identity).MakeToken(ctx, id, t.Life)
	if err != nil {
		return err
	}
	fmt.Println(token)
	return nil
}

type whoamiCommand struct{ output }

func (o *whoamiCommand) Run(ctx context.Context, c *commands) error {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return err
	}
	me := struct {
		ID      ca.ID     `json:"id"`
		Expires time.Time `json:"expires"`
		Home    string    `json:"home"`
	}{h.Identity.ID(), h.Identity.Expires(), h.Dir}
	return o.print(me, func(w io.Writer) {
		fmt.Fprintf(w, "%s\ncertificate until %s (it renews itself)\nkept in %s\n", me.ID, me.Expires.Format(time.DateTime), me.Home)
	})
}

// readable strips gRPC's words from what a server wrote for a person.
func readable(err error) error {
	if err == nil {
		return nil
	}
	if _, text, ok := strings.Cut(err.Error(), "desc = "); ok {
		return fmt.Errorf("%s", text)
	}
	return err
}

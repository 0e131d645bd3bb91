package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"ninja/ca"
	"ninja/cmd/home"
)

type caCommand struct {
	Status   caStatus   `cmd:"" help:"Say which root signs, whether it is changing, and how long the issuing certificate holds."`
	Rotate   caRotate   `cmd:"" help:"Change the root: bring its key back for this moment; the rest happens by itself."`
	Ban      caBan      `cmd:"" help:"End a principal: what it has stops working everywhere within seconds."`
	Unban    caUnban    `cmd:"" help:"Lift a ban; whoever it was renews or joins again."`
	Roots    caRoots    `cmd:"" help:"Print the domain's trust file (PEM), for the administrator of another domain: its roots, and its capability manager's routing key."`
	Trust    caTrust    `cmd:"" help:"Trust another domain by its trust file, for that domain's own principals alone."`
	Domains  caDomains  `cmd:"" help:"List the other domains that are trusted, and whether hidden services are found across."`
	Distrust caDistrust `cmd:"" help:"Trust another domain no more."`
	Routing  caRouting  `cmd:"" name:"routing-key" help:"Say which routing keys the capability manager has, or change the key."`
	Audit    caAudit    `cmd:"" help:"Print the newest lines of the audit log, or check a whole one."`
}

// office connects to the authority as whoever's home it is.
func office(ctx context.Context, c *commands) (*ca.Client, *home.Home, error) {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return nil, nil, err
	}
	return ca.NewClient(h.World, h.Identity), h, nil
}

type caStatus struct{ output }

// rotationOut is what --output json prints.
type rotationOut struct {
	Root           string     `json:"root"`
	Next           string     `json:"next,omitempty"`
	SwitchAt       *time.Time `json:"switch_at,omitempty"`
	Last           []string   `json:"last,omitempty"`
	RetireAt       *time.Time `json:"retire_at,omitempty"`
	IssuingExpires time.Time  `json:"issuing_expires"`
	RootKeyPresent bool       `json:"root_key_present"`
}

func rotationOf(r ca.Rotation) rotationOut {
	out := rotationOut{Root: fingerprint(r.Root), IssuingExpires: r.IssuingExpires, RootKeyPresent: r.RootKeyPresent}
	if r.Next != nil {
		out.Next, out.SwitchAt = fingerprint(r.Next), &r.SwitchAt
	}
	for _, last := range r.Last {
		out.Last, out.RetireAt = append(out.Last, fingerprint(last)), &r.RetireAt
	}
	return out
}

func fingerprint(der []byte) string { return fmt.Sprintf("%x", ca.Fingerprint(der)) }

func writeRotation(w io.Writer, r rotationOut) {
	fmt.Fprintf(w, "root\t%s\tsigns\n", r.Root)
	if r.Next != "" {
		fmt.Fprintf(w, "next\t%s\ttrusted; signs from %s on\n", r.Next, r.SwitchAt.Local().Format(time.DateTime))
	}
	for _, last := range r.Last {
		fmt.Fprintf(w, "last\t%s\ttrusted until %s\n", last, r.RetireAt.Local().Format(time.DateTime))
	}
	fmt.Fprintf(w, "issuing\tuntil %s\n", r.IssuingExpires.Local().Format(time.DateTime))
	if r.RootKeyPresent {
		fmt.Fprintln(w, "The root's key lies in the authority's directory: it can be taken away and kept safe.")
	}
}

func (s *caStatus) Run(ctx context.Context, c *commands) error {
	return showRotation(ctx, c, s.output, (*ca.Client).Rotation)
}

func showRotation(ctx context.Context, c *commands, o output, ask func(*ca.Client, context.Context) (ca.Rotation, error)) error {
	client, _, err := office(ctx, c)
	if err != nil {
		return err
	}
	r, err := ask(client, ctx)
	if err != nil {
		return readable(err)
	}
	out := rotationOf(r)
	return o.print(out, func(w io.Writer) { writeRotation(w, out) })
}

type caRotate struct{ output }

func (r *caRotate) Run(ctx context.Context, c *commands) error {
	return showRotation(ctx, c, r.output, (*ca.Client).Rotate)
}

// principal names somebody of the user's own domain: KIND/NAME, or a whole ID.
type principal struct {
	Who string `arg:"" help:"KIND/NAME, as in user/eve, or the whole ID." placeholder:"KIND/NAME"`
}

func (p principal) id(h *home.Home) (ca.ID, error) {
	if strings.HasPrefix(p.Who, "spiffe://") {
		return ca.ParseID(p.Who)
	}
	kind, name, ok := strings.Cut(p.Who, "/")
	if !ok {
		return "", fmt.Errorf("%q: want KIND/NAME, as in user/eve", p.Who)
	}
	return ca.MakeID(h.Identity.ID().Domain(), kind, name)
}

func (p principal) ban(ctx context.Context, c *commands, lift bool) error {
	client, h, err := office(ctx, c)
	if err != nil {
		return err
	}
	id, err := p.id(h)
	if err != nil {
		return err
	}
	if id == h.Identity.ID() && !lift {
		return errors.New("that is you: nobody could lift the ban")
	}
	if err := client.Ban(ctx, id, lift); err != nil {
		return readable(err)
	}
	if lift {
		fmt.Printf("%s may renew its certificate again, or join with a new token\n", id)
	} else {
		fmt.Printf("%s is banned: its certificates are refused everywhere, its connections end, its services are withdrawn\n", id)
	}
	return nil
}

type caBan struct{ principal }

func (b *caBan) Run(ctx context.Context, c *commands) error { return b.ban(ctx, c, false) }

type caUnban struct{ principal }

func (b *caUnban) Run(ctx context.Context, c *commands) error { return b.ban(ctx, c, true) }

type caAudit struct {
	Lines  int    `default:"100" help:"How many lines, at most 1,000."`
	Verify string `type:"existingfile" help:"Check a whole log instead: each line must follow the one before." placeholder:"FILE"`
}

func (a *caAudit) Run(ctx context.Context, c *commands) error {
	if a.Verify != "" {
		return verifyAudit(a.Verify)
	}
	client, _, err := office(ctx, c)
	if err != nil {
		return err
	}
	lines, err := client.Audit(ctx, a.Lines)
	if err != nil {
		return readable(err)
	}
	for _, line := range lines {
		fmt.Println(line)
	}
	return nil
}

func verifyAudit(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := ca.VerifyAudit(f)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	fmt.Printf("%s: %d lines, each follows the one before\n", file, n)
	return nil
}

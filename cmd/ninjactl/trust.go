package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"ninja/ca"
	"ninja/capability"
	"ninja/cmd/home"
)

// A trust file is PEM: the roots of a domain, then the routing keys of its capability manager. Files of before there were
// routing keys have none, and programs of that time pass over the keys.
const (
	pemRoot    = "CERTIFICATE"
	pemRouting = "NINJA ROUTING KEY"
)

type caRoots struct{}

func (*caRoots) Run(ctx context.Context, c *commands) error {
	_, h, err := office(ctx, c)
	if err != nil {
		return err
	}
	domain := h.Identity.ID().Domain()
	keys, err := routingKeys(ctx, h, false)
	if err != nil {
		fmt.Fprintf(os.Stderr, "ninjactl: the file has no routing key, so hidden services will not be found across the domains: %v\n", readable(err))
	}
	for _, der := range h.Identity.Roots() {
		fmt.Printf("# %s, SHA-256 %s\n", domain, fingerprint(der))
		if err := pem.Encode(os.Stdout, &pem.Block{Type: pemRoot, Bytes: der}); err != nil {
			return err
		}
	}
	for _, k := range keys {
		fmt.Printf("# %s, routing key, signed under the root\n", domain)
		if err := pem.Encode(os.Stdout, &pem.Block{Type: pemRouting, Bytes: k}); err != nil {
			return err
		}
	}
	return nil
}

func routingKeys(ctx context.Context, h *home.Home, change bool) ([][]byte, error) {
	rights, err := h.Rights(ctx)
	if err != nil {
		return nil, err
	}
	defer rights.Close()
	return rights.RoutingKeys(ctx, change)
}

type caTrust struct {
	Domain string `arg:"" help:"The other domain, as in example.org."`
	File   string `arg:"" type:"existingfile" help:"Its trust file, which its administrator prints with ninjactl ca roots. Compare the SHA-256 of the root by telephone: the rest is signed under it."`
}

// maxTrustFile bounds the file.
const maxTrustFile = 64 << 10

// noRoutingKey says what is missing without a routing key, and what to do.
const noRoutingKey = "its trust file has no routing key, so only what it shows everyone will be found, not what is hidden and granted to you by name: have its administrator print it again with ninjactl ca roots"

func (t *caTrust) Run(ctx context.Context, c *commands) error {
	roots, keys, err := readTrust(t.File)
	if err != nil {
		return err
	}
	client, _, err := office(ctx, c)
	if err != nil {
		return err
	}
	if err := client.TrustDomain(ctx, t.Domain, roots, keys); err != nil {
		return readable(err)
	}
	for _, der := range roots {
		fmt.Printf("%s: trusted for its own principals, SHA-256 %s\n", t.Domain, fingerprint(der))
	}
	if len(keys) == 0 {
		fmt.Printf("%s: %s\n", t.Domain, noRoutingKey)
		return nil
	}
	fmt.Printf("%s: hidden services are found by whom their owners name, once it trusts this domain likewise\n", t.Domain)
	return nil
}

// readTrust reads a trust file.
func readTrust(file string) (roots, keys [][]byte, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxTrustFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(content) > maxTrustFile {
		return nil, nil, fmt.Errorf("%s: more than %d bytes: want a few certificates", file, maxTrustFile)
	}
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case pemRoot:
			roots = append(roots, block.Bytes)
		case pemRouting:
			keys = append(keys, block.Bytes)
		}
	}
	if len(roots) == 0 {
		return nil, nil, fmt.Errorf("%s: no certificate in PEM form: the other domain's administrator prints one with ninjactl ca roots", file)
	}
	return roots, keys, nil
}

type caDistrust struct {
	Domain string `arg:"" help:"The other domain."`
}

func (d *caDistrust) Run(ctx context.Context, c *commands) error {
	client, _, err := office(ctx, c)
	if err != nil {
		return err
	}
	if err := client.TrustDomain(ctx, d.Domain, nil, nil); err != nil {
		return readable(err)
	}
	fmt.Printf("%s is not trusted any more\n", d.Domain)
	return nil
}

type caDomains struct{ output }

// domainOut is what --output json prints.
type domainOut struct {
	Domain string   `json:"domain"`
	Roots  []string `json:"roots"`
	// Hidden: services are found that are hidden there and granted by name here, and the other way round.
	Hidden bool `json:"hidden"`
}

func (d *caDomains) Run(ctx context.Context, c *commands) error {
	h, err := home.Open(ctx, c.Home)
	if err == nil {
		err = h.Update(ctx)
	}
	if err != nil {
		return readable(err)
	}
	s := h.Identity.State()
	out := []domainOut{}
	for _, domain := range slices.Sorted(maps.Keys(s.Domains)) {
		one := domainOut{Domain: domain, Hidden: len(s.Keys[domain]) > 0}
		for _, der := range s.Domains[domain] {
			one.Roots = append(one.Roots, fingerprint(der))
		}
		out = append(out, one)
	}
	return d.print(out, func(w io.Writer) {
		if len(out) == 0 {
			fmt.Fprintln(w, "no other domain is trusted: ninjactl ca trust DOMAIN FILE")
		}
		for _, one := range out {
			for _, root := range one.Roots {
				fmt.Fprintf(w, "%s\tSHA-256 %s\n", one.Domain, root)
			}
			if !one.Hidden {
				fmt.Fprintf(w, "%s\t%s\n", one.Domain, noRoutingKey)
			}
		}
	})
}

type caRouting struct {
	Change bool `help:"Make another key. The last one holds on until the next change; print the trust file for the other domains again before that."`
	output
}

func (r *caRouting) Run(ctx context.Context, c *commands) error {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return err
	}
	keys, err := routingKeys(ctx, h, r.Change)
	if err != nil {
		return readable(err)
	}
	out := []string{}
	for _, b := range keys {
		k, err := ca.ParseRoutingKey(b)
		if err != nil {
			return err
		}
		out = append(out, fingerprint(k.Key))
	}
	return r.print(out, func(w io.Writer) {
		for i, f := range out {
			fmt.Fprintf(w, "%s\t%s\n", [...]string{"present", "last"}[min(i, 1)], f)
		}
		if r.Change {
			fmt.Fprintln(w, "print the trust file again (ninjactl ca roots) for the administrators of the domains that trust this one")
		}
	})
}

// warnForeign says on stderr why somebody of another domain who is named in an ACL may not find the service yet.
func (service) warnForeign(ctx context.Context, c *commands, all ...capability.Who) {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return // what comes next says so
	}
	own, asked := h.Identity.ID().Domain(), false
	for _, who := range all {
		domain := who.Domain()
		if domain == "" || domain == own {
			continue
		}
		if !asked {
			asked = true
			if err := h.Update(ctx); err != nil {
				return // as far as is known
			}
		}
		s := h.Identity.State()
		switch {
		case s.Domains[domain] == nil:
			fmt.Fprintf(os.Stderr, "ninjactl: %s: the domain %s is not trusted here, so %s finds nothing yet: administrators exchange trust files (ninjactl ca trust)\n", who, domain, who)
		case s.Keys[domain] == nil:
			fmt.Fprintf(os.Stderr, "ninjactl: %s: %s is trusted, but %s\n", who, domain, noRoutingKey)
		}
	}
}

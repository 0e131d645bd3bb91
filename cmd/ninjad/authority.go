package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"google.golang.org/grpc"

	"ninja/base/dds"
	"ninja/ca"
)

// startCA plays the certificate authority, and makes the administrator's home beside it: whoever can read the state
// directory may administer the domain.
func (d *daemon) startCA(ctx context.Context) error {
	role := *d.cfg.Roles.CA
	authority, err := ca.OpenAuthority(d.world, role.Domain, d.dir("ca"))
	if err != nil {
		return err
	}
	d.authority = authority.WithLife(role.Life)
	id, err := d.identity(ctx, ca.KindCA, role.serviceRole)
	if err != nil {
		return err
	}
	tables, err := dds.Open(d.dir("tokens.db"))
	if err != nil {
		return err
	}
	audit, err := ca.OpenAuditLog(d.dir("ca"))
	if err != nil {
		return errors.Join(err, tables.Close())
	}
	d.keep(d.log, "tokens", func(ctx context.Context) error {
		<-ctx.Done()
		return errors.Join(tables.Close(), audit.Close())
	})
	l, err := d.listen(ctx, ca.KindCA, role.Listen)
	if err != nil {
		return err
	}
	server, err := ca.NewServer(ca.ServerConfig{
		Authority: authority, Identity: id, Store: tables, Addresses: []string{l.Addr().String()}, Audit: audit, Log: d.log.With("role", "ca"),
	})
	if err != nil {
		return err
	}
	n := d.nodeOn(l, id, role.serviceRole, grpc.Creds(server.Credentials()))
	server.Register(n.server)
	n.serve()
	return d.administer(authority, l.Addr().String())
}

// administer keeps the administrator's home: an identity like any other, that the authority makes without a token.
func (d *daemon) administer(authority *ca.Authority, address string) error {
	dir := d.dir("admin")
	admin, err := authority.OpenIdentity(ca.KindUser, "admin", dir)
	if err != nil {
		return err
	}
	if err := admin.RenewedBy(address).Save(dir); err != nil {
		return err
	}
	if err := d.renew(admin, dir); err != nil {
		return err
	}
	return d.homeSettings().Save(dir)
}

// identity is a role's: the one that is kept in the state, one that the authority of this daemon makes, or one for a
// join token.
func (d *daemon) identity(ctx context.Context, kind string, role serviceRole) (*ca.Identity, error) {
	dir := d.dir(kind + "-" + role.Name)
	id, err := ca.Load(dir, d.world)
	switch {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case d.authority != nil:
		id, err = d.authority.OpenIdentity(kind, role.Name, dir)
	case role.Join != "":
		id, err = d.redeem(ctx, role.Join, dir)
	default:
		err = fmt.Errorf("no identity in %s: give the role a join token (ninjactl token --for %s/%s)", dir, kind, role.Name)
	}
	if err != nil {
		return nil, err
	}
	if id.ID().Kind() != kind || id.ID().Name() != role.Name {
		return nil, fmt.Errorf("the identity is %s, the role wants a %s called %s: make a token --for %s/%s", id.ID(), kind, role.Name, kind, role.Name)
	}
	return id, d.renew(id, dir)
}

// redeem uses a join token up, given as it is or as @FILE, and keeps the identity in dir.
func (d *daemon) redeem(ctx context.Context, token, dir string) (*ca.Identity, error) {
	if file, ok := strings.CutPrefix(token, "@"); ok {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("join token: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	return ca.JoinIn(ctx, d.world, token, dir)
}

// renew keeps an identity fresh from now on, at once when its time has passed, and in step with the authority: roots,
// other domains, bans.
func (d *daemon) renew(id *ca.Identity, dir string) error {
	var source interface {
		ca.Source
		ca.Guide
	} = ca.NewClient(d.world, id)
	if d.authority != nil {
		source = d.authority
	}
	r, err := ca.NewRenewer(ca.RenewerConfig{World: d.world, Identity: id, Source: source, Dir: dir, Log: d.log})
	if err != nil {
		return err
	}
	if d.world.Now().After(id.Expires()) {
		if err := r.Renew(d.ctx); err != nil {
			return fmt.Errorf("%s has expired and could not be renewed: %w", id.ID(), err)
		}
	}
	f, err := ca.NewFollower(ca.FollowerConfig{World: d.world, Identity: id, Guide: source, Dir: dir, Log: d.log})
	if err != nil {
		return err
	}
	d.keep(d.log, "renewal", r.Run)
	d.keep(d.log, "following the authority", f.Run)
	return nil
}

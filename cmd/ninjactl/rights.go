package main

import (
	"context"
	"fmt"
	"strings"

	"ninja/ca"
	"ninja/capability"
	"ninja/cmd/home"
)

type aclCommand struct {
	Get    aclGet    `cmd:"" help:"Print a service's ACL."`
	Set    aclSet    `cmd:"" help:"Replace a service's ACL; no entries make it yours alone."`
	Grant  aclGrant  `cmd:"" help:"Allow somebody something."`
	Revoke aclRevoke `cmd:"" help:"Take something back."`
}

// service names one of the user's own services: NAME, or its whole id.
type service struct {
	Service string `arg:"" help:"Name of your service, or OWNER-ID#NAME."`
}

func (s service) id(h *home.Home) string {
	if strings.Contains(s.Service, "#") {
		return s.Service
	}
	return capability.ServiceID(h.Identity.ID(), s.Service)
}

type aclGet struct{ service }

func (a *aclGet) Run(ctx context.Context, c *commands) error {
	return a.do(ctx, c, func(rights *capability.Client, id string) (*capability.ACL, error) { return rights.GetACL(ctx, id) })
}

// do runs one request about a service's ACL and prints what the ACL then is.
func (s service) do(ctx context.Context, c *commands, ask func(*capability.Client, string) (*capability.ACL, error)) error {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return err
	}
	rights, err := h.Rights(ctx)
	if err != nil {
		return err
	}
	acl, err := ask(rights, s.id(h))
	if err != nil {
		return readable(err)
	}
	if len(acl.Entries) == 0 {
		fmt.Printf("%s: its owner alone\n", s.id(h))
	}
	for _, e := range acl.Entries {
		fmt.Printf("%s: %s: %v\n", s.id(h), e.Who, e.Ops)
	}
	return nil
}

type aclSet struct {
	service
	Entries []string `arg:"" optional:"" help:"WHO:OPERATION,... as in everyone:find,use; WHO is an ID, group:NAME or everyone."`
}

func (a *aclSet) Run(ctx context.Context, c *commands) error {
	var entries []capability.Entry
	for _, text := range a.Entries {
		i := strings.LastIndex(text, ":")
		if i < 0 {
			return fmt.Errorf("%q: want WHO:OPERATION,... as in everyone:find,use", text)
		}
		who, ops, err := parseEntry(text[:i], text[i+1:])
		if err != nil {
			return err
		}
		entries = append(entries, capability.Entry{Who: who, Ops: ops})
	}
	return a.do(ctx, c, func(rights *capability.Client, id string) (*capability.ACL, error) {
		return rights.SetACL(ctx, id, entries)
	})
}

func parseEntry(who, ops string) (capability.Who, capability.Operations, error) {
	w, err := capability.ParseWho(who)
	if err != nil {
		return "", 0, err
	}
	o, err := capability.ParseOperations(ops)
	return w, o, err
}

type entry struct {
	service
	Who string `arg:"" help:"An ID, group:NAME or everyone."`
	Ops string `arg:"" help:"Some of find,use,listen-from,send-to."`
}

type aclGrant struct{ entry }

func (a *aclGrant) Run(ctx context.Context, c *commands) error {
	who, ops, err := parseEntry(a.Who, a.Ops)
	if err != nil {
		return err
	}
	return a.do(ctx, c, func(rights *capability.Client, id string) (*capability.ACL, error) {
		return rights.Grant(ctx, id, who, ops)
	})
}

type aclRevoke struct{ entry }

func (a *aclRevoke) Run(ctx context.Context, c *commands) error {
	who, ops, err := parseEntry(a.Who, a.Ops)
	if err != nil {
		return err
	}
	return a.do(ctx, c, func(rights *capability.Client, id string) (*capability.ACL, error) {
		return rights.Revoke(ctx, id, who, ops)
	})
}

type groupCommand struct {
	Get groupGet `cmd:"" help:"Print a group's members."`
	Set groupSet `cmd:"" help:"Replace a group's members."`
}

type groupGet struct {
	Name string `arg:""`
}

func (g *groupGet) Run(ctx context.Context, c *commands) error {
	rights, err := openRights(ctx, c)
	if err != nil {
		return err
	}
	members, err := rights.GetGroup(ctx, g.Name)
	if err != nil {
		return readable(err)
	}
	for _, m := range members {
		fmt.Println(m)
	}
	return nil
}

type groupSet struct {
	Name    string   `arg:""`
	Members []string `arg:"" optional:"" help:"IDs, as in spiffe://DOMAIN/user/NAME."`
}

func (g *groupSet) Run(ctx context.Context, c *commands) error {
	rights, err := openRights(ctx, c)
	if err != nil {
		return err
	}
	var members []ca.ID
	for _, text := range g.Members {
		id, err := ca.ParseID(text)
		if err != nil {
			return err
		}
		members = append(members, id)
	}
	return readable(rights.SetGroup(ctx, g.Name, members))
}

func openRights(ctx context.Context, c *commands) (*capability.Client, error) {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return nil, err
	}
	return h.Rights(ctx)
}

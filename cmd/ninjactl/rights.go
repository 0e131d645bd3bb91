package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"ninja/ca"
	"ninja/capability"
	"ninja/cmd/home"
)

type aclCommand struct {
	List    aclList    `cmd:"" help:"List the ACLs of your services."`
	Get     aclGet     `cmd:"" help:"Print a service's ACL."`
	WhoSees aclWhoSees `cmd:"" help:"Print whom a service's ACL reaches, with the members of groups as far as you may know them."`
	Set     aclSet     `cmd:"" help:"Replace a service's ACL; no entries make it yours alone."`
	Grant   aclGrant   `cmd:"" help:"Allow somebody something."`
	Revoke  aclRevoke  `cmd:"" help:"Take something back; it holds everywhere within seconds."`
	Delete  aclDelete  `cmd:"" help:"Remove a service's ACL: it is yours alone."`
}

// service names one of the user's own services: NAME, or its whole id.
type service struct {
	Service string `arg:"" help:"Name of your service, or OWNER-ID#NAME."`
	output
}

func (s service) id(h *home.Home) string {
	if strings.Contains(s.Service, "#") {
		return s.Service
	}
	return capability.ServiceID(h.Identity.ID(), s.Service)
}

// open connects to the capability manager and says which service is meant.
func (s service) open(ctx context.Context, c *commands) (rights *capability.Client, id string, err error) {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return nil, "", err
	}
	id = s.id(h)
	if _, _, err := capability.ParseService(id); err != nil {
		return nil, "", err
	}
	rights, err = h.Rights(ctx)
	return rights, id, err
}

// do runs one request about a service's ACL and prints what the ACL then is.
func (s service) do(ctx context.Context, c *commands, ask func(*capability.Client, string) (*capability.ACL, error)) error {
	rights, id, err := s.open(ctx, c)
	if err != nil {
		return err
	}
	defer rights.Close()
	acl, err := ask(rights, id)
	if err != nil {
		return readable(err)
	}
	acl.Service = id
	return s.print(aclOf(acl), func(w io.Writer) { writeACL(w, acl) })
}

// entryOut and aclOut are what --output json prints.
type entryOut struct {
	Who        string   `json:"who"`
	Operations []string `json:"operations"`
}

type aclOut struct {
	Service string     `json:"service"`
	Version uint64     `json:"version"`
	Entries []entryOut `json:"entries"`
}

func aclOf(a *capability.ACL) aclOut {
	out := aclOut{a.Service, a.Version, []entryOut{}}
	for _, e := range a.Entries {
		out.Entries = append(out.Entries, entryOut{string(e.Who), operationsOf(e.Ops)})
	}
	return out
}

func operationsOf(o capability.Operations) []string { return strings.Split(o.String(), ",") }

func writeACL(w io.Writer, a *capability.ACL) {
	if len(a.Entries) == 0 {
		_, name, _ := strings.Cut(a.Service, "#")
		fmt.Fprintf(w, "%s\nis its owner's alone; to let everybody find it: ninjactl acl grant %s everyone find\n", a.Service, name)
		return
	}
	fmt.Fprintf(w, "%s\n", a.Service)
	for _, e := range a.Entries {
		fmt.Fprintf(w, "  %s\t%v\n", e.Who, e.Ops)
	}
}

type aclList struct{ output }

func (a *aclList) Run(ctx context.Context, c *commands) error {
	rights, err := openRights(ctx, c)
	if err != nil {
		return err
	}
	defer rights.Close()
	all, err := rights.ACLs(ctx)
	if err != nil {
		return readable(err)
	}
	out := []aclOut{}
	for _, acl := range all {
		out = append(out, aclOf(acl))
	}
	return a.print(out, func(w io.Writer) {
		if len(all) == 0 {
			fmt.Fprintln(w, "none of your services has an ACL: they are yours alone")
		}
		for _, acl := range all {
			writeACL(w, acl)
		}
	})
}

type aclGet struct{ service }

func (a *aclGet) Run(ctx context.Context, c *commands) error {
	return a.do(ctx, c, func(rights *capability.Client, id string) (*capability.ACL, error) { return rights.GetACL(ctx, id) })
}

type aclDelete struct{ service }

func (a *aclDelete) Run(ctx context.Context, c *commands) error {
	return a.do(ctx, c, func(rights *capability.Client, id string) (*capability.ACL, error) {
		return &capability.ACL{}, rights.DeleteACL(ctx, id)
	})
}

type aclSet struct {
	service
	Entries []string `arg:"" optional:"" help:"WHO:OPERATION,... as in everyone:find,use; WHO is an ID (of this domain or a trusted one), group:NAME, group:DOMAIN/NAME or everyone."`
}

func (a *aclSet) Run(ctx context.Context, c *commands) error {
	var entries []capability.Entry
	var named []capability.Who
	for _, text := range a.Entries {
		entry, err := capability.ParseEntry(text)
		if err != nil {
			return err
		}
		entries, named = append(entries, entry), append(named, entry.Who)
	}
	a.warnForeign(ctx, c, named...)
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
	Who string `arg:"" help:"An ID (of this domain or a trusted one), group:NAME, group:DOMAIN/NAME for a group of a trusted domain, or everyone."`
	Ops string `arg:"" help:"Some of find,use,listen-from,send-to."`
}

type aclGrant struct{ entry }

func (a *aclGrant) Run(ctx context.Context, c *commands) error {
	who, ops, err := parseEntry(a.Who, a.Ops)
	if err != nil {
		return err
	}
	a.warnForeign(ctx, c, who)
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
	List   groupList   `cmd:"" help:"List the groups."`
	Get    groupGet    `cmd:"" help:"Print a group's members."`
	Set    groupSet    `cmd:"" help:"Replace a group's members; who is left out loses the group's rights within seconds."`
	Add    groupAdd    `cmd:"" help:"Add members to a group, which is made by that."`
	Remove groupRemove `cmd:"" help:"Remove members from a group; they lose its rights within seconds."`
}

type groupList struct{ output }

func (g *groupList) Run(ctx context.Context, c *commands) error {
	rights, err := openRights(ctx, c)
	if err != nil {
		return err
	}
	defer rights.Close()
	all, err := rights.Groups(ctx)
	if err != nil {
		return readable(err)
	}
	type size struct {
		Name    string `json:"name"`
		Members int    `json:"members"`
	}
	out := []size{}
	for _, s := range all {
		out = append(out, size(s))
	}
	return g.print(out, func(w io.Writer) {
		if len(out) == 0 {
			fmt.Fprintln(w, "there are no groups: ninjactl group add NAME ID...")
			return
		}
		fmt.Fprintln(w, "GROUP\tMEMBERS")
		for _, s := range out {
			fmt.Fprintf(w, "%s\t%d\n", s.Name, s.Members)
		}
	})
}

// groupChange names a group and some principals.
type groupChange struct {
	Name    string   `arg:"" help:"Name of the group, without group: before it."`
	Members []string `arg:"" help:"IDs, as in spiffe://DOMAIN/user/NAME."`
	output
}

type groupAdd struct{ groupChange }

func (g *groupAdd) Run(ctx context.Context, c *commands) error {
	ids, err := parseIDs(g.Members)
	if err != nil {
		return err
	}
	return g.edit(ctx, c, ids, nil)
}

type groupRemove struct{ groupChange }

func (g *groupRemove) Run(ctx context.Context, c *commands) error {
	ids, err := parseIDs(g.Members)
	if err != nil {
		return err
	}
	return g.edit(ctx, c, nil, ids)
}

func (g *groupChange) edit(ctx context.Context, c *commands, add, remove []ca.ID) error {
	rights, err := openRights(ctx, c)
	if err != nil {
		return err
	}
	defer rights.Close()
	members, err := rights.EditGroup(ctx, g.Name, add, remove)
	if err != nil {
		return readable(err)
	}
	return g.print(groupOut{g.Name, members}, func(w io.Writer) { fmt.Fprintf(w, "group:%s has %d members\n", g.Name, len(members)) })
}

func parseIDs(texts []string) ([]ca.ID, error) {
	ids := []ca.ID{}
	for _, text := range texts {
		id, err := ca.ParseID(text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

type groupGet struct {
	Name string `arg:"" help:"Name of the group, without group: before it."`
	output
}

// groupOut is what --output json prints.
type groupOut struct {
	Name    string  `json:"name"`
	Members []ca.ID `json:"members"`
}

func (g *groupGet) Run(ctx context.Context, c *commands) error {
	rights, err := openRights(ctx, c)
	if err != nil {
		return err
	}
	defer rights.Close()
	members, err := rights.GetGroup(ctx, g.Name)
	if err != nil {
		return readable(err)
	}
	return g.print(groupOut{g.Name, members}, func(w io.Writer) {
		if len(members) == 0 {
			fmt.Fprintf(w, "group:%s has no members\n", g.Name)
		}
		for _, m := range members {
			fmt.Fprintln(w, m)
		}
	})
}

type groupSet struct {
	Name    string   `arg:"" help:"Name of the group, without group: before it."`
	Members []string `arg:"" optional:"" help:"IDs, as in spiffe://DOMAIN/user/NAME; none dissolve the group."`
	output
}

func (g *groupSet) Run(ctx context.Context, c *commands) error {
	members, err := parseIDs(g.Members)
	if err != nil {
		return err
	}
	rights, err := openRights(ctx, c)
	if err != nil {
		return err
	}
	defer rights.Close()
	if err := rights.SetGroup(ctx, g.Name, members); err != nil {
		return readable(err)
	}
	return g.print(groupOut{g.Name, members}, func(w io.Writer) { fmt.Fprintf(w, "group:%s has %d members\n", g.Name, len(members)) })
}

func openRights(ctx context.Context, c *commands) (*capability.Client, error) {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return nil, err
	}
	return h.Rights(ctx)
}

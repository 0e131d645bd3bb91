package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"ninja/ca"
	"ninja/capability"
)

type aclWhoSees struct {
	service
	For string `default:"find" help:"Only who may do this: some of find,use,listen-from,send-to." placeholder:"OPERATION,..."`
}

func (a *aclWhoSees) Run(ctx context.Context, c *commands) error {
	want, err := capability.ParseOperations(a.For)
	if err == nil && want == 0 {
		err = fmt.Errorf("--for: want some of %v", capability.All)
	}
	if err != nil {
		return err
	}
	rights, id, err := a.open(ctx, c)
	if err != nil {
		return err
	}
	defer rights.Close()
	reaches, err := rights.WhoSees(ctx, id)
	if err != nil {
		return readable(err)
	}
	seen := seenBy(id, reaches, want)
	return a.print(seen, seen.write)
}

// sight is who may do what is asked for with a service, by name, and through which entries of the ACL.
type sight struct {
	Service string `json:"service"`
	// For are the operations asked for; whoever may do all of them is listed.
	For        []string         `json:"for"`
	Everyone   bool             `json:"everyone"`
	Principals []principalSight `json:"principals"`
	// Hidden are groups that have the operations and whose members you may not know.
	Hidden []string `json:"hidden_groups"`
}

type principalSight struct {
	ID  ca.ID    `json:"id"`
	Ops []string `json:"operations"`
	Via []string `json:"via"`
}

// seenBy adds up the entries for each principal that is named or in a group that is told.
func seenBy(service string, reaches []capability.Reach, want capability.Operations) sight {
	type sum struct {
		ops capability.Operations
		via []string
	}
	var everyone capability.Operations
	all := map[ca.ID]*sum{}
	out := sight{Service: service, For: operationsOf(want), Principals: []principalSight{}, Hidden: []string{}}
	add := func(id ca.ID, r capability.Reach) {
		if all[id] == nil {
			all[id] = &sum{}
		}
		all[id].ops |= r.Ops
		all[id].via = append(all[id].via, string(r.Who))
	}
	owner, _, _ := strings.Cut(service, "#")
	add(ca.ID(owner), capability.Reach{Entry: capability.Entry{Who: "owner", Ops: capability.All}})
	for _, r := range reaches {
		if r.Who == capability.Everyone {
			everyone = r.Ops
		}
	}
	for _, r := range reaches {
		able := (r.Ops|everyone)&want == want
		switch {
		case r.Who == capability.Everyone:
		case r.Told:
			for _, id := range r.Members {
				add(id, r)
			}
			if able && r.Size > len(r.Members) {
				out.Hidden = append(out.Hidden, fmt.Sprintf("%s (%d more)", r.Who, r.Size-len(r.Members)))
			}
		case strings.HasPrefix(string(r.Who), string(capability.Group(""))):
			if able {
				out.Hidden = append(out.Hidden, string(r.Who))
			}
		default:
			add(ca.ID(r.Who), r)
		}
	}
	out.Everyone = everyone&want == want
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if s := all[id]; (s.ops|everyone)&want == want {
			out.Principals = append(out.Principals, principalSight{id, operationsOf(s.ops | everyone), s.via})
		}
	}
	return out
}

// write prints a table.
func (s sight) write(w io.Writer) {
	fmt.Fprintf(w, "who may %s %s\n", strings.Join(s.For, " and "), s.Service)
	if s.Everyone {
		fmt.Fprintf(w, "  everyone of the domain, and to find it everyone of trusted domains that join its hierarchies\n")
	}
	for _, p := range s.Principals {
		fmt.Fprintf(w, "  %s\t%s\tas %s\n", p.ID, strings.Join(p.Ops, ","), strings.Join(p.Via, ", "))
	}
	for _, g := range s.Hidden {
		fmt.Fprintf(w, "  %s\t\t%s\n", g, membersKnownTo(g))
	}
}

// membersKnownTo says who may know the members of a group.
func membersKnownTo(group string) string {
	if domain := capability.Who(group).Domain(); domain != "" {
		return "its members are known in " + domain
	}
	return "its members are known to themselves and to the administrator"
}

package apc

import (
	"context"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/operators"
	"ninja/sds"
)

// thing is a description that was found.
type thing struct {
	sds.Found
	*operators.Description
}

// view is what an asker may see of what paths are made of.
type view struct {
	proxies, operators []thing
	// named are the things that the request names, by the words it names them with.
	named map[string][]thing
}

// look queries the SDS with the asker's rights for all that the request can be met with.
func (c *Creator) look(ctx context.Context, token []byte, names []string) (*view, error) {
	v := &view{named: make(map[string][]thing)}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	ask := func(kind, name string, take func([]thing)) {
		g.Go(func() error {
			found, err := c.find(ctx, token, kind, name)
			mu.Lock()
			defer mu.Unlock()
			take(found)
			return err
		})
	}
	ask(operators.KindProxy, "", func(t []thing) { v.proxies = t })
	ask(operators.KindOperator, "", func(t []thing) { v.operators = t })
	for _, n := range names {
		kind, name, _ := strings.Cut(n, ":")
		ask(kind, name, func(t []thing) { v.named[n] = t })
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("find what the path can be made of: %w", err)
	}
	return v, nil
}

// find asks for the descriptions of a kind and, unless name is "", of that name. Descriptions that are not in the
// vocabulary of paths are left out: the SDS holds any XML.
func (c *Creator) find(ctx context.Context, token []byte, kind, name string) ([]thing, error) {
	found, err := c.cfg.Find.QueryAs(ctx, token, sds.Query{Template: Template(kind, name)})
	if err != nil {
		return nil, err
	}
	things := make([]thing, 0, len(found))
	for _, f := range found {
		d, err := c.parsed(f)
		if err != nil {
			c.cfg.Log.Debug("a description that paths cannot use", "service", f.ID, "error", err)
			continue
		}
		things = append(things, thing{f, d})
	}
	slices.SortFunc(things, func(a, b thing) int { return strings.Compare(a.ID, b.ID) })
	return things, nil
}

// Template is the query for the descriptions of a kind and, unless name is "", of that name.
func Template(kind, name string) []byte {
	var b strings.Builder
	b.WriteString(`<service xmlns="` + operators.Namespace + `" kind="`)
	_ = xml.EscapeText(&b, []byte(kind)) // a strings.Builder does not fail
	if name != "" {
		b.WriteString(`" name="`)
		_ = xml.EscapeText(&b, []byte(name))
	}
	b.WriteString(`"/>`)
	return []byte(b.String())
}

// maxParsed bounds the cache of parsed descriptions.
const maxParsed = 100_000

// parsed parses a description once for each version of it. What it returns is shared and not to be changed.
func (c *Creator) parsed(f sds.Found) (*operators.Description, error) {
	key := descriptionKey{f.ID, f.Version}
	c.mu.Lock()
	d, ok := c.descriptions[key]
	c.mu.Unlock()
	if ok {
		return d, nil
	}
	d, err := operators.ParseDescription(f.Description)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.descriptions) >= maxParsed {
		clear(c.descriptions)
	}
	c.descriptions[key] = d
	return d, nil
}

type descriptionKey struct {
	id      string
	version uint64
}

// parts are what the planner's catalogue is built of.
func (v *view) parts() plan.Parts {
	var p plan.Parts
	nodes := make(map[ca.ID]bool)
	addNode := func(t thing, cores float64) {
		if nodes[t.Owner] {
			return
		}
		nodes[t.Owner] = true
		p.Nodes = append(p.Nodes, plan.Node{
			ID: t.Owner, Load: t.Numbers["load"], Cores: cores, Memory: t.Node.Memory, Region: t.Node.Region,
		})
	}
	for _, t := range v.proxies {
		if t.Node != nil && t.Owner.Kind() == ca.KindProxy { // nobody else may host operators
			addNode(t, t.Node.Cores)
		}
	}
	byMake := make(map[string]int)
	for _, t := range v.operators {
		if !nodes[t.Owner] {
			continue // its proxy is gone or hidden
		}
		for _, s := range t.Operators {
			key := strings.Join([]string{s.Name, s.Program, s.In.String(), s.Out.String(), fmt.Sprint(s.Args)}, "\n")
			i, known := byMake[key]
			if !known {
				i = len(p.Operators)
				byMake[key] = i
				p.Operators = append(p.Operators, plan.Operator{Name: key, Spec: s, Service: t.ID, Kind: t.Kind})
			}
			cost := s.Cost
			p.Operators[i].Places = append(p.Operators[i].Places, plan.Place{Node: t.Owner, Cost: &cost})
		}
	}
	seen := make(map[string]bool)
	for _, things := range v.named {
		for _, t := range things {
			if seen[t.ID] || t.Node == nil {
				continue
			}
			seen[t.ID] = true
			addNode(t, 0)
			for _, s := range t.Operators {
				p.Operators = append(p.Operators, plan.Operator{
					Name: t.fixedName(s), Spec: s, Service: t.ID, Kind: t.Kind, Fixed: true, Places: []plan.Place{{Node: t.Owner}},
				})
			}
		}
	}
	return p
}

// fixedName names an operator of a long-lived service in the catalogue.
func (t thing) fixedName(s operators.Spec) string { return t.ID + "/" + s.Name }

// endpoint picks the operator that a request's end means: one thing, one operator without input (or without output).
func (v *view) endpoint(words string, source bool) (string, error) {
	var names []string
	for _, t := range v.named[words] {
		for _, s := range t.Operators {
			if source && s.In.IsZero() || !source && s.Out.IsZero() {
				names = append(names, t.fixedName(s))
			}
		}
	}
	what := "takes data in"
	if source {
		what = "gives data out"
	}
	switch len(names) {
	case 1:
		return names[0], nil
	case 0:
		return "", fmt.Errorf("%w: nothing that you may find is called %s and %s (sdsquery kind=%s shows what is there)",
			ErrRefused, words, what, strings.ReplaceAll(words, ":", " name="))
	}
	return "", fmt.Errorf("%w: %s means %d things (%s): name one", ErrRefused, words, len(names), strings.Join(names, ", "))
}

// requirement lists the operators that meet a required step.
func (v *view) requirement(words string) (plan.Requirement, error) {
	r := plan.Requirement{Label: "?" + words}
	for _, t := range v.named[words] {
		for _, s := range t.Operators {
			if !s.In.IsZero() && !s.Out.IsZero() {
				r.Any = append(r.Any, t.fixedName(s))
			}
		}
	}
	if r.Any == nil {
		return r, fmt.Errorf("%w: no service that you may find is a %s (sdsquery kind=%s shows what is there)", ErrRefused, words, words)
	}
	return r, nil
}

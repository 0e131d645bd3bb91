package apc

import (
	"context"
	"encoding/xml"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"ninja/ca"
	"ninja/operators"
	"ninja/sds"
)

// query asks with the asker's rights for all that a request with these words can be met with, and makes a view of it:
// what is done while no watch is in step.
func (c *Creator) query(ctx context.Context, token []byte, words []word) (*view, error) {
	questions := []sds.Query{{Template: Template(operators.KindProxy, "")}, {Template: Template(operators.KindOperator, "")}}
	for i := range words {
		questions = append(questions, words[i].question())
	}
	return c.gather(ctx, token, questions)
}

// everything asks for all that says where it runs.
func (c *Creator) everything(ctx context.Context, token []byte) (*view, error) {
	return c.gather(ctx, token, []sds.Query{{Template: watchTemplate()}})
}

// gather makes a view of what the questions find.
func (c *Creator) gather(ctx context.Context, token []byte, questions []sds.Query) (*view, error) {
	v := newView(c.learned.cost)
	var mu sync.Mutex
	err := c.ask(ctx, token, questions, func(_ sds.Query, found []sds.Found) {
		mu.Lock()
		defer mu.Unlock()
		for _, f := range found {
			if t := c.thing(f); t != nil {
				v.put(t)
			}
		}
	})
	v.measure()
	return v, err
}

// ask asks several questions at once.
func (c *Creator) ask(ctx context.Context, token []byte, questions []sds.Query, take func(sds.Query, []sds.Found)) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, q := range questions {
		g.Go(func() error {
			found, err := c.cfg.Find.QueryAs(ctx, token, q)
			take(q, found)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("find what the path can be made of: %w", err)
	}
	return nil
}

// match asks the SDS what the templates among the words match.
func (c *Creator) match(ctx context.Context, token []byte, words []word) error {
	for i := range words {
		w := &words[i]
		if w.template == nil {
			continue
		}
		found, err := c.cfg.Find.QueryAs(ctx, token, w.question())
		if err != nil {
			return fmt.Errorf("find what %s matches: %w", w.String(), err)
		}
		w.matches = make(map[string]bool)
		for _, f := range found {
			w.matches[f.ID] = true
		}
	}
	return nil
}

// question finds at least what a word means.
func (w *word) question() sds.Query {
	switch {
	case w.template != nil:
		return sds.Query{Template: w.template}
	case w.raw != nil: // a proxy stands in for it
		return sds.Query{Template: Template(operators.KindProxy, "")}
	}
	if owner, _, ok := strings.Cut(w.id, "#"); ok {
		return sds.Query{By: ca.ID(owner)}
	}
	if strings.Contains(w.name, "/") { // the last part may be an operator
		return sds.Query{Template: Template(w.kind, "")}
	}
	return sds.Query{Template: Template(w.kind, w.name)}
}

// thing reads what was found; nil when it is not in the vocabulary of paths: the SDS holds any XML.
func (c *Creator) thing(f sds.Found) *thing {
	d, err := c.parsed(f)
	if err != nil {
		c.cfg.Log.Debug("a description that paths cannot use", "service", f.ID, "error", err)
		return nil
	}
	return &thing{f, d}
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

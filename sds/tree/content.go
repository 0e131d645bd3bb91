package tree

import (
	"context"
	"time"

	"ninja/sds"
	"ninja/sds/summary"
)

// content is what a server tells its parent in one hierarchy: its own services and all that its children told. It
// belongs to the hierarchy's goroutine.
type content struct {
	terms     summary.Counting
	plan      summary.Plan
	docs      map[string]sds.PublicDoc
	tokens    []summary.Term
	replanned bool // the plan has changed since it was told last
}

func newContent() *content { return &content{docs: make(map[string]sds.PublicDoc)} }

// change takes terms in and out.
func (c *content) change(added, removed []summary.Term) {
	for _, t := range added {
		c.terms.Add(t)
	}
	for _, t := range removed {
		c.terms.Remove(t)
	}
}

// put takes a document in, or a nil one out.
func (c *content) put(id string, d *sds.PublicDoc) {
	if old, ok := c.docs[id]; ok {
		c.plan.Terms(summary.Describe(string(old.By), old.Tree), c.terms.Remove)
		delete(c.docs, id)
	}
	if d != nil {
		c.plan.Terms(summary.Describe(string(d.By), d.Tree), c.terms.Add)
		c.docs[id] = *d
	}
}

// replace makes these all the documents.
func (c *content) replace(all []sds.PublicDoc) {
	keep := make(map[string]bool, len(all))
	for i := range all {
		keep[all[i].ID] = true
		if old, ok := c.docs[all[i].ID]; !ok || old.Tree != all[i].Tree {
			c.put(all[i].ID, &all[i])
		}
	}
	for id := range c.docs {
		if !keep[id] {
			c.put(id, nil)
		}
	}
}

// follow takes another plan.
func (c *content) follow(p summary.Plan) {
	for _, d := range c.docs {
		f := summary.Describe(string(d.By), d.Tree)
		c.plan.Beyond(p, f, c.terms.Remove)
		p.Beyond(c.plan, f, c.terms.Add)
	}
	c.plan, c.replanned = p, true
}

// followContent keeps the content up with what the server has.
func (h *hierarchy) followContent(ctx context.Context, c *content) {
	wait := backoffLeast
	for ctx.Err() == nil {
		err := h.cfg.Local.FollowPublic(ctx, func(all []sds.PublicDoc) {
			h.do(ctx, func() { c.replace(all) })
		}, func(before, after *sds.PublicDoc) {
			id := ""
			if after != nil {
				id = after.ID
			} else {
				id = before.ID
			}
			h.do(ctx, func() { c.put(id, after) })
		})
		if ctx.Err() == nil {
			h.cfg.Log.Debug("following what the server has", "hierarchy", h.name, "error", err)
		}
		if h.backoff(ctx, &wait) != nil {
			return
		}
	}
}

// retoken tells one token for each grant that opens something hidden here.
func (h *hierarchy) retoken(now time.Time) {
	fresh := tokensOf(h.cfg.Routes(), h.cfg.Local.HiddenGrants(), now)
	h.content.change(summary.Differences(h.content.tokens, fresh))
	h.content.tokens = fresh
}

package apc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/operators"
)

// CatalogueVersion is the version of catalogue files.
const CatalogueVersion = 1

// MaxCatalogue bounds a catalogue in bytes.
const MaxCatalogue = 64 << 20

// Catalogue is all that an asker's paths may be made of, to look at or to plan with elsewhere.
type Catalogue struct {
	Version int `json:"version"` // CatalogueVersion
	plan.Parts
	// External is what proxies may reach outside the system, as operators.ParseExternal reads it, with spaces between.
	External map[ca.ID]string `json:"external,omitempty"`
	// Learned is what running paths have reported of operators at nodes: what replaces the descriptions' costs there.
	Learned []Learned `json:"learned,omitempty"`
}

// Learned is what was learned of an operator at a node, of so many reports.
type Learned struct {
	Operator string        `json:"operator"`
	Node     ca.ID         `json:"node"`
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
	CPU      float64       `json:"cpu"` // cores
	Reports  int           `json:"reports"`
}

// Catalogue tells what the asker may see, as the planner sees it: with loads, links, and costs as learned.
func (c *Creator) Catalogue(ctx context.Context, asker ca.Peer, token []byte) (Catalogue, error) {
	none := Catalogue{}
	if len(token) > maxCapability {
		return none, fmt.Errorf("%w: a capability of %d bytes: at most %d are allowed", ErrBadRequest, len(token), maxCapability)
	}
	claims, err := c.claims(asker, token, "")
	if err != nil {
		return none, err
	}
	l, agrees := c.watched(token, claims), false
	if l != nil && l.wait(ctx) {
		if agrees, err = c.refresh(ctx, l, token, nil); err != nil {
			return none, err
		}
	}
	if !agrees {
		v, err := c.everything(ctx, token)
		if err != nil {
			return none, err
		}
		l = &live{view: v}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	parts := l.view.parts(nil)
	return Catalogue{CatalogueVersion, parts, l.view.external(), c.learned.of(parts.Operators)}, nil
}

// external is what the proxies in view may reach outside the system.
func (v *view) external() map[ca.ID]string {
	all := make(map[ca.ID]string)
	for owner := range v.owners {
		if t := v.nodeThing(owner); t != nil && t.proxy() && t.Node.External != "" {
			all[owner] = t.Node.External
		}
	}
	return all
}

// reach is view.reach.
func (c *Catalogue) reach(a netip.AddrPort) (all []ca.ID) {
	for owner, external := range c.External {
		if n := (operators.Node{External: external}); n.Reaches(a) {
			all = append(all, owner)
		}
	}
	slices.Sort(all)
	return all
}

// Write writes the catalogue as JSON.
func (c *Catalogue) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(c)
}

// ReadCatalogue reads a catalogue file of at most MaxCatalogue bytes; errors say where it is wrong.
func ReadCatalogue(r io.Reader) (*Catalogue, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxCatalogue+1))
	if err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	if len(b) > MaxCatalogue {
		return nil, fmt.Errorf("catalogue: more than %d bytes", MaxCatalogue)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var c Catalogue
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("catalogue: at byte %d: %w", d.InputOffset(), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("catalogue: at byte %d: more follows", d.InputOffset())
	}
	if c.Version != CatalogueVersion {
		return nil, fmt.Errorf("catalogue: version %d: this program reads version %d (ninjactl catalogue writes one)", c.Version, CatalogueVersion)
	}
	return &c, nil
}

// Explain plans a request with the catalogue alone: a dry run that asks nobody.
func (c *Catalogue) Explain(ctx context.Context, line string) (Explanation, error) {
	r := Request{Line: line}
	form, words, err := r.check()
	if err != nil {
		return Explanation{}, err
	}
	offers := c.offers()
	byWord := make(map[plan.Word]*word)
	named := make(map[string]bool)
	for i := range words {
		byWord[words[i].Word] = &words[i]
		if words[i].raw != nil {
			continue
		}
		for _, o := range words[i].pick(offers) {
			named[o.service] = true
		}
	}
	s := &sketch{form: form}
	ctx, cancel := context.WithTimeout(ctx, planTime+explainTime)
	defer cancel()
	s.request, err = resolve(form, words, func(w plan.Word) []offer { return byWord[w].pick(offers) })
	if err == nil {
		parts := c.Parts
		parts.Operators = slices.DeleteFunc(slices.Clone(parts.Operators), func(o plan.Operator) bool { return o.Fixed && !named[o.Service] })
		if s.catalogue, err = plan.NewCatalogue(parts); err != nil {
			return Explanation{}, fmt.Errorf("%w: the catalogue: %w", ErrBadRequest, err)
		}
		s.catalogue, err = outside(s.catalogue, form, words, c.reach)
	}
	if err == nil {
		first, stop := context.WithTimeout(ctx, planTime)
		s.best, err = s.catalogue.Plan(first, s.request)
		stop()
	}
	return s.explain(ctx, line, err)
}

// offers are what can be named: the operators of the catalogue by service. A dynamic operator is known by the first of
// the services that publish it.
func (c *Catalogue) offers() []offer {
	var all []offer
	at := make(map[string]int)
	for _, o := range c.Operators {
		i, ok := at[o.Service]
		if !ok {
			i = len(all)
			at[o.Service] = i
			all = append(all, offer{service: o.Service, kind: o.Kind})
		}
		all[i].operators = append(all[i].operators, o)
	}
	return all
}

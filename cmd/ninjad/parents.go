package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"ninja/ca"
	"ninja/sds/tree"
)

// parents are where the SDS server joins hierarchies: as roles.sds.parents says, but for what ninjactl sds join and leave
// changed since. Changes are kept in a file of the state, so that they hold after a restart.
type parents struct {
	file string
	role map[string]parentConfig // by hierarchy

	mu      sync.Mutex
	changed map[string]*parentConfig // nil: none
}

// maxParents bounds the file.
const maxParents = 1 << 20

// loadParents reads what was changed.
func loadParents(file string, role []parentConfig) (*parents, error) {
	p := &parents{file: file, role: make(map[string]parentConfig), changed: make(map[string]*parentConfig)}
	for _, c := range role {
		p.role[c.Hierarchy] = c
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil && len(b) > maxParents {
		err = fmt.Errorf("larger than %d bytes", maxParents)
	}
	if err == nil {
		err = json.Unmarshal(b, &p.changed)
	}
	var all []parentConfig
	for hierarchy, c := range p.changed {
		if c != nil {
			c.Hierarchy = hierarchy
			all = append(all, *c)
		}
	}
	if err == nil {
		err = checkParents(all)
	}
	if err != nil {
		return nil, fmt.Errorf("what ninjactl sds join and leave changed, %s: %w (take the file away to go back to roles.sds.parents)", file, err)
	}
	return p, nil
}

// now are the parents that hold, and says where they are others than the configuration's.
func (p *parents) now(log *slog.Logger) (out []tree.Parent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for hierarchy, c := range p.role {
		if _, changed := p.changed[hierarchy]; !changed {
			out = append(out, c.parent())
		}
	}
	for hierarchy, c := range p.changed {
		log.Info("ninjactl sds join or leave has changed where this server stands; with the name alone, ninjactl sds join goes back to roles.sds.parents", "hierarchy", hierarchy)
		if c != nil {
			out = append(out, c.parent())
		}
	}
	return out
}

func (c parentConfig) parent() tree.Parent {
	return tree.Parent{Hierarchy: c.Hierarchy, Addresses: c.Addresses, Domain: c.Domain}
}

// configured is what the configuration says of a hierarchy; nil: nothing.
func (p *parents) configured(hierarchy string) *tree.Parent {
	c, ok := p.role[hierarchy]
	if !ok {
		return nil
	}
	parent := c.parent()
	return &parent
}

// keep keeps a change.
func (p *parents) keep(hierarchy string, to *tree.Parent, configured bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case configured:
		delete(p.changed, hierarchy)
	case to == nil:
		p.changed[hierarchy] = nil
	default:
		p.changed[hierarchy] = &parentConfig{Hierarchy: hierarchy, Addresses: slices.Clone(to.Addresses), Domain: to.Domain}
	}
	b, err := json.MarshalIndent(p.changed, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(p.file, append(b, '\n'))
}

// replaceFile writes a file so that a crash leaves the old one or the new one, whole and on disk.
func replaceFile(file string, content []byte) error {
	half, err := os.OpenFile(file+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = half.Write(content)
	if err = errors.Join(err, half.Sync(), half.Close()); err != nil {
		return err
	}
	if err := os.Rename(half.Name(), file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// administers lets the administrator of the server's domain change its parents, and nobody else.
func administers(domain string) (func(ca.Peer) error, error) {
	admin, err := ca.MakeID(domain, ca.KindUser, "admin")
	if err != nil {
		return nil, err
	}
	return func(p ca.Peer) error {
		if p.ID != admin {
			return fmt.Errorf("%s may", admin)
		}
		return nil
	}, nil
}

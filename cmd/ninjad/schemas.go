package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"ninja/ca"
	"ninja/sds/schema"
)

// schemas are those that the server begins with: the files of the configuration, and what was registered over the network
// before. What will be is kept beside the latter, because descriptions that claim it must pass after a restart too.
func (d *daemon) schemas(role sdsRole) (*schema.Set, error) {
	set, kept := new(schema.Set), d.dir("schemas")
	if err := set.AddFiles(role.Schemas...); err != nil {
		return nil, fmt.Errorf("roles.sds.schemas: %w", err)
	}
	if _, err := os.Stat(kept); !errors.Is(err, fs.ErrNotExist) {
		if err := set.AddFiles(kept); err != nil {
			return nil, fmt.Errorf("schemas that were registered over the network: %w (take the file away, or out of roles.sds.schemas)", err)
		}
	}
	set.Keep = schema.KeepIn(kept)
	return set, nil
}

// registrar lets the administrator of the server's domain register schemas over the network, and those who are named.
func registrar(domain string, named []string) (func(ca.Peer) error, error) {
	admin, err := ca.MakeID(domain, ca.KindUser, "admin")
	if err != nil {
		return nil, err
	}
	allowed := []ca.ID{admin}
	for _, text := range named {
		id, err := ca.ParseID(text)
		if err != nil {
			return nil, fmt.Errorf("roles.sds.registrars: %w", err)
		}
		allowed = append(allowed, id)
	}
	return func(p ca.Peer) error {
		if !slices.Contains(allowed, p.ID) {
			return fmt.Errorf("the administrator may, and whom roles.sds.registrars names")
		}
		return nil
	}, nil
}

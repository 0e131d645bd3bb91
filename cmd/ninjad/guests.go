package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ninja/ca"
	"ninja/operators"
	"ninja/operators/golden"
	"ninja/operators/wrap"
	"ninja/proxy"
)

// guestConfig is what a proxy allows of operators that others wrote.
type guestConfig struct {
	// Programs are those that descriptions may name, by key.
	Programs map[string]wrap.Entry `yaml:"programs"`
	// Reach lists addresses that wrapped services may have beside public ones.
	Reach []string `yaml:"reach"`
	// Operators is a folder of descriptions that the proxy publishes itself, Samples one of samples to examine with.
	Operators string `yaml:"operators"`
	Samples   string `yaml:"samples"`
	// Publishers are the principals that may offer operators, or "everyone"; empty is nobody.
	Publishers []string `yaml:"publishers"`
	// Examine is the mean time between two examinations in service.
	Examine time.Duration `yaml:"examine"`

	// ProgramFiles are lists of programs in files of their own; of ninjad dev.
	ProgramFiles []string `yaml:"-"`
	// beside is the folder of the file, which ./ in commands means.
	beside string
}

// check says what is wrong with it beyond what reading found.
func (c *guestConfig) check() error {
	if _, err := c.reach(); err != nil {
		return err
	}
	for _, who := range c.Publishers {
		if _, err := ca.ParseID(who); err != nil && who != "everyone" {
			return fmt.Errorf("roles.proxy.publishers: %w; want a principal such as spiffe://DOMAIN/user/ann, or everyone", err)
		}
	}
	for key, dir := range map[string]string{"operators": c.Operators, "samples": c.Samples} {
		if dir == "" {
			continue
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("roles.proxy.%s: %q is not a folder: make it, or leave the key out", key, dir)
		}
	}
	if c.Examine < 0 {
		return fmt.Errorf("roles.proxy.examine: %v is not a time between examinations, such as 10m", c.Examine)
	}
	if _, err := c.programs(); err != nil {
		return err
	}
	_, err := c.sets()
	return err
}

func (c *guestConfig) reach() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, s := range c.Reach {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("roles.proxy.reach: %q is not a network such as 10.1.0.0/16", s)
		}
		all = append(all, p)
	}
	return all, nil
}

// programs are all that may be started.
func (c *guestConfig) programs() (map[string]wrap.Program, error) {
	all, err := wrap.Programs(c.Programs, c.beside)
	if err != nil {
		return nil, fmt.Errorf("roles.proxy.programs: %w", err)
	}
	for _, file := range c.ProgramFiles {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		more, err := wrap.ParsePrograms(b, filepath.Dir(file))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for key := range more {
			if _, twice := all[key]; twice {
				return nil, fmt.Errorf("%s: program %q is in another list too", file, key)
			}
		}
		maps.Copy(all, more)
	}
	return all, nil
}

// documents are the XML files of a folder, in order of name; none of "".
func documents(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.xml"))
	slices.Sort(files)
	return files, err
}

func (c *guestConfig) sets() ([]*golden.Set, error) {
	files, err := documents(c.Samples)
	if err != nil {
		return nil, err
	}
	var all []*golden.Set
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		set, err := golden.ParseSet(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, set)
	}
	return all, nil
}

// guests makes the part of a proxy that others' operators run in.
func (d *daemon) guests(n *node, element operators.Node, own []operators.Spec, role proxyRole) (*proxy.Guests, error) {
	reach, err := role.reach()
	if err != nil {
		return nil, err
	}
	programs, err := role.programs()
	if err != nil {
		return nil, err
	}
	sets, err := role.sets()
	if err != nil {
		return nil, err
	}
	w, err := wrap.New(wrap.Config{Programs: programs, Allow: reach, Log: n.log})
	if err != nil {
		return nil, err
	}
	w.Register(n.registry)
	var taken []string
	for _, s := range own {
		taken = append(taken, s.Name)
	}
	guests, err := proxy.NewGuests(proxy.GuestConfig{
		World: d.world, Owner: n.id.ID(), Node: element, Registry: n.registry, Programs: []string{wrap.ProgramKey, wrap.HTTPKey, wrap.GRPCKey},
		Keys: w.Keys, Taken: taken, Sets: sets, Publisher: n.announcer, Period: role.Examine, Log: n.log,
		Allow: func(ctx context.Context, name string) error { return n.allow(ctx, name, role.ACL) },
		Used: func(spec operators.Spec) (time.Duration, int64) {
			for _, a := range spec.Args {
				if a.Name == "key" && spec.Program == wrap.ProgramKey {
					u := w.Used(a.Value)
					return u.CPU, u.Memory
				}
			}
			return 0, 0
		},
	})
	if err != nil {
		return nil, err
	}
	for _, state := range []string{"published", "withdrawn"} {
		d.health.gauge("ninja_guests", "Operators of others at this proxy.", prometheus.Labels{"state": state}, func() float64 {
			count := 0
			for _, x := range guests.List() {
				if x.State == state {
					count++
				}
			}
			return float64(count)
		})
	}
	guests.Register(n.server, func(author ca.ID) bool {
		return author.Domain() == n.id.ID().Domain() && (slices.Contains(role.Publishers, "everyone") || slices.Contains(role.Publishers, string(author)))
	})
	return guests, nil
}

// ownGuests publishes the operators that the configuration describes. One that is refused stops the daemon: a proxy without
// what its file promises helps nobody.
func (d *daemon) ownGuests(ctx context.Context, n *node, guests *proxy.Guests, role proxyRole) error {
	files, err := documents(role.Operators)
	if err != nil {
		return err
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		spec, err := proxy.ReadOperator(b)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		as, _, _, err := guests.Offer(ctx, n.id.ID(), *spec)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		n.log.Info("an operator is published", "service", as.Service, "examination", as.Text)
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"go.yaml.in/yaml/v3"

	"ninja/sds"
	"ninja/sds/dnssd"
	"ninja/sds/index"
	"ninja/sds/terms"
)

// doorRole is what every door has: an identity of its own, of the kind base, as which it publishes and finds. So it shows
// no more than what its own principal may find, and what it brings in is told from everybody else's by its owner.
type doorRole struct {
	Name string `yaml:"name"`
	Join string `yaml:"join"`
}

// dnssdRole is a door to multicast DNS on one link.
type dnssdRole struct {
	doorRole `yaml:",inline"`
	// Via is the address of the interface on the link; empty is that of discovery.
	Via string `yaml:"via"`
	// Import are the service types that are published in the SDS, with ACL for each; without one, everyone finds them.
	Import []importRule `yaml:"import"`
	ACL    []string     `yaml:"acl"`
	// Export are the services that are shown on the link.
	Export []exportRule `yaml:"export"`
}

type importRule struct {
	Type string `yaml:"type"`
	// Kind is that of the descriptions; empty is the type's name, ipp of _ipp._tcp.
	Kind string `yaml:"kind"`
}

// choice says which services are meant: those that meet all of its parts.
type choice struct {
	Find  []string `yaml:"find"` // quick terms
	XPath string   `yaml:"xpath"`
	By    string   `yaml:"by"`
}

type exportRule struct {
	choice `yaml:",inline"`
	Type   string `yaml:"type"`
	// Address is the place in the description that holds IPv4:PORT.
	Address string `yaml:"address"`
}

// httpsdRole is a door for Prometheus.
type httpsdRole struct {
	doorRole `yaml:",inline"`
	choice   `yaml:",inline"`
	Listen   string `yaml:"listen"`
	// Address and Path are the places in a description that hold IP:PORT and the path of the metrics.
	Address string `yaml:"address"`
	Path    string `yaml:"path"`
	// Allow are the networks that targets may be in; none are loopback and the private ones.
	Allow []string `yaml:"allow"`
}

// UnmarshalYAML reads and checks an import rule; the error has its line.
func (r *importRule) UnmarshalYAML(n *yaml.Node) error {
	type plain importRule
	if err := n.Decode((*plain)(r)); err != nil {
		return err
	}
	return at(n, "roles.dnssd.import", dnssd.CheckType(r.Type))
}

// UnmarshalYAML reads and checks an export rule; the error has its line.
func (r *exportRule) UnmarshalYAML(n *yaml.Node) error {
	type plain exportRule
	if err := n.Decode((*plain)(r)); err != nil {
		return err
	}
	q, err := r.query()
	switch {
	case err != nil:
	case q.XPath == "" && q.By == "":
		err = errors.New("choose services by find, xpath or by, as in find: [kind=web]")
	case r.Address == "":
		err = errors.New("address: name the place that holds IPv4:PORT, as in node/@control")
	default:
		if _, err = index.Select(r.Address, nil); err == nil {
			err = dnssd.CheckType(r.Type)
		}
	}
	return at(n, "roles.dnssd.export", err)
}

// UnmarshalYAML reads and checks the role; the error has its line.
func (r *dnssdRole) UnmarshalYAML(n *yaml.Node) error {
	type plain dnssdRole
	if err := n.Decode((*plain)(r)); err != nil {
		return err
	}
	var err error
	if len(r.Import)+len(r.Export) == 0 {
		err = errors.New("name service types to import, rules to export, or both; ninjad example shows them")
	}
	if a, wrong := netip.ParseAddr(r.Via); r.Via != "" && (wrong != nil || !a.Is4()) {
		err = fmt.Errorf("via: %q is not the IPv4 address of a network interface", r.Via)
	}
	if _, wrong := parseACL(r.ACL); wrong != nil {
		err = wrong
	}
	return at(n, "roles.dnssd", err)
}

// UnmarshalYAML reads and checks the role; the error has its line.
func (r *httpsdRole) UnmarshalYAML(n *yaml.Node) error {
	type plain httpsdRole
	r.Address, r.Path = "metrics/@address", "metrics/@path"
	if err := n.Decode((*plain)(r)); err != nil {
		return err
	}
	_, err := r.query()
	for _, place := range []string{r.Address, r.Path} {
		if err == nil && place != "" {
			_, err = index.Select(place, nil)
		}
	}
	if _, _, wrong := net.SplitHostPort(r.Listen); err == nil && wrong != nil {
		err = fmt.Errorf("listen: where Prometheus asks, as in 127.0.0.1:7781: %w", wrong)
	}
	if err == nil {
		_, err = r.networks()
	}
	return at(n, "roles.httpsd", err)
}

// fillDoors fills what the doors need not say.
func (c *config) fillDoors() {
	named := func(r *doorRole, name string) {
		if r.Name == "" {
			r.Name = name
		}
		if r.Join == "" {
			r.Join = c.Join
		}
	}
	if r := c.Roles.DNSSD; r != nil {
		named(&r.doorRole, "dnssd")
		if r.Via == "" {
			r.Via = c.Discovery.Via
		}
		if r.ACL == nil {
			r.ACL = []string{"everyone: find"}
		}
	}
	if r := c.Roles.HTTPSD; r != nil {
		named(&r.doorRole, "httpsd")
	}
}

// at gives an error the line of what it is about.
func at(n *yaml.Node, where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("line %d: %s: %w", n.Line, where, err)
}

// query is the question of a choice; without parts it chooses everything.
func (c choice) query() (sds.Query, error) {
	q := sds.Query{XPath: c.XPath}
	if len(c.Find) > 0 {
		if c.XPath != "" {
			return q, errors.New("find and xpath do not go together: write the terms into the expression")
		}
		var err error
		if q.XPath, err = terms.XPath(c.Find); err != nil {
			return q, err
		}
	}
	if q.XPath != "" {
		if _, err := index.XPath(q.XPath, nil); err != nil {
			return q, err
		}
	}
	owner, err := parseOwner(c.By)
	q.By = owner
	return q, err
}

func (r *httpsdRole) networks() (all []netip.Prefix, err error) {
	for _, text := range r.Allow {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("allow: %w", err)
		}
		all = append(all, p)
	}
	return all, nil
}

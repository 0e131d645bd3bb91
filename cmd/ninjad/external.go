package main

import (
	"fmt"
	"net/netip"
	"strings"

	"ninja/connectors/rtp/external"
	"ninja/operators"
)

// outside is what a proxy may reach outside the system, as it is published.
func (r *proxyRole) outside() (string, error) {
	var all []string
	for _, line := range r.External {
		rule, err := external.ParseRule(line)
		if err != nil {
			return "", err
		}
		// How its addresses consent is the proxy's own business.
		e := operators.External{Network: rule.Network, First: rule.First, Last: rule.End}
		all = append(all, e.String())
	}
	text := strings.Join(all, " ")
	if len(text) > operators.MaxExternal {
		return "", fmt.Errorf("%d bytes: at most %d are published; name wider networks", len(text), operators.MaxExternal)
	}
	return text, nil
}

// speakOutside registers the ends of paths that are addresses outside the system.
func (n *node) speakOutside(r *proxyRole) error {
	if len(r.External) == 0 {
		return nil
	}
	local, err := netip.ParseAddr(n.hops.Host())
	if err != nil {
		return err
	}
	cfg := external.Config{World: n.d.world, Local: local, Log: n.log}
	for _, line := range r.External {
		rule, err := external.ParseRule(line)
		if err != nil {
			return err
		}
		cfg.Allow = append(cfg.Allow, rule)
	}
	edge, err := external.New(cfg)
	if err != nil {
		return err
	}
	external.Register(n.registry, edge)
	return nil
}

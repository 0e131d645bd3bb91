package main

import (
	"errors"
	"fmt"
	"net/netip"

	"ninja/cmd/home"
)

// checkUnicast says whether a server can be found where there is no multicast.
func (c *config) checkUnicast() error {
	for key, text := range map[string]string{"discovery.server": c.Discovery.Server, "roles.sds.udp": c.udp()} {
		if text == "" {
			continue
		}
		if a, err := netip.ParseAddrPort(text); err != nil || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			return fmt.Errorf("%s: %q is not an address that others reach, with a port, such as 10.0.0.5:7703", key, text)
		}
	}
	if c.Discovery.Group != noGroup {
		return nil
	}
	if c.Roles.SDS != nil && c.udp() == "" {
		return errors.New("discovery.group is none: name an address in roles.sds.udp, where the server is asked instead")
	}
	if c.Roles.SDS == nil && c.Discovery.Server == "" && c.takesPart() {
		return errors.New("discovery.group is none: name the server to ask in discovery.server (its roles.sds.udp)")
	}
	return nil
}

func (c *config) udp() string {
	if c.Roles.SDS == nil {
		return ""
	}
	return c.Roles.SDS.UDP
}

// takesPart is whether a role looks for a server.
func (c *config) takesPart() bool {
	r := c.Roles
	return r.APC != nil || r.Proxy != nil || r.Base != nil || r.Unit != nil || r.DNSSD != nil || r.HTTPSD != nil
}

// homeSettings are how the administrator finds the server.
func (d *daemon) homeSettings() home.Settings {
	s := home.Settings{Group: d.cfg.Discovery.Group, Via: d.cfg.Discovery.Via, Server: d.cfg.Discovery.Server}
	if s.Group == noGroup {
		s.Group = ""
		if s.Server == "" {
			s.Server = d.cfg.udp()
		}
	}
	return s
}

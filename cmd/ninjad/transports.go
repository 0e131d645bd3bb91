package main

import (
	"fmt"
	"slices"

	"ninja/connectors"
)

// checkTransports refuses names that no transport has.
func (c *config) checkTransports() error {
	var known []string
	for _, p := range connectors.Promises() {
		if p.Scheme != "mem" && !slices.Contains(known, p.Scheme) {
			known = append(known, p.Scheme)
		}
	}
	for i, name := range c.Transports {
		if !slices.Contains(known, name) || slices.Contains(c.Transports[:i], name) {
			return fmt.Errorf("transports: %q: name some of %v, each once, or none for all of them", name, known)
		}
	}
	return nil
}

// offered are those of the transports that the configuration allows.
func (c *config) offered(all []connectors.Transport) []connectors.Transport {
	if len(c.Transports) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(t connectors.Transport) bool { return !slices.Contains(c.Transports, t.Scheme()) })
}

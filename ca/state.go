package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Bounds of a state.
const (
	maxDomains      = 256
	maxDomainRoots  = 4
	maxBannedToTell = 10_000
)

// State is what to tell everyone of the domain.
func (a *Authority) State() State {
	s, _ := a.state()
	return s
}

// state returns the state with a channel that is closed at the next change. Steps of time (a root that retires, a ban
// whose certificates have all ended) close nothing: who follows looks again every second.
func (a *Authority) state() (State, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.world.Now()
	a.advance(now)
	s := State{Roots: a.trusted(), Domains: maps.Clone(a.domains), Keys: maps.Clone(a.keys)}
	for id, at := range a.banned {
		if now.After(at.Add(a.overlap())) {
			delete(a.banned, id) // its last certificate has ended, and it gets no other
			continue
		}
		s.Banned = append(s.Banned, id)
	}
	slices.Sort(s.Banned)
	return s, a.changed
}

// tell wakes those who follow. Called with the lock held.
func (a *Authority) tell() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// ban notes that a principal was banned, for as long as its certificates may live. At the bound the oldest goes: then its
// certificates, at most a leaf's life old, are good until they end.
func (a *Authority) ban(id ID, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.banned) >= maxBannedToTell {
		oldest := id
		for other, when := range a.banned {
			if oldest == id || when.Before(a.banned[oldest]) {
				oldest = other
			}
		}
		delete(a.banned, oldest)
	}
	a.banned[id] = at
	a.tell()
}

func (a *Authority) unban(id ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.banned, id)
	a.tell()
}

// TrustDomain replaces the roots of another domain (DER), durably; none ends the trust in it. A root is trusted for its
// own domain alone, whatever its certificate says. Keys are those of its capability manager, signed under one of the
// roots; without any nothing hidden is found across the two domains.
func (a *Authority) TrustDomain(domain string, roots [][]byte, keys ...RoutingKey) error {
	if _, err := MakeID(domain, KindCA, "root"); err != nil {
		return fmt.Errorf("trust the domain %q: %w", domain, err)
	}
	if domain == a.domain {
		return fmt.Errorf("trust the domain %s: it is this one: ninjactl ca rotate changes its root", domain)
	}
	if len(roots) > maxDomainRoots {
		return fmt.Errorf("trust the domain %s: %d roots, at most %d", domain, len(roots), maxDomainRoots)
	}
	for _, der := range roots {
		if err := checkRoot(der, domain); err != nil {
			return fmt.Errorf("trust the domain %s: %w", domain, err)
		}
	}
	bare, err := a.routingKeys(domain, roots, keys)
	if err != nil {
		return fmt.Errorf("trust the domain %s: %w", domain, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	domains, routing := replaced(a.domains, domain, roots), replaced(a.keys, domain, bare)
	if len(domains) > maxDomains {
		return fmt.Errorf("trust the domain %s: %d domains are trusted already", domain, maxDomains)
	}
	if a.dir != "" {
		if err := writeDomains(a.dir, domains, routing); err != nil {
			return err
		}
	}
	a.domains, a.keys = domains, routing
	a.tell()
	return nil
}

// replaced is a copy of all in which a domain has these, or is not when there are none.
func replaced(all map[string][][]byte, domain string, these [][]byte) map[string][][]byte {
	next := make(map[string][][]byte, len(all)+1)
	maps.Copy(next, all)
	if next[domain] = these; len(these) == 0 {
		delete(next, domain)
	}
	return next
}

// checkRoot says what is wrong with a root certificate of a domain.
func checkRoot(der []byte, domain string) error {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	if !c.IsCA || c.CheckSignatureFrom(c) != nil {
		return errors.New("the certificate is not a root")
	}
	if len(c.URIs) == 1 && c.URIs[0].Host != domain {
		return fmt.Errorf("the root is of the domain %q", c.URIs[0].Host)
	}
	return nil
}

// followEvery is how often an authority looks whether time has changed the state, and how often its server says that
// nothing has.
const followEvery = time.Second

// Follow calls each with the state, now and whenever it has changed, until ctx ends or each fails. Between changes it
// calls it once a second with nil.
func (a *Authority) Follow(ctx context.Context, each func(*State) error) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	var told *State
	for {
		s, changed := a.state()
		news := &s
		if told != nil && sameState(*told, s) {
			news = nil
		} else {
			told = &s
		}
		if err := each(news); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

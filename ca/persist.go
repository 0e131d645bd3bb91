package ca

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"ninja/internal/world"
)

// OpenAuthority opens the authority that is kept in a directory, or makes one there if there is none: root.pem,
// root.key, issuing.pem. The root's key can be taken away (move root.key to a safe): the authority then works until its
// issuing certificate ends, for which the key has to come back for a moment once a month.
func OpenAuthority(w world.World, domain, dir string) (*Authority, error) {
	a, err := loadAuthority(w, domain, dir)
	if errors.Is(err, fs.ErrNotExist) {
		a, err = makeAuthority(w, domain, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	return a, nil
}

func makeAuthority(w world.World, domain, dir string) (*Authority, error) {
	// A root whose authority never got to issue anything, because of a crash, is of no use; one that has is in root.pem.
	rootKey, der, err := newRoot(w, domain)
	if err != nil {
		return nil, err
	}
	a := emptyAuthority(w, domain, dir)
	a.roots = []root{{der: der, state: rootActive, since: w.Now()}}
	if err := a.newIssuing(rootKey); err != nil {
		return nil, err
	}
	if err := writeBundle(dir, fileRootKey, bundle{key: rootKey}); err != nil {
		return nil, err
	}
	if err := a.saveIssuing(); err != nil {
		return nil, err
	}
	// Last: the authority exists when its root certificate does.
	return a, writeRoots(dir, a.roots)
}

func loadAuthority(w world.World, domain, dir string) (*Authority, error) {
	roots, err := readRoots(dir)
	if err != nil {
		return nil, err
	}
	a := emptyAuthority(w, domain, dir)
	a.roots = roots
	if others, err := readBundle(dir, fileDomains); err == nil {
		a.domains, a.keys = others.domains, others.keys
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if a.nextRoot() < 0 { // a switch of roots may have been cut short
		if err := a.finishSwitch(); err != nil {
			return nil, err
		}
	}
	issuing, err := readBundle(dir, fileIssuing)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a, a.reissue()
	case err != nil:
		return nil, err
	case issuing.key == nil || len(issuing.chain) != 1:
		return nil, fmt.Errorf("%s lacks its key or certificate: remove it and bring back %s", fileIssuing, fileRootKey)
	}
	if err := a.setIssuing(issuing.key, issuing.chain[0]); err != nil {
		return nil, err
	}
	if len(a.issuer.PermittedURIDomains) != 1 || a.issuer.PermittedURIDomains[0] != domain {
		return nil, fmt.Errorf("it is of the domain %v, not %q: correct the configuration", a.issuer.PermittedURIDomains, domain)
	}
	return a, nil
}

// writeDomains replaces the roots and routing keys of other domains.
func writeDomains(dir string, domains, keys map[string][][]byte) error {
	return writeBundle(dir, fileDomains, bundle{domains: domains, keys: keys})
}

func (a *Authority) saveIssuing() error {
	return writeBundle(a.dir, fileIssuing, bundle{key: a.key, chain: [][]byte{a.issuing}})
}

// reissue has the root sign a new issuing key.
func (a *Authority) reissue() error {
	root, err := readBundle(a.dir, fileRootKey)
	if err == nil && root.key == nil {
		err = errors.New("it holds no key")
	}
	if err == nil {
		err = a.newIssuing(root.key)
	}
	if err != nil {
		return fmt.Errorf("make an issuing certificate: %s: %w", filepath.Join(a.dir, fileRootKey), err)
	}
	return a.saveIssuing()
}

// freshIssuer renews the issuing certificate in the last third of its life, if the root's key is there. Called with the
// lock held.
func (a *Authority) freshIssuer(now time.Time) error {
	left := a.issuer.NotAfter.Sub(now)
	if left > IssuingLife/3 || a.dir == "" && left > 0 {
		return nil
	}
	err := errors.New("it is kept in memory only")
	if a.dir != "" {
		err = a.reissue()
	}
	if err != nil && left <= 0 {
		return fmt.Errorf("the issuing certificate ended at %s: bring back the root's key: %w", a.issuer.NotAfter.UTC().Format(time.RFC3339), err)
	}
	return nil
}

// OpenIdentity loads an identity of a principal from a directory, or makes and saves one: what an authority's own
// process uses for the roles that it plays.
func (a *Authority) OpenIdentity(kind, name, dir string) (*Identity, error) {
	i, err := Load(dir, a.world)
	if err == nil {
		want, err := MakeID(a.domain, kind, name)
		if err == nil && i.ID() != want {
			err = fmt.Errorf("%s holds the identity %s, not %s", dir, i.ID(), want)
		}
		if err != nil {
			return nil, err
		}
		chain, roots, err := a.RenewIdentity(context.Background(), i)
		if err == nil {
			err = i.Renew(chain, roots)
		}
		return i, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if i, err = a.NewIdentity(kind, name); err != nil {
		return nil, err
	}
	return i, i.Save(dir)
}

// RenewIdentity makes a new certificate for an identity: the authority is a Source for the identities of its own
// process.
func (a *Authority) RenewIdentity(_ context.Context, i *Identity) (chain, roots [][]byte, err error) {
	chain, err = a.Issue(i.ID(), i.Public(), 0)
	return chain, a.Roots(), err
}

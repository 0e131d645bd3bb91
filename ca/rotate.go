package ca

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A root changes in two steps, each at a time that needs nobody's answer, because every certificate ends:
//
//	Rotate   the next root is made and trusted beside the active one, and an issuing certificate under it is laid ready
//	switch   one overlap later every certificate that holds was made since, so whoever has one knows the next root: it
//	         becomes the active one
//	retire   another overlap later every certificate that holds was made under it: the last root is trusted no more
//
// Between Rotate and the switch both roots' keys can be taken away already. A retired root is remembered for those who
// come late: a certificate that ended under it can be renewed (RenewGrace), and a join token that names it be redeemed,
// by a certificate in which it vouches for its successor.
type root struct {
	der   []byte
	state string
	since time.Time // when it came into the state
	cross []byte    // the successor's key, certified by this root; nil without one
}

// States of a root.
const (
	rootActive = "active"
	rootNext   = "next"
	rootLast   = "last"
)

// overlap is how long two roots are trusted side by side in each step: the life of a leaf, and some for clocks that
// differ.
func (a *Authority) overlap() time.Duration { return a.life + min(2*clockSkew, a.life/4) }

// trusted are the roots to trust now, the active one first. Called with the lock held.
func (a *Authority) trusted() (roots [][]byte) {
	for _, r := range a.roots {
		if r.state != rootLast || a.world.Now().Before(r.since.Add(a.overlap())) {
			roots = append(roots, r.der)
		}
	}
	return roots
}

// Rotate begins the change to a new root. The active root's key must be in the authority's directory for this moment.
func (a *Authority) Rotate() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dir == "" {
		return errors.New("change the root: this authority is kept in memory only")
	}
	if i := a.nextRoot(); i >= 0 {
		return fmt.Errorf("change the root: a change is under way: it ends by itself, the next root signs from %s on",
			a.roots[i].since.Add(a.overlap()).UTC().Format(time.RFC3339))
	}
	active, err := readBundle(a.dir, fileRootKey)
	if err == nil && active.key == nil {
		err = errors.New("it holds no key")
	}
	if err != nil {
		return fmt.Errorf("change the root: bring back %s for this moment: %w", filepath.Join(a.dir, fileRootKey), err)
	}
	if err := a.prepare(active.key); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	a.tell()
	return nil
}

// prepare makes the next root and what the switch needs of it.
func (a *Authority) prepare(activeKey ed25519.PrivateKey) error {
	nextKey, next, err := newRoot(a.world, a.domain)
	if err != nil {
		return err
	}
	cross, err := crossCertificate(a, next, activeKey)
	if err != nil {
		return err
	}
	issuingKey, issuing, err := makeIssuing(a.world, a.domain, next, nextKey)
	if err != nil {
		return err
	}
	if err := writeBundle(a.dir, fileNextKey, bundle{key: nextKey}); err != nil {
		return err
	}
	if err := writeBundle(a.dir, fileNextIssuing, bundle{key: issuingKey, chain: [][]byte{issuing}}); err != nil {
		return err
	}
	roots := slices.Clone(a.roots)
	roots[0].cross = cross
	roots = slices.Insert(roots, 1, root{der: next, state: rootNext, since: a.world.Now()})
	// Last: the change has begun when the list of roots says so.
	if err := writeRoots(a.dir, roots); err != nil {
		return err
	}
	a.roots = roots
	return nil
}

// crossCertificate has the active root vouch for its successor.
func crossCertificate(a *Authority, next []byte, activeKey ed25519.PrivateKey) ([]byte, error) {
	parent, err := x509.ParseCertificate(a.roots[0].der)
	if err != nil {
		return nil, err
	}
	successor, err := x509.ParseCertificate(next)
	if err != nil {
		return nil, err
	}
	if !activeKey.Public().(ed25519.PublicKey).Equal(parent.PublicKey) {
		return nil, fmt.Errorf("%s is not the active root's key", fileRootKey)
	}
	template := caTemplate(a.world, a.domain, "root", RootLife)
	template.NotAfter = parent.NotAfter
	return x509.CreateCertificate(a.world.Rand, template, parent, successor.PublicKey, activeKey)
}

func (a *Authority) nextRoot() int {
	return slices.IndexFunc(a.roots, func(r root) bool { return r.state == rootNext })
}

// advance takes the steps whose time has come. What cannot be written now is tried again at the next call. Called with
// the lock held.
func (a *Authority) advance(now time.Time) {
	if i := a.nextRoot(); i >= 0 && !now.Before(a.roots[i].since.Add(a.overlap())) {
		if a.switchRoot(i, now) == nil {
			a.tell()
		}
	}
	forgotten := slices.DeleteFunc(slices.Clone(a.roots), func(r root) bool {
		return r.state == rootLast && now.After(r.since.Add(max(maxTokenLife, RenewGrace)+a.overlap()))
	})
	if len(forgotten) < len(a.roots) && writeRoots(a.dir, forgotten) == nil {
		a.roots = forgotten
	}
}

// switchRoot makes the next root the active one.
func (a *Authority) switchRoot(i int, now time.Time) error {
	ready, err := readBundle(a.dir, fileNextIssuing)
	if err != nil {
		return err
	}
	if ready.key == nil || len(ready.chain) != 1 {
		return fmt.Errorf("%s lacks its key or certificate", fileNextIssuing)
	}
	roots := slices.Clone(a.roots)
	next := roots[i]
	next.state, next.since = rootActive, now
	roots[0].state, roots[0].since = rootLast, now
	roots = slices.Insert(slices.Delete(roots, i, i+1), 0, next)
	if err := writeRoots(a.dir, roots); err != nil {
		return err
	}
	a.roots = roots
	if err := a.setIssuing(ready.key, ready.chain[0]); err != nil {
		return err
	}
	return a.finishSwitch()
}

// finishSwitch moves the files of a switch that the list of roots has already: called again after a crash.
func (a *Authority) finishSwitch() error {
	for from, to := range map[string]string{fileNextIssuing: fileIssuing, fileNextKey: fileRootKey} {
		err := os.Rename(filepath.Join(a.dir, from), filepath.Join(a.dir, to))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the key may have been taken away
			return err
		}
	}
	return syncDir(a.dir)
}

// Rotation is where the change of a root is.
type Rotation struct {
	Root     []byte // the one that signs, DER
	Next     []byte // nil without a change under way
	SwitchAt time.Time
	Last     [][]byte // still trusted
	RetireAt time.Time
	// IssuingExpires is when the present issuing certificate ends. In the last third of IssuingLife the authority renews it
	// by itself, if the root's key is in its directory: if this time is near, the key is missing.
	IssuingExpires time.Time
	// RootKeyPresent says whether the root's key lies in the authority's directory, where it need not be.
	RootKeyPresent bool
}

// Rotation says where the change of the root is.
func (a *Authority) Rotation() Rotation {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.advance(a.world.Now())
	_, err := os.Stat(filepath.Join(a.dir, fileRootKey))
	r := Rotation{Root: a.roots[0].der, IssuingExpires: a.issuer.NotAfter, RootKeyPresent: a.dir != "" && err == nil}
	for _, old := range a.roots[1:] {
		switch until := old.since.Add(a.overlap()); {
		case old.state == rootNext:
			r.Next, r.SwitchAt = old.der, until
		case a.world.Now().Before(until):
			r.Last = append(r.Last, old.der)
			if until.After(r.RetireAt) {
				r.RetireAt = until
			}
		}
	}
	return r
}

// shown are the certificates that the authority shows to newcomers, who know a root by its hash: the roots, those
// remembered too, and how each vouches for its successor.
func (a *Authority) shown() (out [][]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.advance(a.world.Now())
	for _, r := range a.roots {
		out = append(out, r.der)
	}
	for _, r := range a.roots {
		if r.cross != nil && r.state == rootLast {
			out = append(out, r.cross)
		}
	}
	return out
}

// everTrusted is the trust in all roots that are remembered, for certificates that have ended.
func (a *Authority) everTrusted() (*trust, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all [][]byte
	for _, r := range a.roots {
		all = append(all, r.der)
	}
	return trustIn(all)
}

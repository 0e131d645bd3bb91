package units

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"sync"
	"time"

	"ninja/internal/world"
)

const (
	// keyLife is how long a link's key holds when nobody uses it.
	keyLife = 15 * time.Minute
	// tabLife is how long a tab may connect again.
	tabLife = 12 * time.Hour
	// maxTabs is how many tabs have a token; beyond it the oldest loses its own.
	maxTabs = 4
)

// door decides which page loads may connect. A link's key holds once; it is traded for the token of one tab. Only hashes
// are kept.
type door struct {
	world world.World

	mu   sync.Mutex
	key  [32]byte // hash; all zeros after it was used
	till time.Time
	used chan struct{}
	tabs []tab
}

type tab struct {
	hash [32]byte
	till time.Time
}

// draw makes a secret of 256 bits and its hash.
func (d *door) draw() (secret string, hash [32]byte) {
	var b [32]byte
	d.world.Fill(b[:])
	secret = base64.RawURLEncoding.EncodeToString(b[:])
	return secret, sha256.Sum256([]byte(secret))
}

// renew makes a new key; the one before no longer holds.
func (d *door) renew() string {
	key, hash := d.draw()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.key, d.till = hash, d.world.Now().Add(keyLife)
	d.used = make(chan struct{})
	return key
}

// redeemed is closed when the key has been used.
func (d *door) redeemed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// redeem trades the key for a tab's token.
func (d *door) redeem(key string) (token string, ok bool) {
	hash := sha256.Sum256([]byte(key))
	token, kept := d.draw()
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.world.Now()
	if d.used == nil || !same(hash, d.key) || !now.Before(d.till) {
		return "", false
	}
	d.key, d.till = [32]byte{}, time.Time{}
	close(d.used)
	d.tabs = append(d.tabs, tab{kept, now.Add(tabLife)})
	if len(d.tabs) > maxTabs {
		d.tabs = d.tabs[1:]
	}
	return token, true
}

// admits reports whether the token is that of a tab.
func (d *door) admits(token string) bool {
	hash := sha256.Sum256([]byte(token))
	d.mu.Lock()
	defer d.mu.Unlock()
	now, ok := d.world.Now(), false
	for _, t := range d.tabs {
		ok = ok || same(hash, t.hash) && now.Before(t.till)
	}
	return ok
}

func same(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"ninja/operators"
)

// data fetches external data from where the assignment says, and checks it against the hash in the reference.
func (p *path) data(ctx context.Context, ref string) ([]byte, error) {
	want, ok := operators.ParseRef(ref)
	if !ok {
		return nil, fmt.Errorf("data %q: want a reference SERVICE@sha256:HASH", clip(ref, MaxName))
	}
	source, ok := p.assignment.Data[ref]
	if !ok || p.host.cfg.Fetch == nil {
		return nil, fmt.Errorf("data %s: the assignment does not say where to fetch it, or this node fetches none", ref)
	}
	if b := p.host.fetched.get(want.SHA256); b != nil {
		return b, nil
	}
	b, err := p.host.cfg.Fetch(ctx, ref, source)
	if err != nil {
		return nil, fmt.Errorf("data %s from %s at %s: %w", ref, source.Peer, source.Address, err)
	}
	if sum := sha256.Sum256(b); len(b) > MaxData || hex.EncodeToString(sum[:]) != want.SHA256 {
		return nil, fmt.Errorf("data %s from %s at %s: %d bytes that do not have that hash, or more than %d",
			ref, source.Peer, source.Address, len(b), MaxData)
	}
	p.host.fetched.put(want.SHA256, b)
	return b, nil
}

// fetched keeps the data that paths have needed lately, by hash: a grammar is the same for every path to its service,
// and what has the right hash never grows old.
type fetched struct {
	mu    sync.Mutex
	kept  []datum // in order of last use
	bytes int
}

type datum struct {
	hash string
	data []byte
}

// maxFetched bounds the bytes that are kept.
const maxFetched = 4 * MaxData

// get returns a copy, nil when there is none.
func (f *fetched) get(hash string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.kept, func(d datum) bool { return d.hash == hash })
	if i < 0 {
		return nil
	}
	d := f.kept[i]
	f.kept = append(slices.Delete(f.kept, i, i+1), d)
	return slices.Clone(d.data)
}

// put keeps a copy in place of what was used longest ago.
func (f *fetched) put(hash string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.ContainsFunc(f.kept, func(d datum) bool { return d.hash == hash }) {
		return // two paths have fetched it at once
	}
	for f.bytes+len(data) > maxFetched {
		f.bytes -= len(f.kept[0].data)
		f.kept = slices.Delete(f.kept, 0, 1)
	}
	f.kept = append(f.kept, datum{hash, slices.Clone(data)})
	f.bytes += len(data)
}

package sds

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"ninja/ca"
	"ninja/sds/announce"
	"ninja/sds/packed"
)

// kept are the services and chains of a session that its server may mention by handle. It belongs to the session's
// receiver.
type kept struct {
	services []*carried
	chains   [][][]byte
}

// carried is a service as it came, whole. Whoever first wants it checks what its owner signed.
type carried struct {
	body announce.Body // without description and signature when only values were selected
	once sync.Once
	// Since it was checked:
	found Found
	until time.Time // when the owner's chain ends
	err   error
}

// item is a service in an answer: what is kept of it, and what is said of it now.
type item struct {
	*carried
	numbers map[string]float64
	age     time.Duration
	values  [][]string
}

// item reads a service that was found, and keeps it when the server wants to mention it again.
func (k *kept) item(f wireFound, most uint32) (item, error) {
	it := item{numbers: f.numbers, age: time.Duration(min(f.age, maxAge)) * time.Millisecond, values: f.values}
	if f.handle > uint64(most) || f.chainHandle > uint64(most) {
		return it, fmt.Errorf("%w: a handle beyond %d", packed.ErrUnreadable, most)
	}
	whole := len(f.description) > 0 || f.values != nil || f.owner != ""
	if !whole && f.handle > 0 {
		if it.carried = at(k.services, f.handle); it.carried == nil {
			return it, fmt.Errorf("%w: handle %d names nothing", packed.ErrUnreadable, f.handle)
		}
		return it, nil
	}
	it.carried = &carried{body: announce.Body{
		Owner: ca.ID(f.owner), Name: f.name, Version: f.version, Description: bytes.Clone(f.description), Signature: bytes.Clone(f.signature),
	}}
	chain := cloneChain(f.chain)
	if f.chainHandle > 0 && len(chain) > 0 {
		k.chains = put(k.chains, f.chainHandle, chain)
	} else if f.chainHandle > 0 {
		chain = at(k.chains, f.chainHandle)
	}
	it.carried.body.Chain = chain
	if f.handle > 0 {
		if len(f.description) > keepBytes {
			return it, fmt.Errorf("%w: %d bytes to be kept, at most %d", packed.ErrUnreadable, len(f.description), keepBytes)
		}
		k.services = put(k.services, f.handle, it.carried)
	}
	return it, nil
}

// maxAge is the greatest age that is believed, in milliseconds.
const maxAge = 1 << 42

// cloneChain copies a chain out of the message, of which it would keep all.
func cloneChain(chain [][]byte) [][]byte {
	out := make([][]byte, len(chain))
	for i, c := range chain {
		out[i] = bytes.Clone(c)
	}
	return out
}

// at is what is kept under a handle, from 1, or the zero value.
func at[T any](in []T, handle uint64) (v T) {
	if handle <= uint64(len(in)) {
		v = in[handle-1]
	}
	return v
}

func put[T any](in []T, handle uint64, v T) []T {
	for uint64(len(in)) < handle {
		var none T
		in = append(in, none)
	}
	in[handle-1] = v
	return in
}

// open is the service, checked unless values were selected.
func (it *item) open(c *Client, selected int, now time.Time) (Found, error) {
	if selected > 0 {
		return it.selection(selected)
	}
	it.once.Do(func() {
		b := it.carried.body
		if it.until, it.err = c.check(b); it.err == nil {
			it.found = Found{ID: b.ID(), Owner: b.Owner, Name: b.Name, Version: b.Version, Description: b.Description}
		}
		it.carried.body.Signature, it.carried.body.Chain = nil, nil // of no more use
	})
	if it.err != nil {
		return Found{}, it.err
	}
	if now.After(it.until) {
		return Found{}, fmt.Errorf("the certificate of %s ended at %v", it.found.Owner, it.until)
	}
	f := it.found
	f.Description, f.Numbers, f.Age = bytes.Clone(f.Description), it.numbers, it.age
	return f, nil
}

// selection is a service of which values were selected.
func (it *item) selection(selected int) (Found, error) {
	b := &it.carried.body
	owner, err := ca.ParseID(string(b.Owner))
	if err != nil {
		return Found{}, err
	}
	if len(it.values) != selected {
		return Found{}, fmt.Errorf("values of %d paths, want %d: the server does not know the question's select", len(it.values), selected)
	}
	return Found{ID: b.ID(), Owner: owner, Name: b.Name, Version: b.Version, Numbers: it.numbers, Age: it.age, Values: it.values}, nil
}

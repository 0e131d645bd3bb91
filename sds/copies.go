package sds

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/sds/announce"
	"ninja/sds/index"
)

// A server and those that it has spawned answer for the same services: each takes the announcements of a part and tells
// the others of it, so that a question needs no one else (see RATIONALE.md). What a server heard itself it tells; what it
// has been told it answers from, and tells on only when it stands in the middle. A copy lives no longer than its source
// last said.

// Copies is what one of them tells another.
type Copies struct {
	// Bodies are services that are new or changed, Alive those that were heard again: each with what is left of its life.
	Bodies []announce.Body
	Alive  []Alive
	// Withdrawn are services that their owners ended.
	Withdrawn []Withdrawn
	// Lacks are ids of services whose bodies the teller was not told yet.
	Lacks []string
	// Whole says that everything has been told once.
	Whole bool
}

// Alive is a service that was heard again.
type Alive struct {
	Owner ca.ID
	announce.Pair
	Lifetime time.Duration
}

// Withdrawn is a service that its owner ended.
type Withdrawn struct {
	Owner   ca.ID
	Name    string
	Version uint64
}

// feedMost bounds how many services are told at once, so that the store is not held up.
const feedMost = 500

// Feed is what another server has still to be told.
type Feed struct {
	server *Server
	to     string
	all    bool

	mu        sync.Mutex
	pending   map[string]bool // ids; true: with the body
	withdrawn []Withdrawn
	lacks     []string
	wake      chan struct{}
}

// Follow begins to note what another server is to be told: everything that there is, what was withdrawn, so that no late word
// of that counts there either; then what this server hears and, with all, what others than it have told. Close it.
func (s *Server) Follow(to ca.ID, all bool) (*Feed, error) {
	f := &Feed{server: s, to: string(to), all: all, pending: make(map[string]bool), wake: make(chan struct{}, 1)}
	err := s.store.do(func() {
		now := time.Since(s.store.began)
		for id, e := range s.store.services {
			if all || e.own > now {
				f.pending[id] = true
			}
		}
		s.store.withdrawn(f)
		s.store.feeds = append(s.store.feeds, f)
	})
	f.rouse()
	return f, err
}

// withdrawn notes all withdrawals that are remembered.
func (s *store) withdrawn(f *Feed) {
	for id, t := range s.gone {
		if owner, name, ok := strings.Cut(id, "#"); ok {
			f.withdrawn = append(f.withdrawn, Withdrawn{ca.ID(owner), name, t.version})
		}
	}
}

// Close ends the feed.
func (f *Feed) Close() {
	s := f.server.store
	_ = s.do(func() { s.feeds = slices.DeleteFunc(s.feeds, func(x *Feed) bool { return x == f }) })
}

// Send notes bodies that the other one lacks; Ask notes those that it is to be asked for.
func (f *Feed) Send(ids []string) {
	for _, id := range ids[:min(len(ids), feedMost)] {
		f.note(id, true)
	}
}

// Ask notes bodies that the other one is to be asked for.
func (f *Feed) Ask(ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.lacks) < 100*feedMost { // the rest is lacked again at its next refresh
		f.lacks = append(f.lacks, ids...)
	}
	f.rouse()
}

func (f *Feed) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *Feed) note(id string, body bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending[id] = f.pending[id] || body
	f.rouse()
}

// wants reports whether the other one is to be told what came from a server; "" is what was heard here.
func (f *Feed) wants(from string) bool { return from == "" || f.all && from != f.to }

// Run tells what there is to tell until ctx ends or send fails, and returns why. Calls of send come from one goroutine.
func (f *Feed) Run(ctx context.Context, send func(Copies) error) error {
	for whole := false; ; {
		c, more, err := f.take()
		if err != nil {
			return err
		}
		if !more && !whole {
			c.Whole, whole = true, true
		}
		if len(c.Bodies)+len(c.Alive)+len(c.Withdrawn)+len(c.Lacks) > 0 || c.Whole {
			if err := send(c); err != nil {
				return err
			}
		}
		if more {
			continue
		}
		select {
		case <-f.wake:
		case <-f.server.store.stopped:
			return status.Error(codes.Unavailable, "the server is stopping")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take is the next part of what is to be told, and whether there is more.
func (f *Feed) take() (c Copies, more bool, err error) {
	f.mu.Lock()
	n := min(len(f.lacks), feedMost)
	c.Lacks, f.lacks = f.lacks[:n:n], f.lacks[n:]
	n = min(len(f.withdrawn), feedMost)
	c.Withdrawn, f.withdrawn = f.withdrawn[:n:n], f.withdrawn[n:]
	now := make(map[string]bool, min(len(f.pending), feedMost))
	for id, body := range f.pending {
		if len(now) == feedMost {
			break
		}
		now[id] = body
		delete(f.pending, id)
	}
	more = len(f.pending)+len(f.lacks)+len(f.withdrawn) > 0
	f.mu.Unlock()
	if len(now) > 0 {
		err = f.server.store.do(func() { f.read(now, &c) })
	}
	return c, more, err
}

// read tells of services as they are now. The store's owner calls it.
func (f *Feed) read(ids map[string]bool, c *Copies) {
	s := f.server.store
	now := time.Since(s.began)
	for id, body := range ids {
		e := s.services[id]
		if e == nil {
			continue
		}
		left := e.own - now
		if f.all {
			left = max(left, e.expires-now)
		}
		switch {
		case left <= 0:
		case body:
			b := e.body()
			b.Lifetime = left
			c.Bodies = append(c.Bodies, b)
		default:
			c.Alive = append(c.Alive, Alive{e.owner(), announce.Pair{Name: e.name(), Version: e.version, Numbers: e.live.Load().numbers}, left})
		}
	}
}

// body is the service as its owner announced it.
func (e *entry) body() announce.Body {
	live := e.live.Load()
	return announce.Body{
		Owner: e.owner(), Name: e.name(), Version: e.version, Description: []byte(e.Tree.Source()), Signature: []byte(e.signature),
		Chain: certificates(live.chain), Numbers: live.numbers,
	}
}

// heard notes of a service that was put or refreshed whether it was heard here or told by another server, and who is to
// be told. before is when it would have expired.
func (s *store) heard(e *entry, before time.Duration, body bool) {
	if s.teller == "" {
		e.own = e.expires
	} else {
		e.teller, e.expires = s.teller, max(before, e.expires)
	}
	for _, f := range s.feeds {
		if f.wants(s.teller) {
			f.note(e.ID, body)
		}
	}
}

// ended notes a withdrawal for those who are to be told.
func (s *store) ended(w Withdrawn) {
	for _, f := range s.feeds {
		if !f.wants(s.teller) {
			continue
		}
		f.mu.Lock()
		if len(f.withdrawn) < tombstonesMost {
			f.withdrawn = append(f.withdrawn, w)
		}
		f.rouse()
		f.mu.Unlock()
	}
}

// TakeCopies takes what another server tells, whose bodies are verified already. It returns the ids of services whose
// bodies are lacking, and why some were refused.
func (s *Server) TakeCopies(from ca.ID, c Copies) (lacks []string, refused []error) {
	trees := make([]*index.Tree, len(c.Bodies))
	for i, b := range c.Bodies {
		var err error
		if trees[i], err = s.parse(b.Description); err != nil {
			refused = append(refused, err)
		}
	}
	err := s.store.do(func() {
		st := s.store
		st.teller = string(from)
		defer func() { st.teller = "" }()
		now := time.Now()
		for i, b := range c.Bodies {
			if trees[i] == nil {
				continue
			}
			if err := st.applyPut(b, trees[i], now); err != nil {
				refused = append(refused, err)
			}
		}
		for _, a := range c.Alive {
			if unknown := st.applyRefresh(a.Owner, a.Lifetime, []announce.Pair{a.Pair}, now); len(unknown) > 0 {
				lacks = append(lacks, string(a.Owner)+"#"+a.Name)
			}
		}
		for _, w := range c.Withdrawn {
			st.applyWithdraw(w.Owner, w.Name, w.Version)
		}
	})
	if err != nil {
		refused = append(refused, err)
	}
	return lacks, refused
}

// Hold keeps what another server told for so long at least: it is away, so that nobody hears those services.
func (s *Server) Hold(from ca.ID, life time.Duration) {
	_ = s.store.do(func() {
		until := time.Since(s.store.began) + life
		for id, e := range s.store.services {
			if e.teller != string(from) {
				continue
			}
			e.expires = max(e.expires, until)
			for _, f := range s.store.feeds {
				if f.wants(e.teller) {
					f.note(id, false)
				}
			}
		}
	})
}

// Moved says that the services of some owners announce themselves to another server from now on.
func (s *Server) Moved(to ca.ID, choose func(owner ca.ID) bool) {
	_ = s.store.do(func() {
		for _, e := range s.store.services {
			if choose(e.owner()) {
				e.own, e.teller = 0, string(to)
			}
		}
	})
}

// Announced is how many services, hidden ones too, announce themselves to this server, under "", and to each of those who
// told of theirs.
func (s *Server) Announced() map[ca.ID]int {
	out := make(map[ca.ID]int)
	_ = s.store.do(func() {
		now := time.Since(s.store.began)
		for _, e := range s.store.services {
			if e.own > now {
				out[""]++
			} else {
				out[ca.ID(e.teller)]++
			}
		}
	})
	return out
}

// Owners are who has services here, hidden ones and copies too, and how many.
func (s *Server) Owners() map[ca.ID]int {
	out := make(map[ca.ID]int)
	_ = s.store.do(func() {
		for id, o := range s.store.owned {
			out[id] = o.services
		}
	})
	return out
}

// Bodies are the services of the owners that are chosen, as they were announced, with what is left of their lives.
func (s *Server) Bodies(choose func(owner ca.ID) bool) (out []announce.Body) {
	_ = s.store.do(func() {
		now := time.Since(s.store.began)
		for _, e := range s.store.services {
			if e.expires > now && choose(e.owner()) {
				b := e.body()
				b.Lifetime = max(minLifetime, e.expires-now)
				out = append(out, b)
			}
		}
	})
	return out
}

// Reclass has the access lists as they are now hold for all that is here, at once: after it nothing is hidden any more because
// the lists came later than the services.
func (s *Server) Reclass() {
	_ = s.store.do(func() {
		s.store.checkFresh()
		s.store.reclass(slices.Sorted(maps.Keys(s.store.services)))
	})
}

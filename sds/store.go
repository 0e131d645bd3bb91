package sds

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"google.golang.org/protobuf/encoding/protowire"

	"ninja/ca"
	"ninja/sds/announce"
	"ninja/sds/index"
	"ninja/sds/packed"
)

// record is one version of a service, as the index holds it. What refreshes change is behind live; all else never changes.
type record struct {
	index.Doc
	serial    uint64 // no other record of the server has it
	version   uint64
	signature string
	live      atomic.Pointer[liveness]
}

func newRecord(b announce.Body, tree *index.Tree, serial uint64) *record {
	r := &record{serial: serial, version: b.Version, signature: string(b.Signature)}
	id := b.ID()
	r.Doc = index.Doc{ID: id, Owner: id[:len(b.Owner)], Tree: tree, Item: r}
	return r
}

// liveness is what a refresh renews; it is replaced whole.
type liveness struct {
	numbers map[string]float64
	chain   chain
	heard   time.Time // monotonic
}

// chain is an owner's certificate chain, packed as it travels; one copy serves all the services that came with it.
type chain = unique.Handle[string]

func makeChain(certificates [][]byte) chain {
	return unique.Make(string(appendChain(nil, certificates)))
}

// certificates unpacks a chain.
func certificates(c chain) (out [][]byte) {
	_ = packed.Fields([]byte(c.Value()), func(_ protowire.Number, v packed.Field) error {
		out = append(out, v.Bytes)
		return nil
	})
	return out
}

func (r *record) owner() ca.ID { return ca.ID(r.Owner) }

// name is the owner's own name for the service: the ID is both.
func (r *record) name() string { return r.ID[len(r.Owner)+1:] }

// entry is the owner goroutine's view of a service.
type entry struct {
	*record
	class   *class
	slot    uint32
	gone    bool
	expires time.Duration // since the store began, by the monotonic clock: a jump of the wall clock expires nothing
	own     time.Duration // when it would by what was heard here alone
	teller  string        // the server that told of it last; "" is none
}

// change is one service that a batch changed. A nil record is one that was not there, or is no more.
type change struct {
	id              string
	before, after   *record
	closed, visible *class // its class before and after
}

// store is the soft state. All of its fields but snapshot and log belong to the goroutine that runs it.
type store struct {
	cfg      Config
	services map[string]*entry
	owned    map[ca.ID]owner
	gone     map[string]tombstone
	expiry   deadlines
	began    time.Time
	records  uint64 // that were made
	editors  map[string]*editing
	changes  []change
	open     bool // the ACLs were fresh when last looked at
	stats    counters
	watches  *watches
	views    *views
	stamps   *stamps
	viewed   bool // a view came or went in this batch
	feeds    []*Feed
	teller   string // who tells what is being applied; "" is the owner of the service
	builders sync.WaitGroup

	commands chan command
	stopped  chan struct{}
	snapshot atomic.Pointer[snapshot]
}

// editing is a class that the present batch changes.
type editing struct {
	*class
	*index.Editor
}

// tombstone keeps a withdrawn version from coming back by a late datagram.
type tombstone struct {
	version uint64
	until   time.Time
}

// command is work for the owner goroutine; done is closed when its effects are published.
type command struct {
	apply func()
	done  chan struct{}
}

// Bounds of the store.
const (
	commandQueue   = 1024
	batchMost      = 256
	minLifetime    = time.Second
	maxLifetime    = time.Hour
	tombstoneLife  = 5 * time.Minute
	tombstonesMost = 100_000
)

func newStore(cfg Config) *store {
	s := &store{
		cfg: cfg, services: make(map[string]*entry), owned: make(map[ca.ID]owner), gone: make(map[string]tombstone),
		editors: make(map[string]*editing), commands: make(chan command, commandQueue), watches: newWatches(), stamps: new(stamps), stopped: make(chan struct{}),
	}
	s.began, s.views = time.Now(), newViews(s.stamps)
	s.open = cfg.ACLs == nil || cfg.ACLs.Fresh()
	s.snapshot.Store(emptySnapshot())
	return s
}

// run applies commands in batches and expires what is due, until ctx ends.
func (s *store) run(ctx context.Context) {
	defer s.builders.Wait()
	defer close(s.stopped)
	fresh := time.NewTicker(freshPeriod)
	defer fresh.Stop()
	due := time.NewTimer(maxLifetime)
	defer due.Stop()
	var done []chan struct{}
	for {
		done = done[:0]
		select {
		case <-ctx.Done():
			return
		case <-fresh.C:
			s.checkFresh()
			s.sweep(time.Now())
			s.viewed = s.views.forget(time.Now())
		case grants := <-s.views.wanted:
			s.makeView(ctx, grants)
		case <-due.C:
		case c := <-s.commands:
			done = s.batch(c, done)
		}
		s.expire(time.Now())
		s.publish()
		for _, d := range done {
			close(d)
		}
		if len(s.expiry) > 0 {
			due.Reset(s.expiry[0].at - time.Since(s.began))
		}
	}
}

// batch applies c and what waits behind it.
func (s *store) batch(c command, done []chan struct{}) []chan struct{} {
	for {
		c.apply()
		if done = append(done, c.done); len(done) == batchMost {
			return done
		}
		select {
		case c = <-s.commands:
		default:
			return done
		}
	}
}

// do has the owner goroutine apply f and waits until its effects are published.
func (s *store) do(f func()) error {
	c := command{f, make(chan struct{})}
	wait := time.NewTimer(commandWait)
	defer wait.Stop()
	select {
	case s.commands <- c:
	case <-s.stopped:
		return &announce.Refused{Reason: announce.ReasonFull, Detail: "the server is stopping: announce again later"}
	case <-wait.C:
		return &announce.Refused{Reason: announce.ReasonFull, Detail: "the server has too many changes waiting: announce again later"}
	}
	select {
	case <-c.done:
		return nil
	case <-s.stopped:
		return &announce.Refused{Reason: announce.ReasonFull, Detail: "the server is stopping: announce again later"}
	}
}

// commandWait is how long a change waits for its turn.
const commandWait = 5 * time.Second

// put takes a verified body whose document has been parsed.
func (s *store) put(b announce.Body, tree *index.Tree) (err error) {
	failed := s.do(func() { err = s.applyPut(b, tree, time.Now()) })
	if failed != nil {
		return failed
	}
	return err
}

func (s *store) applyPut(b announce.Body, tree *index.Tree, now time.Time) error {
	id := b.ID()
	old := s.services[id]
	if t, ok := s.gone[id]; ok && now.Before(t.until) && b.Version <= t.version {
		return &announce.Refused{Reason: announce.ReasonReplay, Detail: fmt.Sprintf("%s version %d was withdrawn: announce a newer version", id, t.version)}
	}
	live := &liveness{numbers: b.Numbers, chain: makeChain(b.Chain), heard: now}
	switch {
	case old == nil:
		if len(s.services) >= s.cfg.MaxServices || s.owned[b.Owner].services >= s.cfg.MaxPerOwner {
			return &announce.Refused{Reason: announce.ReasonFull, Detail: fmt.Sprintf("the server keeps %d services, and %d of one owner: withdraw some, or announce to another server", s.cfg.MaxServices, s.cfg.MaxPerOwner)}
		}
	case b.Version < old.version:
		return &announce.Refused{Reason: announce.ReasonReplay, Detail: fmt.Sprintf("%s version %d: version %d is known: announce a newer version", id, b.Version, old.version)}
	case b.Version == old.version && string(b.Description) != old.Tree.Source():
		return &announce.Refused{Reason: announce.ReasonReplay, Detail: fmt.Sprintf("%s version %d is known with other bytes: a changed description wants a new version", id, b.Version)}
	case b.Version == old.version:
		if len(b.Numbers) == 0 {
			live.numbers = old.live.Load().numbers
		}
		was, before := old.live.Swap(live), old.expires
		s.watches.tellNumbers(id, old.record, old.class, was.numbers, live.numbers)
		old.expires = s.due(now, b.Lifetime)
		s.heard(old, before, was.chain != live.chain)
		return nil
	}
	s.records++
	r := newRecord(b, tree, s.records)
	r.live.Store(live)
	next := s.classOf(r)
	c := change{id: r.ID, after: r, visible: next}
	e := old
	if e != nil {
		c.before, c.closed = e.record, e.class
		s.editor(e.class).Remove(e.slot)
	} else {
		s.own(b.Owner)
		e = new(entry)
		s.services[r.ID] = e
		heap.Push(&s.expiry, deadline{s.due(now, b.Lifetime), e})
	}
	before := e.expires
	e.record, e.class, e.expires = r, next, s.due(now, b.Lifetime)
	s.heard(e, before, true)
	e.slot = s.editor(next).Add(&r.Doc)
	delete(s.gone, id)
	s.changes = append(s.changes, c)
	return nil
}

// due is when a service expires that was heard of now.
func (s *store) due(now time.Time, asked time.Duration) time.Duration {
	return now.Sub(s.began) + lifetime(asked, s.cfg.Lifetime)
}

// lifetime holds what was asked for within the bounds.
func lifetime(asked, standard time.Duration) time.Duration {
	if asked <= 0 {
		return standard
	}
	return min(max(asked, minLifetime), maxLifetime)
}

func (s *store) refresh(owner ca.ID, life time.Duration, pairs []announce.Pair) (unknown []string) {
	if s.do(func() { unknown = s.applyRefresh(owner, life, pairs, time.Now()) }) != nil {
		return nil // nothing is known to be unknown: the owner refreshes again next period
	}
	return unknown
}

func (s *store) applyRefresh(owner ca.ID, life time.Duration, pairs []announce.Pair, now time.Time) (unknown []string) {
	for _, p := range pairs {
		e := s.services[string(owner)+"#"+p.Name]
		if e == nil || e.version != p.Version {
			unknown = append(unknown, p.Name)
			continue
		}
		old, before := e.live.Load(), e.expires
		e.live.Store(&liveness{numbers: p.Numbers, chain: old.chain, heard: now})
		s.watches.tellNumbers(string(owner)+"#"+p.Name, e.record, e.class, old.numbers, p.Numbers)
		e.expires = s.due(now, life)
		s.heard(e, before, false)
	}
	return unknown
}

func (s *store) withdraw(owner ca.ID, name string, version uint64) {
	_ = s.do(func() { s.applyWithdraw(owner, name, version) })
}

func (s *store) applyWithdraw(owner ca.ID, name string, version uint64) {
	id := string(owner) + "#" + name
	e := s.services[id]
	if e != nil && e.version > version || e == nil && s.gone[id].version >= version {
		return // known
	}
	if len(s.gone) < tombstonesMost {
		s.gone[id] = tombstone{version, time.Now().Add(tombstoneLife)}
	}
	s.ended(Withdrawn{owner, name, version})
	if e != nil {
		s.remove(id, e)
	}
}

func (s *store) remove(id string, e *entry) {
	s.editor(e.class).Remove(e.slot)
	delete(s.services, id)
	e.gone = true
	s.disown(e.owner())
	s.changes = append(s.changes, change{id: id, before: e.record, closed: e.class})
}

// expire removes what was not refreshed in time.
func (s *store) expire(now time.Time) {
	at := now.Sub(s.began)
	for len(s.expiry) > 0 && s.expiry[0].at <= at {
		switch e := s.expiry[0].entry; {
		case e.gone: // withdrawn meanwhile
			heap.Pop(&s.expiry)
		case e.expires > at: // refreshed meanwhile: due later
			s.expiry[0].at = e.expires
			heap.Fix(&s.expiry, 0)
		default:
			heap.Pop(&s.expiry)
			s.stats.expired.Add(1)
			s.remove(e.ID, e)
		}
	}
}

// sweep forgets old withdrawals.
func (s *store) sweep(now time.Time) {
	for id, t := range s.gone {
		if !now.Before(t.until) {
			delete(s.gone, id)
		}
	}
}

// editor is the class's editor in the present batch.
func (s *store) editor(c *class) *editing {
	e := s.editors[c.key]
	if e == nil {
		e = &editing{c, s.snapshot.Load().class(c).Edit()}
		s.editors[c.key] = e
	}
	return e
}

// publish makes the batch visible.
func (s *store) publish() {
	next := s.snapshot.Load()
	if len(s.changes) > 0 {
		next = next.with(s.editors, s.stamps)
		clear(s.editors)
		s.stats.services.Store(int64(len(s.services)))
	}
	if len(s.changes) > 0 || s.viewed {
		next = &snapshot{next.doors, s.views.follow(s.changes, next.views, s.viewed)}
		s.snapshot.Store(next)
		s.viewed = false
	}
	s.watches.told(s.changes, next)
	s.changes = nil
}

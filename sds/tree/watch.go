package tree

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"ninja/ca"
	"ninja/sds/route"
	"ninja/sds/sdspb"
	"ninja/sds/tree/treepb"
)

// standing is a question that stands (a watch): placed here and in the branches that can match, and placed anew as
// summaries and links change. The goroutine of run owns it; each branch has a goroutine that passes on what comes.
type standing struct {
	*inquiry
	tell   func(*treepb.Answer) error // may be called by several goroutines
	placed map[place]*placement
	ended  chan *placement // placements whose branch is lost
	parts  sync.WaitGroup

	mu      sync.Mutex
	waiting map[*placement]bool // not settled yet; nil is this server itself
	settled bool
}

// place is a neighbour in a hierarchy.
type place struct {
	id        ca.ID
	hierarchy string
}

// placement is the question as it stands in one branch.
type placement struct {
	place
	cancel context.CancelFunc

	mu   sync.Mutex
	told map[string]bool // servers behind it that have told something
}

// heard notes servers that have told something.
func (p *placement) heard(servers ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range servers {
		p.told[s] = true
	}
}

// tellers are the servers that have told something.
func (p *placement) tellers() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.told)
}

// doubt is how long a server that told something before may take to tell it again through a new link.
const doubt = 5 // periods

// watch lets a question stand until ctx ends.
func (n *Node) watch(ctx context.Context, from origin, a *treepb.Ask, tell func(*treepb.Answer) error) error {
	q, err := n.inquiry(from, a)
	if err != nil {
		return err
	}
	query := [16]byte(a.GetQuery())
	if _, twice := n.standing.LoadOrStore(query, true); twice {
		return errors.New("the question stands here already, by way of another hierarchy")
	}
	defer n.standing.Delete(query)
	w := &standing{inquiry: q, tell: tell, placed: make(map[place]*placement), ended: make(chan *placement), waiting: map[*placement]bool{nil: true}}
	ctx, cancel := context.WithCancel(ctx)
	defer w.parts.Wait()
	defer cancel()
	failed := make(chan error, 1)
	w.parts.Go(func() { failed <- w.here(ctx) })
	lost := make(map[place]map[string]bool) // servers that told something through a link that is gone
	period := time.NewTicker(max(n.cfg.Period/2, 10*time.Millisecond))
	defer period.Stop()
	for {
		if err := w.replace(ctx, lost); err != nil {
			return err
		}
		select {
		case p := <-w.ended:
			if w.placed[p.place] == p {
				delete(w.placed, p.place)
				lost[p.place] = p.tellers()
				if err := w.tellLost(p); err != nil {
					return err
				}
			}
		case <-period.C: // links and summaries change no faster
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// here tells what this server has.
func (w *standing) here(ctx context.Context) error {
	self := string(w.self)
	peer, token := ca.Peer{ID: w.from.id}, []byte(nil)
	if w.from.client != nil {
		peer, token = *w.from.client, w.ask.GetCapability()
	}
	begun := false
	return w.cfg.Local.WatchAs(ctx, peer, token, w.question.local, func(e *sdspb.WatchEvent) error {
		m := &treepb.Answer{}
		if !begun {
			begun = true
			m.Begun = []string{self}
		}
		f := e.GetFound()
		switch e.GetKind() {
		case sdspb.WatchEvent_KIND_ENTER, sdspb.WatchEvent_KIND_CHANGE:
			m.Hits = []*treepb.Hit{{Found: f, Server: self}}
		case sdspb.WatchEvent_KIND_LEAVE:
			m.Gone = []*treepb.Gone{{Server: self, Owner: f.GetOwner(), Name: f.GetName()}}
		case sdspb.WatchEvent_KIND_RESYNC:
			m.Begun = []string{self}
		case sdspb.WatchEvent_KIND_SYNCED:
			m.Synced = []string{self}
		}
		if err := w.tell(m); err != nil {
			return err
		}
		if e.GetKind() == sdspb.WatchEvent_KIND_SYNCED {
			return w.settle(nil)
		}
		return nil
	})
}

// settle notes that a branch, or nil for this server, has told all; when all have, that is told.
func (w *standing) settle(p *placement) error {
	w.mu.Lock()
	delete(w.waiting, p)
	done := len(w.waiting) == 0 && !w.settled
	w.settled = w.settled || done
	w.mu.Unlock()
	if !done {
		return nil
	}
	return w.tell(&treepb.Answer{Settled: true})
}

// replace places the question where it can match and is not placed, and takes it from where it can match no more.
func (w *standing) replace(ctx context.Context, lost map[place]map[string]bool) error {
	a := w.arrivalOf(timeMost)
	who, branches := w.neighbours(w.ask.GetHierarchy())
	d := route.Decide(w.self, branches, a)
	departed := w.departed(who, lost)
	wanted := make(map[place]bool)
	for _, s := range d.Steps {
		nb := who[s.Branch]
		at := place{nb.id, nb.hierarchy}
		wanted[at] = true
		if w.placed[at] == nil {
			if before := departed[at.hierarchy]; nb.up && before != nil { // most may be behind the new parent too
				maps.Copy(before, lost[at])
				lost[at] = before
				delete(departed, at.hierarchy)
			}
			w.place(ctx, nb, s, lost[at])
			delete(lost, at)
		}
	}
	for _, servers := range departed {
		if err := w.void(servers); err != nil {
			return err
		}
	}
	reachable := make(map[place]bool)
	for i, nb := range who {
		if branches[i].Alive {
			reachable[place{nb.id, nb.hierarchy}] = true
		}
	}
	for at, p := range w.placed {
		if wanted[at] || !reachable[at] {
			continue
		}
		p.cancel() // its goroutine ends by itself
		delete(w.placed, at)
		if err := w.void(p.tellers()); err != nil {
			return err
		}
	}
	return w.retire()
}

// retire settles placements that were waited for and stand no more.
func (w *standing) retire() (err error) {
	var gone []*placement
	w.mu.Lock()
	for p := range w.waiting {
		if p != nil && w.placed[p.place] != p {
			gone = append(gone, p)
		}
	}
	w.mu.Unlock()
	for _, p := range gone {
		err = errors.Join(err, w.settle(p))
	}
	return err
}

// void says that nothing that the servers told holds any more.
func (w *standing) void(servers map[string]bool) error {
	if len(servers) == 0 {
		return nil
	}
	all := slices.Sorted(maps.Keys(servers))
	return w.tell(&treepb.Answer{Begun: all, Synced: all})
}

// tellLost says that a branch is out of reach: what it told may hold or not.
func (w *standing) tellLost(p *placement) error {
	o := route.Outcome{Server: p.id, Via: w.self, Hierarchy: p.hierarchy, Status: route.Unreachable}
	return w.tell(&treepb.Answer{Outcomes: []*treepb.Outcome{outcomeMessage(o)}})
}

// place has the question stand in a branch. before are the servers that told something there through an earlier link:
// which of them does not tell it again in a while does not have it any more.
func (w *standing) place(ctx context.Context, nb *neighbour, s route.Step, before map[string]bool) {
	ctx, cancel := context.WithCancel(ctx)
	p := &placement{place: place{nb.id, nb.hierarchy}, cancel: cancel, told: maps.Clone(before)}
	if p.told == nil {
		p.told = make(map[string]bool)
	}
	w.placed[p.place] = p
	w.mu.Lock()
	if !w.settled {
		w.waiting[p] = true
	}
	w.mu.Unlock()
	a := w.onwardAsk(s, nb)
	a.Watch, a.TimeoutMs = true, 0
	w.parts.Go(func() {
		defer cancel()
		_ = w.listen(ctx, nb, p, a, before) // why does not matter: it is placed again when the branch is there
		select {
		case w.ended <- p:
		case <-ctx.Done():
		}
	})
}

// listen passes on what comes from a branch.
func (w *standing) listen(ctx context.Context, nb *neighbour, p *placement, a *treepb.Ask, before map[string]bool) error {
	answers, err := nb.stream.ask(a)
	if err != nil {
		return err
	}
	defer answers.done()
	var late <-chan time.Time
	doubted := maps.Clone(before)
	if len(doubted) > 0 {
		if err := w.tell(&treepb.Answer{Begun: slices.Sorted(maps.Keys(doubted))}); err != nil {
			return err
		}
		timer := time.NewTimer(doubt * w.cfg.Period)
		defer timer.Stop()
		late = timer.C
	}
	for {
		for {
			packed, ended := answers.next()
			if ended {
				return errLinkLost
			}
			if packed == nil {
				break
			}
			if err := w.heard(nb, p, packed, doubted); err != nil {
				return err
			}
		}
		select {
		case <-answers.ready:
		case <-late:
			if len(doubted) > 0 {
				if err := w.tell(&treepb.Answer{Synced: slices.Sorted(maps.Keys(doubted))}); err != nil {
					return err
				}
			}
			late = nil
		case <-nb.stream.ctx.Done():
			return errLinkLost
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// heard passes on one answer of a branch.
func (w *standing) heard(nb *neighbour, p *placement, packed *answer, doubted map[string]bool) error {
	if packed.last {
		return errLinkLost
	}
	m, err := packed.message()
	if err != nil {
		return err
	}
	p.heard(m.GetBegun()...)
	p.heard(m.GetSynced()...)
	for _, s := range m.GetBegun() {
		delete(doubted, s)
	}
	for _, o := range m.GetOutcomes() {
		if o.GetServer() == string(nb.id) && o.GetVia() == o.GetServer() {
			o.Via, o.Up, o.Hierarchy = string(w.self), nb.up, nb.hierarchy
		}
	}
	settled := m.GetSettled()
	m.Settled = false
	if err := w.tell(m); err != nil || !settled {
		return err
	}
	return w.settle(p)
}

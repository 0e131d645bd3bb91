package apc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"ninja/capability"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/sds"
)

// Follower follows a query with the rights of whatever capability token gives when it connects, again and again, and
// calls f as sds.Client.Watch does. It returns when ctx ends, when token fails, or when the server refuses the query.
type Follower func(ctx context.Context, token func(context.Context) ([]byte, error), q sds.Query, f func(sds.WatchEvent)) error

// Times of views.
const (
	// coldWait is how long a request waits for a watch to get in step before it asks by queries.
	coldWait = time.Second
	// freshFor is how old the named numbers of a plan may be that a watch does not tell, for only loads are followed by
	// name: the others are refreshed by queries.
	freshFor = time.Second
	// again is how long a watch that ended waits before the next; twice as long, up to againMost, after one that never
	// got in step.
	again     = time.Second
	againMost = time.Minute
)

// rights is the same for capabilities that the SDS answers alike: of equal grants and templates. Everything that is
// computed for an asker is kept under it, and for nobody else.
func rights(c capability.Claims) string {
	grants := slices.Clone(c.Grants)
	slices.Sort(grants)
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d", slices.Compact(grants), c.Templates, c.Ops&capability.Find)
	return hex.EncodeToString(h.Sum(nil))
}

// live is a view and, when it is watched, what keeps it up to date. Views without a watch serve one request.
type live struct {
	key string // of caches; "" when nothing is to be cached

	mu      sync.Mutex
	view    *view
	inStep  bool
	heard   map[string]bool // since a watch began anew; nil when in step
	changed chan struct{}   // closed, and made anew, when inStep turns
	token   []byte          // the one that lives longest of those seen
	expires time.Time
	used    time.Time
	asked   map[string]time.Time // when the numbers of a question were refreshed
	stop    context.CancelFunc
	behind  int                // refreshes in a row that the watch had not told what a query found
	anew    context.CancelFunc // ends the present watch, so that another begins
}

// see returns what an asker may see: the view of those with the same rights when it is in step, else what queries find.
func (c *Creator) see(ctx context.Context, token []byte, claims capability.Claims, words []word) (*live, error) {
	if l := c.watched(token, claims); l != nil && l.wait(ctx) {
		if agrees, err := c.refresh(ctx, l, token, words); err != nil {
			return nil, err
		} else if agrees {
			return l, nil
		}
	}
	v, err := c.query(ctx, token, words)
	if err != nil {
		return nil, err
	}
	return &live{view: v}, nil
}

// watched returns the view of these rights, and begins to watch it if nothing does; nil when there may be no more.
func (c *Creator) watched(token []byte, claims capability.Claims) *live {
	if c.cfg.Follow == nil {
		return nil
	}
	now, key := c.cfg.World.Now(), rights(claims)
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.views[key]
	if l == nil {
		if c.live == nil || c.live.Err() != nil || !c.room(now) {
			return nil
		}
		l = &live{key: key, view: newView(c.learned.cost), changed: make(chan struct{}), asked: make(map[string]time.Time)}
		var ctx context.Context
		ctx, l.stop = context.WithCancel(c.live)
		c.views[key] = l
		l.token, l.expires, l.used = token, claims.Expires, now
		c.kept.Go(func() { c.follow(ctx, l) })
		return l
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = now
	if !l.inStep || claims.Expires.After(l.expires) { // out of step, the old one may have been revoked
		l.token, l.expires = token, claims.Expires
	}
	return l
}

// room says whether there may be one more view; the one that was longest unused goes, if it was unused for a while.
func (c *Creator) room(now time.Time) bool {
	if len(c.views) < c.cfg.MaxViews {
		return true
	}
	var oldest *live
	for _, l := range c.views {
		if oldest == nil || l.lastUsed().Before(oldest.lastUsed()) {
			oldest = l
		}
	}
	if now.Sub(oldest.lastUsed()) < leastUse {
		return false
	}
	oldest.stop()
	delete(c.views, oldest.key)
	return true
}

// leastUse is how long a view is kept after its last use, whoever else wants its place: else two askers more than there
// is room for would have each begin anew again and again.
const leastUse = 10 * time.Second

func (l *live) lastUsed() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// errLapsed holds a watch back until somebody asks with a capability that lives longer.
var errLapsed = errors.New("the capabilities that the view was asked for with have lapsed")

// follow keeps a view up to date until it was unused for the idle time.
func (c *Creator) follow(ctx context.Context, l *live) {
	defer l.stop()
	defer c.forget(l)
	c.kept.Go(func() { c.endIdle(ctx, l) })
	for wait := again; ctx.Err() == nil; wait = min(2*wait, againMost) {
		once, cancel := context.WithCancel(ctx)
		l.begin(cancel)
		err := c.cfg.Follow(once, l.present(c.cfg.World), watchQuery(), func(e sds.WatchEvent) { c.hear(l, e) })
		cancel()
		if l.turn(false); l.begun() || errors.Is(err, errLapsed) { // nobody was asked
			wait = again
		}
		c.cfg.Log.Debug("the watch of a view ended", "error", err)
		if world.Sleep(ctx, c.cfg.World.Jitter(wait)) != nil {
			return
		}
	}
}

// endIdle stops a view that nobody asks for.
func (c *Creator) endIdle(ctx context.Context, l *live) {
	for {
		left := c.cfg.Idle - c.cfg.World.Now().Sub(l.lastUsed())
		if left <= 0 {
			l.stop()
			return
		}
		if world.Sleep(ctx, left) != nil {
			return
		}
	}
}

func (c *Creator) forget(l *live) {
	l.turn(false)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.views[l.key] == l {
		delete(c.views, l.key)
	}
}

// watchQuery is what a view follows: all that watchTemplate matches, and the loads of it.
func watchQuery() sds.Query {
	return sds.Query{Template: watchTemplate(), Steps: map[string]float64{"load": loadStep}}
}

// watchTemplate matches everything that says where it runs.
func watchTemplate() []byte {
	return []byte(`<service xmlns="` + operators.Namespace + `"><node/></service>`)
}

// present gives the capability to connect with. That it is called says that the last connection is gone: until all has
// been told again, the view is not in step.
func (l *live) present(w world.World) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		l.turn(false)
		l.mu.Lock()
		defer l.mu.Unlock()
		if !w.Now().Before(l.expires) {
			return nil, errLapsed
		}
		return l.token, nil
	}
}

// begin notes that a watch begins that remembers nothing of the last one: what it does not tell is gone.
func (l *live) begin(anew context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard, l.anew = make(map[string]bool), anew
}

// begun reports whether the watch has got in step since it began.
func (l *live) begun() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard == nil
}

// hear takes in one event of the watch.
func (c *Creator) hear(l *live, e sds.WatchEvent) {
	if e.Kind == sds.Synced {
		l.synced()
		l.turn(true)
		return
	}
	var t *thing
	if e.Kind != sds.Leave {
		t = c.thing(e.Found)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t == nil {
		l.view.drop(e.Found.ID)
		return
	}
	if l.heard != nil {
		l.heard[t.ID] = true
	}
	if old := l.view.things[t.ID]; old != nil && old.Version == t.Version {
		l.view.numbers(t.ID, t.Numbers)
		return
	}
	l.view.put(t)
}

func (l *live) synced() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard != nil {
		for id := range l.view.things {
			if !l.heard[id] {
				l.view.drop(id)
			}
		}
	}
	l.heard = nil
	l.view.measure()
}

// turn notes whether the view is in step.
func (l *live) turn(inStep bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inStep != inStep {
		l.inStep = inStep
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// wait waits for a while for the view to be in step, and says whether it is.
func (l *live) wait(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, coldWait)
	defer cancel()
	for {
		l.mu.Lock()
		inStep, changed := l.inStep, l.changed
		l.mu.Unlock()
		if inStep {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// refresh brings the named numbers of proxies and of what the words mean up to date. It asks with the asker's own
// capability, so that no plan is made without the SDS having seen, within freshFor, that somebody of these rights may ask.
// It reports whether the view holds what the queries found: a watch can be silent because it is cut off.
func (c *Creator) refresh(ctx context.Context, l *live, token []byte, words []word) (agrees bool, err error) {
	questions := []sds.Query{{Template: Template(operators.KindProxy, "")}}
	for i := range words {
		questions = append(questions, words[i].question())
	}
	now := c.cfg.World.Now()
	l.mu.Lock()
	questions = slices.DeleteFunc(questions, func(q sds.Query) bool { return now.Sub(l.asked[questionKey(q)]) < freshFor })
	l.mu.Unlock()
	if len(questions) == 0 {
		return true, nil
	}
	agrees = true
	err = c.ask(ctx, token, questions, func(q sds.Query, found []sds.Found) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, f := range found {
			l.view.numbers(f.ID, f.Numbers)
		}
		agrees = c.told(l.view, q, found) && agrees
	})
	if err != nil {
		return false, err
	}
	l.refreshed(now, questions, agrees)
	return agrees, nil
}

// told reports whether a view holds what a query found, and of the kind or owner that it asked for nothing else.
func (c *Creator) told(v *view, q sds.Query, found []sds.Found) bool {
	known := make(map[string]bool)
	for _, f := range found {
		t := c.thing(f)
		if t == nil || t.Node == nil {
			continue // not watched
		}
		if known[f.ID] = true; v.things[f.ID] == nil || v.things[f.ID].Version != f.Version {
			return false
		}
	}
	among := v.owners[q.By]
	if q.By == "" && string(q.Template) == string(Template(operators.KindProxy, "")) {
		among = v.kinds[operators.KindProxy]
	}
	for id := range among {
		if !known[id] && len(found) < sds.MaxResults {
			return false
		}
	}
	return true
}

// maxBehind is how often in a row a view may disagree with a query before its watch begins anew.
const maxBehind = 3

// refreshed notes what a refresh found out.
func (l *live) refreshed(now time.Time, questions []sds.Query, agrees bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view.measure()
	if !agrees {
		if l.behind++; l.behind >= maxBehind && l.anew != nil {
			l.behind = 0
			l.anew()
		}
		return
	}
	l.behind = 0
	if len(l.asked) > maxAsked {
		clear(l.asked)
	}
	for _, q := range questions {
		l.asked[questionKey(q)] = now
	}
}

// maxAsked bounds what is remembered of the questions that refreshed numbers.
const maxAsked = 1000

func questionKey(q sds.Query) string {
	return strings.Join([]string{string(q.By), string(q.Template)}, " ")
}

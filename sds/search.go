package sds

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/capability"
	"ninja/sds/index"
	"ninja/sds/sdspb"
)

// rights are what a capability lets its holder find.
type rights struct {
	principal ca.ID // "" for those without a capability
	grants    []capability.Who
	extra     *index.Query // what the capability is narrowed to; nil is not
}

// equal reports whether both find the same.
func (r rights) equal(o rights) bool {
	return r.principal == o.principal && r.extra == o.extra && slices.Equal(r.grants, o.grants)
}

// publisher is whose services a question of by may still find: while the ACLs are too old to be trusted, everybody
// finds their own and nothing else, from that moment on. by is "" for anyone's; ok is false when nothing is left.
func (s *Server) publisher(r rights, by string) (owner string, ok bool) {
	if s.cfg.ACLs == nil || s.cfg.ACLs.Fresh() {
		return by, true
	}
	own := string(r.principal)
	return own, own != "" && (by == "" || by == own)
}

// public are the rights of those who show no capability that holds.
var public = rights{grants: []capability.Who{capability.Everyone}}

// holder is one peer with the capability that it shows.
type holder struct {
	peer  ca.Peer
	token []byte
	extra *index.Query // compiled from the token's templates; nil when not compiled yet, or none
}

// rights checks the holder's capability, which may have expired or been revoked since it was last looked at; the
// Verifier remembers what cannot change. With an error, what is returned are the public rights: a bad capability finds
// what everyone may find.
func (s *Server) rights(h *holder) (rights, time.Time, error) {
	if len(h.token) == 0 {
		return public, time.Time{}, nil
	}
	claims, err := s.cfg.Verifier.Verify(h.token, h.peer.Key)
	if err != nil {
		return public, time.Time{}, fmt.Errorf("the capability does not hold: %w", err)
	}
	return h.rights(claims)
}

// rights are those that verified claims give.
func (h *holder) rights(claims capability.Claims) (rights, time.Time, error) {
	if claims.Ops&capability.Find == 0 {
		return rights{}, claims.Expires, nil
	}
	if len(claims.Templates) > 0 && h.extra == nil {
		var parts []*index.Query
		for _, t := range claims.Templates {
			q, err := index.Template(t)
			if err != nil {
				return public, time.Time{}, fmt.Errorf("the capability is narrowed to what cannot be read: %w", err)
			}
			parts = append(parts, q)
		}
		h.extra = index.And(parts...)
	}
	return rights{claims.Principal, claims.Grants, h.extra}, claims.Expires, nil
}

// question is a compiled Question.
type question struct {
	asker      ca.ID
	asked      *sdspb.Question
	query      *index.Query
	by         string
	limit      int
	number     string          // order by this number, if services have it
	order      *index.Selector // else by this place; nil is by id
	descending bool
	countOnly  bool
	explain    bool
	steps      map[string]float64 // of a watch
	selected   []*index.Selector  // values that are wanted instead of descriptions
	after      *hit               // where an earlier answer ended; nil is none
}

// selectMost bounds the selected paths.
const selectMost = 16

// stepsMost bounds the numbers that a watch follows.
const stepsMost = 16

// compile checks what is asked. Errors carry codes.InvalidArgument.
func (s *Server) compile(who ca.ID, q *sdspb.Question) (*question, error) {
	if q == nil { // nothing is asked for: everything
		q = new(sdspb.Question)
	}
	out, err := compile(q)
	if err != nil {
		return nil, err
	}
	out.asker, out.asked = who, q
	if len(q.GetCursor()) > 0 {
		out.after, err = s.cursors.open(out.subject(), q.GetCursor())
	}
	return out, err
}

// subject is what the question's cursors are good for.
func (q *question) subject() []byte { return subject(q.asker, q.asked) }

func compile(q *sdspb.Question) (*question, error) {
	out := &question{by: q.GetBy(), limit: int(q.GetLimit()), descending: q.GetDescending(), countOnly: q.GetCountOnly(), explain: q.GetExplain()}
	if out.limit <= 0 || out.limit > MaxResults {
		out.limit = MaxResults
	}
	for name, step := range q.GetSteps() {
		if !(step >= 0) || len(q.GetSteps()) > stepsMost {
			return nil, status.Errorf(codes.InvalidArgument, "step %s=%g: want at most %d numbers, each with a step from 0", name, step, stepsMost)
		}
	}
	out.steps = q.GetSteps()
	var parts []*index.Query
	if len(q.GetTemplate()) > 0 {
		t, err := index.Template(q.GetTemplate())
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		parts = append(parts, t)
	}
	if q.GetXpath() != "" {
		x, err := index.XPath(q.GetXpath(), q.GetNamespaces())
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		parts = append(parts, x)
	}
	out.query = index.And(parts...)
	if n := len(q.GetSelect()); n > selectMost {
		return nil, status.Errorf(codes.InvalidArgument, "%d paths are selected, at most %d: ask for less, or for descriptions", n, selectMost)
	}
	for _, path := range q.GetSelect() {
		x, err := index.Select(path, q.GetNamespaces())
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		out.selected = append(out.selected, x)
	}
	if o := q.GetOrderBy(); o != "" {
		out.number = o
		var err error
		if out.order, err = index.Select(o, q.GetNamespaces()); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
	}
	return out, nil
}

// hit is a record that matches, with what it is ordered by.
type hit struct {
	*record
	id    string
	text  string
	value float64
	rank  int // 0: value counts, 1: text counts, 2: neither
}

// result is what a search found.
type result struct {
	sources
	hits    []hit // in order, cut to the limit
	count   int
	explain *sdspb.Explanation // nil when not asked for
}

// sources are the classes, by their stamps, and the owner that an answer came from. Whoever may still look into the same
// classes for the same owner gets the same answer, unless it is ordered by numbers.
type sources struct {
	owner  string
	some   bool     // anything could match
	stamps []uint64 // of at most sourcesMost classes
	many   bool     // there were more
}

const sourcesMost = 64

// more reports whether the limit cut the answer.
func (r *result) more(q *question) bool { return !q.countOnly && r.count > len(r.hits) }

// search answers a question of who from one snapshot, from what r may find and nothing else.
func (s *Server) search(ctx context.Context, who ca.ID, r rights, q *question) (out *result, err error) {
	failed := s.meter.pay(ctx, who, func() (used int) {
		out, used, err = s.look(ctx, r, q, index.Fuel)
		return used
	})
	if failed == nil && ctx.Err() != nil {
		failed = ctx.Err()
	}
	switch {
	case failed != nil:
		return nil, status.FromContextError(failed).Err()
	case err != nil:
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	}
	return out, nil
}

// look is a search with so much fuel, without regard to who pays for what it used of it. The error is
// index.ErrTooExpensive or that of ctx.
func (s *Server) look(ctx context.Context, r rights, q *question, most int) (_ *result, used int, _ error) {
	query := q.query
	if r.extra != nil {
		query = index.And(query, r.extra)
	}
	var out result
	if q.explain {
		out.explain = new(sdspb.Explanation)
	}
	out.owner, out.some = s.publisher(r, q.by)
	if !out.some {
		return &out, used, nil
	}
	fuel, by := most, out.owner
	defer func() { used = most - fuel }()
	take := func(d *index.Doc) bool {
		if out.count++; out.count%256 == 0 && ctx.Err() != nil {
			return false
		}
		if q.countOnly {
			return true
		}
		fuel -= d.Tree.Len() * q.paths()
		if h := q.hit(d.Item.(*record)); q.after == nil || q.compare(*q.after, h) < 0 {
			out.hits = append(out.hits, h)
		} else {
			out.count-- // told already
		}
		if len(out.hits) == 2*q.limit+1024 { // what is kept is bounded by what was asked for
			q.sort(out.hits)
			out.hits = out.hits[:q.limit]
		}
		return true
	}
	var err error
	open := s.store.look
	if q.explain { // of classes, always
		open = s.store.snapshot.Load().open
	}
	open(r.grants, func(c *index.Class) bool {
		if len(out.stamps) < sourcesMost {
			out.stamps = append(out.stamps, c.Stamp)
		} else {
			out.many = true
		}
		var effort index.Effort
		if q.byID() {
			effort, err = c.Ordered(query, by, q.from(), q.limit+1, &fuel, take)
		} else {
			effort, err = c.Search(query, by, &fuel, take)
		}
		if q.explain {
			explainClass(out.explain, c, effort, c.Explain(query, by))
		}
		if fuel < 0 {
			err = index.ErrTooExpensive
		}
		return err == nil && ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, used, err
	}
	q.sort(out.hits)
	out.hits = out.hits[:min(len(out.hits), q.limit)]
	return &out, used, nil
}

// paths is how many paths are followed in each match.
func (q *question) paths() int {
	if q.order == nil {
		return len(q.selected)
	}
	return 1 + len(q.selected)
}

// byID reports whether the first services by id are wanted and no others are of interest.
func (q *question) byID() bool { return q.order == nil && !q.countOnly && !q.explain }

// from is the id behind which services are wanted in the order of ids.
func (q *question) from() string {
	if q.after == nil {
		return ""
	}
	return q.after.id
}

// explainClass adds what one class did.
func explainClass(x *sdspb.Explanation, c *index.Class, effort index.Effort, parts []index.Part) {
	x.Classes++
	x.Services += uint64(c.Len())
	x.Verified += uint64(effort.Verified)
	x.Found += uint64(effort.Found)
	for i, p := range parts {
		if i == len(x.Parts) {
			x.Parts = append(x.Parts, &sdspb.Explanation_Part{What: p.What})
		}
		x.Parts[i].Size += uint64(p.Size)
		x.Parts[i].Opened += uint32(p.Opened)
	}
}

func (q *question) hit(r *record) hit {
	h := hit{record: r, id: r.ID, rank: 2}
	if q.order == nil {
		return h
	}
	if n, ok := r.live.Load().numbers[q.number]; ok {
		h.value, h.rank = n, 0
	} else if text, ok := q.order.ValueIn(r.Tree); ok {
		if n, ok := index.Number(text); ok {
			h.value, h.rank = n, 0
		} else {
			h.text, h.rank = text, 1
		}
	}
	return h
}

// sort puts hits in the order asked for: numbers before texts before what has neither; equals by id.
func (q *question) sort(hits []hit) {
	slices.SortFunc(hits, q.compare)
}

func (q *question) compare(a, b hit) int {
	c := cmp.Compare(a.rank, b.rank)
	if c == 0 {
		if c = cmp.Compare(a.value, b.value); c == 0 {
			c = strings.Compare(a.text, b.text)
		}
		if q.descending {
			c = -c
		}
	}
	if c == 0 {
		c = strings.Compare(a.id, b.id)
	}
	return c
}

// message is what travels of a record that was found: all of it, or what was selected.
func (q *question) message(r *record, now time.Time) *sdspb.Found {
	m := r.message(now)
	if q.selected == nil {
		return m
	}
	m.Description, m.Signature, m.Chain = nil, nil, nil
	for _, s := range q.selected {
		m.Values = append(m.Values, &sdspb.Values{Value: s.ValuesIn(r.Tree)})
	}
	return m
}

// message is how a record travels.
func (r *record) message(now time.Time) *sdspb.Found {
	live := r.live.Load()
	return &sdspb.Found{
		Owner: r.Owner, Name: r.name(), Version: r.version, Description: []byte(r.Tree.Source()), Signature: []byte(r.signature),
		Chain: certificates(live.chain), Numbers: live.numbers, AgeMs: uint64(max(0, now.Sub(live.heard)).Milliseconds()),
	}
}

// messageSize is about how many bytes a found service takes in a message.
func messageSize(f *sdspb.Found) int {
	n := len(f.Owner) + len(f.Name) + len(f.Description) + len(f.Signature) + 32 + 48*len(f.Numbers)
	for _, c := range f.Chain {
		n += len(c) + 4
	}
	for _, v := range f.Values {
		for _, s := range v.Value {
			n += len(s) + 4
		}
	}
	return n
}

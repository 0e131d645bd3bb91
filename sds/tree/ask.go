package tree

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/sds"
	"ninja/sds/route"
	"ninja/sds/summary"
	"ninja/sds/tree/treepb"
)

// origin is where a question came from: a neighbour, or a client.
type origin struct {
	id     ca.ID
	up     bool // the neighbour is the parent
	client *ca.Peer
}

// emit is how answers to a question leave; it numbers them. It may be called by several goroutines.
type emit func(*treepb.Answer) error

func (s *stream) emit(a *treepb.Ask) emit {
	return func(m *treepb.Answer) error {
		m.Id = a.GetId()
		return s.put(&treepb.Frame{Kind: &treepb.Frame_Answer{Answer: m}})
	}
}

// inquiry is one question as it is being answered here.
type inquiry struct {
	*Node
	ctx      context.Context // of the question, for the searches that it makes
	ask      *treepb.Ask
	question *question
	routed   *summary.Question // with the asker's narrowing and tokens
	asker    sds.Asker
	from     origin
	want     route.Want
	tell     emit

	mu    sync.Mutex
	found int // hits told so far
}

// answer answers a question: here, and by those that it goes on to. What is found is told as it comes; the last answer
// says what became of the branches.
func (n *Node) answer(ctx context.Context, from origin, a *treepb.Ask, tell emit) error {
	q, err := n.inquiry(ctx, from, a, tell)
	if err != nil {
		return err
	}
	if a.GetWatch() {
		return status.Error(codes.InvalidArgument, "a question that stands goes by another way")
	}
	if len(a.GetWay()) > 0 {
		return q.pass(ctx)
	}
	who, branches := n.neighbours(a.GetHierarchy())
	d := route.Decide(n.self, branches, q.arrival(ctx))
	steps := d.Steps[:0:0]
	for _, s := range d.Steps {
		if nb := who[s.Branch]; !nb.up && nb.account.barred() {
			d.Outcomes = append(d.Outcomes, q.outcome(nb, route.Flagged))
			continue
		}
		steps = append(steps, s)
	}
	last := &treepb.Answer{Last: true}
	for _, o := range d.Outcomes {
		last.Outcomes = append(last.Outcomes, outcomeMessage(o))
	}
	if d.Search {
		o, err := q.search(len(steps) == 0, last)
		if err != nil {
			return err
		}
		last.Outcomes = append(last.Outcomes, o)
	}
	q.onward(ctx, steps, who, last)
	return tell(last)
}

// inquiry reads a question.
func (n *Node) inquiry(ctx context.Context, from origin, a *treepb.Ask, tell emit) (*inquiry, error) {
	question, err := n.known.of(a.GetQuestion())
	if err != nil {
		return nil, err
	}
	if len(a.GetQuery()) != 16 || a.GetScope() > uint32(route.All) || a.GetWant() > uint32(route.Best) || len(a.GetTokens()) > tokensMost || len(a.GetWay()) > route.HopsMost {
		return nil, status.Error(codes.InvalidArgument, "a question without a name of 16 bytes, or of an unknown scope, or of too many tokens or servers on its way")
	}
	q := &inquiry{Node: n, ctx: ctx, ask: a, question: question, routed: question.routed, from: from, want: route.Want(a.GetWant()), tell: tell}
	if from.client != nil {
		q.askedBy(*from.client)
		return q, nil
	}
	if q.asker, err = sds.Narrowed(from.id, a.GetNarrowed()); err != nil {
		return nil, err
	}
	if len(a.GetTokens()) > 0 || len(a.GetNarrowed()) > 0 {
		tokens := make([]summary.Term, len(a.GetTokens()))
		for i, t := range a.GetTokens() {
			tokens[i] = summary.Term(t)
		}
		q.route(tokens)
	}
	return q, nil
}

// askedBy has the question be answered on behalf of a client, whose first server this is.
func (q *inquiry) askedBy(client ca.Peer) {
	var narrow error
	if q.asker, narrow = q.cfg.Local.Asks(client, q.ask.GetCapability()); narrow != nil {
		q.cfg.Log.Debug("asks as anyone", "client", client.ID, "error", narrow)
	}
	q.ask.Tokens, q.ask.Narrowed = nil, q.asker.Templates
	if !q.asker.Secret() { // it was revoked, say: elsewhere that is not known yet
		q.ask.Proof = nil
	}
	tokens := q.tokens(q.asker)
	for _, t := range tokens {
		q.ask.Tokens = append(q.ask.Tokens, uint64(t))
	}
	if len(tokens) > 0 || len(q.asker.Templates) > 0 {
		q.route(tokens)
	}
	if q.asker.Nothing() { // there is nothing to ask others for
		q.ask.Scope = uint32(route.Local)
	}
	for _, h := range q.all() {
		select {
		case h.wishes <- q.routed:
		default: // a sample will do
		}
	}
}

// route has the question be routed by what the asker may find.
func (q *inquiry) route(tokens []summary.Term) {
	if len(q.asker.Templates) == 0 {
		q.routed = q.routed.With(tokens)
		return
	}
	q.routed = summary.Ask(q.question.local.Needs(q.asker), tokens...)
}

// arrival is the question as package route sees it.
func (q *inquiry) arrival(ctx context.Context) route.Arrival {
	left := timeoutOf(q.ask)
	if end, ok := ctx.Deadline(); ok {
		left = time.Until(end)
	}
	out := q.arrivalOf(left)
	out.Seen = q.seen.before([16]byte(q.ask.GetQuery()))
	return out
}

// arrivalOf is arrival with so much time left, of a question that was not here before.
func (q *inquiry) arrivalOf(left time.Duration) route.Arrival {
	a := q.ask
	out := route.Arrival{
		Question: q.routed, Scope: route.Scope(a.GetScope()), Want: q.want, Hierarchy: a.GetHierarchy(), Domain: a.GetDomain(),
		Hops: int(min(a.GetHops(), route.HopsMost)), Left: left, Fanout: int(min(a.GetFanout(), route.FanoutMost)),
	}
	if q.from.client != nil {
		out.Domain, out.Hops, out.Hierarchy = q.self.Domain(), route.HopsMost, ""
	} else {
		out.From, out.FromUp = q.from.id, q.from.up
	}
	return out
}

// search answers from what this server has. What fits goes with the last answer when that comes at once.
func (q *inquiry) search(atOnce bool, last *treepb.Answer) (*treepb.Outcome, error) {
	begun := time.Now()
	hits, err := q.cfg.Local.Look(q.ctx, q.asker, q.question.local)
	if err != nil {
		return nil, err
	}
	if err := q.tellHits(hits, atOnce, last); err != nil {
		return nil, err
	}
	o := &treepb.Outcome{
		Server: string(q.self), Via: string(q.self), Hierarchy: q.ask.GetHierarchy(), Status: uint32(route.Searched), Found: uint32(len(hits)),
	}
	if q.from.client == nil {
		sealed, hidden, err := q.secrets(hits)
		if err != nil {
			return nil, status.Error(codes.PermissionDenied, err.Error())
		}
		for _, s := range sealed {
			if err := q.tell(&treepb.Answer{Sealed: []*treepb.Sealed{s}}); err != nil {
				return nil, err
			}
		}
		o.Hidden = hidden
	}
	o.TookUs = uint64(time.Since(begun).Microseconds())
	return o, nil
}

// answerSize is how many bytes of hits travel in one frame.
const answerSize = 256 << 10

func (q *inquiry) tellHits(hits []sds.Hit, atOnce bool, last *treepb.Answer) error {
	m, size := &treepb.Answer{}, 0
	for _, x := range hits {
		if size += len(x.Found.GetDescription()) + 1024; size > answerSize {
			if err := q.tell(m); err != nil {
				return err
			}
			m, size = &treepb.Answer{}, 0
		}
		m.Hits = append(m.Hits, hitMessage(x, q.self))
	}
	q.count(len(hits))
	if len(m.Hits) == 0 {
		return nil
	}
	if atOnce {
		last.Hits = m.Hits
		return nil
	}
	return q.tell(m)
}

func hitMessage(x sds.Hit, server ca.ID) *treepb.Hit {
	return &treepb.Hit{Found: x.Found, Rank: uint32(x.Rank), Value: x.Value, Text: x.Text, Server: string(server)}
}

func (q *inquiry) count(hits int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.found += hits
}

// enough reports whether the first that are wanted have been found.
func (q *inquiry) enough() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.want == route.First && q.found >= q.question.local.Limit
}

// onward asks the branches, phase by phase while something is wanted still. last gets what became of those that did not
// answer, and what a branch told last that nobody else is waited for with.
func (q *inquiry) onward(ctx context.Context, steps []route.Step, who []*neighbour, last *treepb.Answer) {
	for phase := 0; len(steps) > 0; phase++ {
		var now, later []route.Step
		for _, s := range steps {
			if s.Phase == phase {
				now = append(now, s)
			} else {
				later = append(later, s)
			}
		}
		steps = later
		switch {
		case q.enough():
			for _, s := range now {
				last.Outcomes = append(last.Outcomes, outcomeMessage(q.outcome(who[s.Branch], route.Unneeded)))
			}
		case len(now) == 1 && len(later) == 0: // nobody else to wait for: no goroutine, and one frame less
			if o := q.forward(ctx, now[0], who[now[0].Branch], last); o != nil {
				last.Outcomes = append(last.Outcomes, o)
			}
		default:
			last.Outcomes = append(last.Outcomes, q.together(ctx, now, who)...)
		}
	}
}

// together asks branches at the same time.
func (q *inquiry) together(ctx context.Context, steps []route.Step, who []*neighbour) (failed []*treepb.Outcome) {
	out := make([]*treepb.Outcome, len(steps))
	var all sync.WaitGroup
	for i, s := range steps {
		all.Go(func() { out[i] = q.forward(ctx, s, who[s.Branch], nil) })
	}
	all.Wait()
	for _, o := range out {
		if o != nil {
			failed = append(failed, o)
		}
	}
	return failed
}

// forward asks one branch and passes on what it answers, its last answer into last unless that is nil; it returns what
// went wrong, if anything.
func (q *inquiry) forward(ctx context.Context, s route.Step, nb *neighbour, last *treepb.Answer) *treepb.Outcome {
	ctx, cancel := context.WithTimeout(ctx, s.Left)
	defer cancel()
	begun := time.Now()
	hits, err := q.relay(ctx, nb, q.onwardAsk(s, nb), last)
	became := statusOf(ctx, err)
	if !nb.up && became != route.Unreachable && became != route.Unneeded {
		// Who lets others wait owes an answer whatever its summary says.
		nb.account.note(hits > 0, err != nil || nb.table.AnswersFor(q.routed))
	}
	if err == nil {
		return nil
	}
	o := q.outcome(nb, became)
	o.Took = time.Since(begun)
	if o.Status == route.Failed {
		o.Detail = status.Convert(err).Message()
	}
	return outcomeMessage(o)
}

// errLinkLost is a link that broke while an answer was awaited.
var errLinkLost = errors.New("the link broke")

func statusOf(ctx context.Context, err error) route.Status {
	if err == nil {
		return route.Searched
	}
	switch code := status.Code(err); {
	case errors.Is(err, errLinkLost) || code == codes.Unavailable:
		return route.Unreachable
	case errors.Is(err, errEnough):
		return route.Unneeded
	case ctx.Err() != nil || code == codes.DeadlineExceeded || code == codes.Canceled:
		return route.Late
	}
	return route.Failed
}

// onwardAsk is the question as the next server gets it: what it needs to route, not the capability.
func (q *inquiry) onwardAsk(s route.Step, nb *neighbour) *treepb.Ask {
	a := q.ask
	domain := a.GetDomain()
	if q.from.client != nil {
		domain = q.self.Domain()
	}
	return &treepb.Ask{
		Query: a.GetQuery(), Question: a.GetQuestion(), Scope: a.GetScope(), Want: a.GetWant(), Hierarchy: nb.hierarchy, Domain: domain,
		Hops: uint32(s.Hops), TimeoutMs: uint32(max(1, s.Left.Milliseconds())), Fanout: a.GetFanout(), Tokens: a.GetTokens(), Proof: a.GetProof(), Narrowed: a.GetNarrowed(),
	}
}

// errEnough is a branch whose answer was not waited for.
var errEnough = errors.New("enough was found")

// relay asks a neighbour and passes on what it answers; what it answers last goes into last unless that is nil.
func (q *inquiry) relay(ctx context.Context, nb *neighbour, a *treepb.Ask, last *treepb.Answer) (hits int, err error) {
	answers, done, err := nb.stream.ask(ctx, a)
	if err != nil {
		return 0, errLinkLost
	}
	defer done()
	for {
		select {
		case m, ok := <-answers:
			if !ok {
				return hits, context.DeadlineExceeded
			}
			hits += len(m.GetHits()) + len(m.GetSealed())
			q.count(len(m.GetHits()))
			q.attribute(nb, m.GetOutcomes())
			ended, err := q.passOn(m, last)
			switch {
			case ended || err != nil:
				return hits, err
			case q.enough():
				return hits, errEnough
			}
		case <-ctx.Done():
			return hits, ctx.Err()
		case <-nb.stream.ctx.Done():
			return hits, errLinkLost
		}
	}
}

// passOn passes on one answer of a neighbour, and reports whether it was the last.
func (q *inquiry) passOn(m, last *treepb.Answer) (ended bool, err error) {
	ended = m.GetLast()
	if ended && m.GetCode() != 0 {
		err = status.Error(codes.Code(m.GetCode()), m.GetError())
	}
	if ended && last != nil {
		last.Hits, last.Sealed = append(last.Hits, m.GetHits()...), append(last.Sealed, m.GetSealed()...)
		last.Outcomes = append(last.Outcomes, m.GetOutcomes()...)
		return true, err
	}
	if empty(m) {
		return ended, err
	}
	m.Last, m.Code, m.Error = false, 0, ""
	if told := q.tell(m); told != nil {
		return ended, told
	}
	return ended, err
}

// empty reports whether an answer says nothing.
func empty(m *treepb.Answer) bool {
	return len(m.GetHits())+len(m.GetOutcomes())+len(m.GetSealed())+len(m.GetGone())+len(m.GetSynced())+len(m.GetBegun()) == 0
}

// attribute says of what a neighbour did itself how it was reached, and how old the summary was that led there.
func (q *inquiry) attribute(nb *neighbour, outcomes []*treepb.Outcome) {
	for _, o := range outcomes {
		if o.GetServer() == string(nb.id) && o.GetVia() == o.GetServer() {
			o.Via, o.Up, o.Hierarchy = string(q.self), nb.up, nb.hierarchy
			o.AgeMs = uint64(max(0, time.Since(time.Unix(0, nb.heard.Load())).Milliseconds()))
		}
		if h := o.GetHidden(); h != nil && q.from.client != nil && !q.offered(ca.ID(o.GetServer()), h) {
			o.Hidden = nil
		}
		if h := o.GetHidden(); h != nil && len(h.Way) < route.HopsMost {
			h.Way = append([]string{string(nb.id)}, h.Way...)
		}
	}
}

// pass sends a question on that is meant for one server alone, or answers it as that server.
func (q *inquiry) pass(ctx context.Context) error {
	next := ca.ID(q.ask.GetWay()[0])
	who, _ := q.neighbours("")
	for _, nb := range who {
		if nb.id != next || nb.stream == nil {
			continue
		}
		left := timeoutOf(q.ask)
		a := q.onwardAsk(route.Step{Hops: 0, Left: left - left/20}, nb)
		if a.Way = q.ask.GetWay()[1:]; len(a.Way) == 0 {
			a.Scope = uint32(route.Local)
		}
		last := &treepb.Answer{Last: true}
		if _, err := q.relay(ctx, nb, a, last); err != nil {
			return err
		}
		return q.tell(last)
	}
	return status.Errorf(codes.Unavailable, "%s is no neighbour of %s now", next, q.self)
}

func (q *inquiry) outcome(nb *neighbour, s route.Status) route.Outcome {
	return route.Outcome{
		Server: nb.id, Via: q.self, Hierarchy: nb.hierarchy, Up: nb.up, Status: s, Age: time.Since(time.Unix(0, nb.heard.Load())),
	}
}

func outcomeMessage(o route.Outcome) *treepb.Outcome {
	return &treepb.Outcome{
		Server: string(o.Server), Via: string(o.Via), Hierarchy: o.Hierarchy, Up: o.Up, Status: uint32(o.Status), Stale: o.Stale,
		AgeMs: uint64(max(0, o.Age.Milliseconds())), Found: uint32(o.Found), TookUs: uint64(o.Took.Microseconds()), Detail: o.Detail,
	}
}

func outcomeFrom(m *treepb.Outcome) route.Outcome {
	return route.Outcome{
		Server: ca.ID(m.GetServer()), Via: ca.ID(m.GetVia()), Hierarchy: m.GetHierarchy(), Up: m.GetUp(), Status: route.Status(min(m.GetStatus(), math.MaxInt16)),
		Stale: m.GetStale(), Age: time.Duration(m.GetAgeMs()) * time.Millisecond, Found: int(m.GetFound()),
		Took: time.Duration(m.GetTookUs()) * time.Microsecond, Hidden: m.GetHidden() != nil, Detail: m.GetDetail(),
	}
}

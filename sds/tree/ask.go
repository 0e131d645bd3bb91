package tree

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/sds"
	"ninja/sds/packed"
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

// teller takes what is found for a question, in order; the last answer is the last. wait says whether the caller may
// wait until the asker has taken what it was told before; without it, an error says that the asker does not.
type teller interface {
	tell(a *answer, wait bool) error
	// heavy reports whether telling the last answer may be too much for who must not wait.
	heavy() bool
}

// inquiry is one question as it is being answered here. It has no goroutine of its own: the one that reads the asker's
// stream searches, when that takes little, and sends the question on; those that read the streams of the branches pass on
// what comes; a timer ends it. What takes more, or may have to wait, gets a goroutine for as long as it takes.
type inquiry struct {
	*Node
	ctx      context.Context // of the question, for the searches that it makes
	ask      *treepb.Ask
	question *question
	routed   *summary.Question // with the asker's narrowing and tokens
	asker    sds.Asker
	from     origin
	want     route.Want
	reply    *reply
	out      teller // the reply, or what puts together for it

	mu    sync.Mutex
	over  bool
	found int    // hits told so far
	last  answer // what it will say at the end
	onward
}

// answer answers a question: here, and by those that it goes on to. What is found is told as it comes; the last answer
// says what became of the branches.
func (n *Node) answer(from origin, a *treepb.Ask, r *reply, out teller) {
	q, err := n.inquiry(from, a)
	if err != nil {
		r.refuse(err)
		r.close()
		return
	}
	q.reply, q.out, q.ctx = r, out, r.s.ctx
	q.last.hits, q.last.outcomes = q.last.few[:0:2], q.last.few[2:2:8]
	r.uponCancel(q.cancelled)
	if len(a.GetWay()) > 0 {
		q.pass()
		return
	}
	who, branches := n.neighbours(a.GetHierarchy())
	d := route.Decide(n.self, branches, q.arrival())
	for _, o := range d.Outcomes {
		q.last.outcomes = append(q.last.outcomes, packOutcome(o))
	}
	q.plan(who, d.Steps)
	if !d.Search {
		q.proceed()
		return
	}
	begun := time.Now()
	if a.GetProof() == nil || from.client != nil {
		if hits, ok := n.cfg.Local.Glance(q.ctx, q.asker, q.question.local); ok && len(hits)*1024 < answerSize {
			q.searched(begun, hits, false)
			return
		}
	}
	n.parts.Go(func() { q.search(begun) })
}

// inquiry reads a question.
func (n *Node) inquiry(from origin, a *treepb.Ask) (*inquiry, error) {
	question, err := n.known.of(a.GetQuestion())
	if err != nil {
		return nil, err
	}
	if len(a.GetQuery()) != 16 || a.GetScope() > uint32(route.All) || a.GetWant() > uint32(route.Best) || len(a.GetTokens()) > tokensMost || len(a.GetWay()) > route.HopsMost {
		return nil, status.Error(codes.InvalidArgument, "a question without a name of 16 bytes, or of an unknown scope, or of too many tokens or servers on its way")
	}
	q := &inquiry{Node: n, ask: a, question: question, routed: question.routed, from: from, want: route.Want(a.GetWant())}
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
	q.wish(q.routed)
}

// wish tells the hierarchies what is asked for: of many questions a sample, each of which wakes a goroutine.
func (n *Node) wish(q *summary.Question) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.hierarchies {
		if n := h.wished.Add(1); n > wishesEach && n%wishesEach != 0 {
			continue
		}
		select {
		case h.wishes <- q:
		default: // a sample will do
		}
	}
}

// wishesEach is how many questions of a period are all told, and which of those after.
const wishesEach = 32

// route has the question be routed by what the asker may find.
func (q *inquiry) route(tokens []summary.Term) {
	if len(q.asker.Templates) == 0 {
		q.routed = q.question.with(tokens)
		return
	}
	q.routed = summary.Ask(q.question.local.Needs(q.asker), tokens...)
}

// arrival is the question as package route sees it.
func (q *inquiry) arrival() route.Arrival {
	out := q.arrivalOf(timeoutOf(q.ask))
	out.Seen = q.several() && q.seen.before([16]byte(q.ask.GetQuery()))
	return out
}

// several reports whether the server stands in several hierarchies: in one no question comes twice.
func (n *Node) several() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.hierarchies) > 1
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

// search answers from what this server has, however much that takes. It has a goroutine of its own.
func (q *inquiry) search(begun time.Time) {
	ctx, stop := context.WithTimeout(q.ctx, timeoutOf(q.ask))
	defer stop()
	q.reply.uponCancel(func() { stop(); q.cancelled() })
	q.ctx = ctx
	hits, err := q.cfg.Local.Look(ctx, q.asker, q.question.local)
	if err != nil {
		q.fail(err)
		return
	}
	q.searched(begun, hits, true)
}

// searched tells what was found here, and goes on. What fits goes with the last answer when that comes at once.
func (q *inquiry) searched(begun time.Time, hits []sds.Hit, wait bool) {
	if err := q.tellHits(hits, wait); err != nil {
		q.fail(err)
		return
	}
	o := route.Outcome{Server: q.self, Via: q.self, Hierarchy: q.ask.GetHierarchy(), Status: route.Searched, Found: len(hits)}
	var hidden *treepb.Hidden
	if q.from.client == nil {
		var sealed []*treepb.Sealed
		var err error
		if sealed, hidden, err = q.secrets(hits); err != nil {
			q.fail(status.Error(codes.PermissionDenied, err.Error()))
			return
		}
		for _, s := range sealed {
			b, err := proto.Marshal(s)
			if err == nil {
				err = q.out.tell(&answer{sealed: [][]byte{b}}, wait)
			}
			if err != nil {
				q.fail(err)
				return
			}
		}
	}
	o.Took = time.Since(begun)
	if hidden == nil {
		q.last.outcomes = append(q.last.outcomes, packOutcome(o))
	} else if b, err := packHidden(o, hidden); err == nil {
		q.last.outcomes = append(q.last.outcomes, b)
	}
	q.proceed()
}

// answerSize is how many bytes of hits travel in one frame.
const answerSize = 64 << 10

func (q *inquiry) tellHits(hits []sds.Hit, wait bool) error {
	if len(hits) == 0 {
		return nil
	}
	m, size, now := &answer{}, 0, time.Now()
	for i := range hits {
		h := &hits[i]
		if size += h.Size(); size > answerSize {
			if err := q.out.tell(m, wait); err != nil {
				return err
			}
			m, size = &answer{}, h.Size()
		}
		b, err := h.Pack(make([]byte, head, h.Size()+len(h.Text)+len(q.self)), now)
		if err != nil {
			return err
		}
		m.hits = append(m.hits, hitAround(b, h.Rank, h.Value, h.Text, string(q.self)))
	}
	q.found += len(hits)
	if len(q.steps) == 0 {
		q.last.hits = m.hits
		return nil
	}
	return q.out.tell(m, wait)
}

func hitMessage(x sds.Hit, server ca.ID) *treepb.Hit {
	return &treepb.Hit{Found: x.Found, Rank: uint32(x.Rank), Value: x.Value, Text: x.Text, Server: string(server)}
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

// packOutcome is a packed Outcome.
func packOutcome(o route.Outcome) []byte {
	b := make([]byte, 0, 48+len(o.Server)+len(o.Via)+len(o.Hierarchy)+len(o.Detail))
	b = packed.AppendText(b, outcomeServer, string(o.Server))
	b = packed.AppendText(b, outcomeVia, string(o.Via))
	b = packed.AppendText(b, outcomeHierarchy, o.Hierarchy)
	b = packed.AppendNumber(b, outcomeUp, bit(o.Up))
	b = packed.AppendNumber(b, outcomeStatus, uint64(o.Status))
	b = packed.AppendNumber(b, outcomeStale, bit(o.Stale))
	b = packed.AppendNumber(b, outcomeAge, uint64(max(0, o.Age.Milliseconds())))
	b = packed.AppendNumber(b, outcomeFound, uint64(o.Found))
	b = packed.AppendNumber(b, outcomeTook, uint64(max(0, o.Took.Microseconds())))
	return packed.AppendText(b, outcomeDetail, strings.ToValidUTF8(o.Detail, "\ufffd"))
}

// packHidden is the packed Outcome of a server that has something hidden.
func packHidden(o route.Outcome, h *treepb.Hidden) ([]byte, error) {
	m := outcomeMessage(o)
	m.Hidden = h
	return proto.Marshal(m)
}

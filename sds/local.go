package sds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/capability"
	"ninja/sds/announce"
	"ninja/sds/index"
	"ninja/sds/packed"
	"ninja/sds/sdspb"
)

// Asker is on whose behalf a question is answered that did not come over the server's own door: another room, which
// knows who asks, has it answered here (package tree).
type Asker struct {
	// Payer is whom the work is charged to.
	Payer ca.ID
	// Principal and Grants are what a verified capability says; without one, see Anyone.
	Principal ca.ID
	Grants    []capability.Who
	// Templates are what the capability is narrowed to.
	Templates [][]byte
	narrowed  *index.Query
}

// Anyone asks for what everyone may find.
func Anyone(payer ca.ID) Asker { return Asker{Payer: payer, Grants: public.grants} }

// Narrowed is Anyone, and finds only what meets the templates too.
func Narrowed(payer ca.ID, templates [][]byte) (Asker, error) {
	a := Anyone(payer)
	if len(templates) == 0 {
		return a, nil
	}
	if len(templates) > narrowedMost {
		return a, status.Errorf(codes.InvalidArgument, "a capability narrowed by %d templates, at most %d", len(templates), narrowedMost)
	}
	var parts []*index.Query
	for _, t := range templates {
		q, err := index.Template(t)
		if err != nil {
			return a, status.Errorf(codes.InvalidArgument, "narrowed to what cannot be read: %v", err)
		}
		parts = append(parts, q)
	}
	a.Templates, a.narrowed = templates, index.And(parts...)
	return a, nil
}

// narrowedMost bounds the templates of a narrowed capability: it has no more blocks.
const narrowedMost = 8

// Asks says what a peer may find with a capability. With an error it is what everyone may find.
func (s *Server) Asks(peer ca.Peer, token []byte) (Asker, error) {
	h := holder{peer: peer, token: token}
	r, _, err := s.rights(&h)
	a := Asker{Payer: peer.ID, Principal: r.principal, Grants: r.grants, narrowed: r.extra}
	if r.extra != nil {
		claims, verr := s.cfg.Verifier.Verify(token, peer.Key)
		if verr != nil {
			return Anyone(peer.ID), verr
		}
		a.Templates = claims.Templates
	}
	return a, err
}

// AsksFrom is Asks for a peer and a capability of any trusted domain. With an error nothing was shown that holds.
func (s *Server) AsksFrom(peer ca.Peer, token, voucher []byte) (Asker, error) {
	if s.cfg.Foreign == nil {
		return Anyone(peer.ID), errors.New("this server takes no capabilities of other domains")
	}
	claims, err := s.cfg.Foreign(token, voucher, peer.Key)
	if err != nil {
		return Anyone(peer.ID), fmt.Errorf("the capability does not hold: %w", err)
	}
	h := holder{peer: peer, token: token}
	r, _, err := h.rights(claims)
	return Asker{Payer: peer.ID, Principal: r.principal, Grants: r.grants, Templates: claims.Templates, narrowed: r.extra}, err
}

// Nothing reports whether the asker may find nothing at all: its capability is not for finding. Secret reports whether
// it may find more than everyone.
func (a Asker) Nothing() bool { return len(a.Grants) == 0 }
func (a Asker) Secret() bool {
	return slices.ContainsFunc(a.Grants, func(w capability.Who) bool { return w != capability.Everyone })
}

// Question is a compiled question of a client, for Look.
type Question struct {
	q *question
	// Limit is how many are wanted, Ordered whether they have an order of their own.
	Limit      int
	Ordered    bool
	Descending bool
}

// CompileQuestion reads a marshalled sdspb.Question. Errors carry codes.InvalidArgument.
func CompileQuestion(b []byte) (*Question, error) {
	var m sdspb.Question
	if len(b) > maxQuestion || proto.Unmarshal(b, &m) != nil {
		return nil, status.Errorf(codes.InvalidArgument, "a question that cannot be read, or of more than %d bytes", maxQuestion)
	}
	q, err := compile(&m)
	if err != nil {
		return nil, err
	}
	return &Question{q: q, Limit: q.limit, Ordered: q.order != nil, Descending: q.descending}, nil
}

// maxQuestion bounds a question that came by way of others.
const maxQuestion = 256 << 10

// Needs is what every match of the question has, as the asker may ask it.
func (q *Question) Needs(a Asker) index.Need {
	query := q.q.query
	if a.narrowed != nil {
		query = index.And(query, a.narrowed)
	}
	return query.Needs(q.q.by)
}

// Hit is a match with its place in the question's order: by value when Rank is 0, by text when it is 1, else last.
type Hit struct {
	Found *sdspb.Found // of Look; Glance leaves it to Pack
	ID    string
	Rank  int
	Value float64
	Text  string

	q *question
	r *record
}

// Pack appends the Found as it travels, packed.
func (h *Hit) Pack(b []byte, now time.Time) ([]byte, error) {
	if h.q.selected != nil {
		return proto.MarshalOptions{}.MarshalAppend(b, h.q.message(h.r, now))
	}
	live := h.r.live.Load()
	b = packed.AppendText(b, foundOwner, h.r.Owner)
	b = packed.AppendText(b, foundName, h.r.name())
	b = packed.AppendNumber(b, foundVersion, h.r.version)
	b = packed.AppendText(b, foundDescription, h.r.Tree.Source())
	b = packed.AppendText(b, foundSignature, h.r.signature)
	b = append(b, live.chain.Value()...)
	b = appendNumbers(b, live.numbers)
	return packed.AppendNumber(b, foundAge, uint64(max(0, now.Sub(live.heard)).Milliseconds())), nil
}

// Size is about how many bytes Pack appends.
func (h *Hit) Size() int { return len(h.r.Tree.Source()) + 1024 }

// Look answers a question on behalf of the asker from what this server has.
func (s *Server) Look(ctx context.Context, a Asker, q *Question) ([]Hit, error) {
	s.store.stats.queries.Add(1)
	res, err := s.search(ctx, a.Payer, rights{a.Principal, a.Grants, a.narrowed}, q.q)
	if err != nil {
		return nil, err
	}
	out, now := q.hits(res), time.Now()
	for i := range out {
		out[i].Found = q.q.message(out[i].r, now)
	}
	return out, nil
}

// Glance is Look for a question that takes little work and whose payer owes nothing: it never waits. ok is false when it
// turns out to be another.
func (s *Server) Glance(ctx context.Context, a Asker, q *Question) (_ []Hit, ok bool) {
	purse := s.meter.hold(a.Payer)
	defer s.meter.release(purse)
	if s.meter.charge(purse, 0) > 0 {
		return nil, false
	}
	res, used, err := s.look(ctx, rights{a.Principal, a.Grants, a.narrowed}, q.q, quickFuel)
	s.meter.charge(purse, used)
	if err != nil {
		return nil, false
	}
	s.store.stats.queries.Add(1)
	return q.hits(res), true
}

// hits are those of a result, still to be packed.
func (q *Question) hits(res *result) []Hit {
	out := make([]Hit, len(res.hits))
	for i, h := range res.hits {
		out[i] = Hit{ID: h.id, Rank: h.rank, Value: h.value, Text: h.text, q: q.q, r: h.record}
	}
	return out
}

// HiddenGrants are those that open services which not everyone may find, in order. They are not for others' eyes.
func (s *Server) HiddenGrants() (out []capability.Who) {
	s.store.snapshot.Load().doors.each(func(d doorway) {
		if d.who != capability.Everyone {
			out = append(out, d.who)
		}
	})
	slices.Sort(out)
	return out
}

// PublicDoc is a document that everyone may find.
type PublicDoc struct {
	ID   string
	By   ca.ID
	Tree *index.Tree
}

// FollowPublic tells what everyone may find until ctx ends, whose error it returns: all with begin, whatever was told
// before, then each change. A nil document is one that was not there, or is no more. Calls come from one goroutine.
func (s *Server) FollowPublic(ctx context.Context, begin func([]PublicDoc), tell func(before, after *PublicDoc)) error {
	for {
		sub := newSubscriber(s.cfg.Identity.ID(), public.grants, nil)
		sub.Watch = index.NewWatch(index.All(), "", nil, sub)
		if err := s.store.join(sub); err != nil {
			return err
		}
		var all []PublicDoc
		sub.start.open(public.grants, func(c *index.Class) bool {
			c.Each(func(d *index.Doc) { all = append(all, *publicDoc(d.Item.(*record))) })
			return true
		})
		sub.start = nil
		begin(all)
		lost := false
		for !lost && ctx.Err() == nil {
			select {
			case <-sub.wake:
			case <-s.store.stopped:
				return status.Error(codes.Unavailable, "the server is stopping")
			case <-ctx.Done():
			}
			var queue []change
			queue, _, lost = sub.take()
			for _, c := range queue {
				tellPublic(c, tell)
			}
		}
		s.store.leave(sub)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func tellPublic(c change, f func(before, after *PublicDoc)) {
	var before, after *PublicDoc
	if c.before != nil && c.closed.visible(public.grants) {
		before = publicDoc(c.before)
	}
	if c.after != nil && c.visible.visible(public.grants) {
		after = publicDoc(c.after)
	}
	if before != nil || after != nil {
		f(before, after)
	}
}

func publicDoc(r *record) *PublicDoc { return &PublicDoc{r.ID, r.owner(), r.Tree} }

// Load is how many services the server keeps, hidden ones too.
func (s *Server) Load() int { return int(s.store.stats.services.Load()) }

// Queries is how many questions the server has answered since it was started.
func (s *Server) Queries() int64 { return s.store.stats.queries.Load() }

// Verify checks a service that came by way of others as the client checks all that it finds. When values of some paths
// were selected, there is nothing signed to check.
func (c *Client) Verify(m *sdspb.Found, selected int) (Found, error) {
	if selected == 0 {
		return c.verify(m)
	}
	owner, err := ca.ParseID(m.GetOwner())
	if err != nil {
		return Found{}, err
	}
	if len(m.GetValues()) != selected {
		return Found{}, fmt.Errorf("values of %d paths, want %d", len(m.GetValues()), selected)
	}
	f := Found{
		ID: m.GetOwner() + "#" + m.GetName(), Owner: owner, Name: m.GetName(), Version: m.GetVersion(), Numbers: m.GetNumbers(),
		Age: time.Duration(min(m.GetAgeMs(), maxAge)) * time.Millisecond,
	}
	for _, v := range m.GetValues() {
		f.Values = append(f.Values, v.GetValue())
	}
	return f, nil
}

// Marshal is the query as a question for Server.Look.
func (q Query) Marshal() ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(q.message(false))
}

// VerifyPacked is Verify for a Found as it travels.
func (c *Client) VerifyPacked(found []byte, selected int) (Found, error) {
	if selected > 0 {
		m := new(sdspb.Found)
		if err := proto.Unmarshal(found, m); err != nil {
			return Found{}, err
		}
		return c.Verify(m, selected)
	}
	f, err := parseFound(found)
	if err != nil {
		return Found{}, err
	}
	b := announce.Body{Owner: ca.ID(f.owner), Name: f.name, Version: f.version, Description: f.description, Signature: f.signature, Chain: f.chain}
	if _, err := c.check(b); err != nil {
		return Found{}, err
	}
	return Found{
		ID: b.ID(), Owner: b.Owner, Name: b.Name, Version: b.Version, Description: b.Description, Numbers: f.numbers,
		Age: time.Duration(min(f.age, maxAge)) * time.Millisecond,
	}, nil
}

// Conn is the client's connection, for other services of the same server.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Capability is what the client asks with; nil is nothing.
func (c *Client) Capability(ctx context.Context) ([]byte, error) { return c.capability(ctx) }

// WatchAs is Server.Watch for a peer that did not come over the server's own door, with a capability of its own or none.
// send gets every event from one goroutine; its error ends the watch, as ctx does.
func (s *Server) WatchAs(ctx context.Context, peer ca.Peer, token []byte, q *Question, send func(*sdspb.WatchEvent) error) error {
	w := &watcher{Server: s, query: q.q.query, by: q.q.by, steps: q.q.steps, stream: sender{send: send, ctx: ctx}, holder: holder{peer: peer, token: token}}
	w.rights, w.expires, _ = s.rights(&w.holder)
	if w.rights.extra != nil {
		w.query = index.And(w.query, w.rights.extra)
	}
	s.store.stats.watches.Add(1)
	defer s.store.stats.watches.Add(-1)
	return w.run(ctx)
}

// sender is a stream of events that goes to a function.
type sender struct {
	grpc.ServerStream
	send func(*sdspb.WatchEvent) error
	ctx  context.Context
}

func (s sender) Send(m *sdspb.WatchEvent) error { return s.send(m) }
func (s sender) Context() context.Context       { return s.ctx }

package sds

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/capability"
	"ninja/sds/announce"
	"ninja/sds/sdspb"
)

// TestOlderClient: who does not say that it understands more gets one message for each answer, with everything in it.
func TestOlderClient(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	w.publish(owner, "p", 1, "<a/>")
	c := w.client(owner)
	stream, err := c.rpc.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(m *sdspb.SessionRequest) {
		m.Version = 1
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	send(&sdspb.SessionRequest{Request: &sdspb.SessionRequest_Hello{Hello: &sdspb.Hello{Capability: w.tokens.issue(owner)}}})
	for id := range uint64(3) {
		send(&sdspb.SessionRequest{Request: &sdspb.SessionRequest_Ask{Ask: &sdspb.Ask{Id: id + 1, Question: &sdspb.Question{Version: 1}}}})
	}
	for id := range uint64(3) {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		f := m.GetFound()
		if m.GetId() != id+1 || !m.GetLast() || len(f) != 1 || len(f[0].GetDescription()) == 0 || len(f[0].GetChain()) == 0 || len(f[0].GetSignature()) == 0 || f[0].GetHandle() != 0 {
			t.Errorf("%v", m)
		}
	}
}

// older is a server of the version before: it knows no gathered questions.
type older struct {
	sdspb.UnimplementedDiscoveryServer
	found *sdspb.Found
}

func (o *older) Session(stream grpc.BidiStreamingServer[sdspb.SessionRequest, sdspb.SessionResponse]) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil
		}
		switch r := m.GetRequest().(type) {
		case *sdspb.SessionRequest_Hello:
		case *sdspb.SessionRequest_Ask:
			if err := stream.Send(&sdspb.SessionResponse{Id: r.Ask.GetId(), Found: []*sdspb.Found{o.found}, Count: 1, Last: true}); err != nil {
				return err
			}
		default:
			return status.Error(codes.InvalidArgument, "a request that is none of hello, ask, cancel and ping")
		}
	}
}

func TestOlderServer(t *testing.T) {
	w := newTown(t)
	b := announce.Sign(w.identity(ca.KindBase, "b"), "p", 1, []byte("<a/>"))
	address, stop := serve(t, w.server.cfg.Identity, "127.0.0.1:0", &older{found: &sdspb.Found{Owner: string(b.Owner), Name: b.Name, Version: 1, Description: b.Description, Signature: b.Signature, Chain: b.Chain}})
	defer stop()
	w.address = address
	c := w.client(w.identity(ca.KindUser, "u"))
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			if found, err := c.Query(context.Background(), Query{}); err != nil || len(found) != 1 || string(found[0].Description) != "<a/>" {
				t.Error(found, err)
			}
		})
	}
	all.Wait()
}

// TestMentionedByHandle: what was sent once is not sent again, and is still right: numbers, ages, versions, chains, and
// more services than are kept.
func TestMentionedByHandle(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	for i := range 6 {
		w.publish(owner, fmt.Sprint("p", i), 1, fmt.Sprintf("<a><n>%d</n></a>", i))
	}
	w.publish(owner, "q", 1, "<a>"+strings.Repeat("<t>"+strings.Repeat("x", 1000)+"</t>", 5)+"</a>") // too long to be kept
	for _, keep := range []uint32{0, 1, 4, keepMost, keepMost + 1} {
		c := w.client(owner)
		c.keep = keep
		for round := range 4 {
			w.server.Refresh(owner.ID(), time.Minute, []announce.Pair{{Name: "p1", Version: 1, Numbers: map[string]float64{"load": float64(round)}}})
			found, err := c.Query(t.Context(), Query{})
			if err != nil || len(found) != 7 {
				t.Fatal(names(found), err)
			}
			for i, f := range found[:6] {
				if f.Name != fmt.Sprint("p", i) || string(f.Description) != fmt.Sprintf("<a><n>%d</n></a>", i) || f.Owner != owner.ID() || f.Version != 1 {
					t.Errorf("keep %d, round %d: %+v", keep, round, f)
				}
				f.Description[0] = 'x' // it is the caller's
			}
			if found[1].Numbers["load"] != float64(round) || found[0].Numbers != nil {
				t.Errorf("keep %d, round %d: %v, %v", keep, round, found[0].Numbers, found[1].Numbers)
			}
			if k := len(c.session.kept.services); k > int(min(keep, keepMost)) {
				t.Errorf("%d services are kept, at most %d", k, keep)
			}
		}
	}
	c := w.client(owner)
	ask := func() Found {
		found, err := c.Query(t.Context(), Query{XPath: "/a[n=0]"})
		if err != nil || len(found) != 1 {
			t.Fatal(names(found), err)
		}
		return found[0]
	}
	ask()
	first := c.session.kept.services[0]
	if ask(); c.session.kept.services[0] != first || len(c.session.kept.services) != 1 {
		t.Error("a service was sent again")
	}
	renewed, err := w.ca.NewIdentity(ca.KindBase, "b") // the same owner with another key and certificate
	if err != nil {
		t.Fatal(err)
	}
	w.publish(renewed, "p0", 2, "<a><n>0</n><new/></a>")
	if f := ask(); f.Version != 2 || string(f.Description) != "<a><n>0</n><new/></a>" {
		t.Errorf("%+v", f)
	}
}

// TestHandlesOfAHostileServer: a mention of what was never sent ends the session; nothing is believed.
func TestHandlesOfAHostileServer(t *testing.T) {
	b := announce.Body{Description: []byte("<a/>")}
	for name, f := range map[string]wireFound{
		"never sent":   {handle: 3},
		"beyond":       {owner: "o", name: "p", description: b.Description, handle: 9},
		"chain beyond": {owner: "o", name: "p", description: b.Description, chainHandle: 9},
		"too long":     {owner: "o", name: "p", description: make([]byte, keepBytes+1), handle: 1},
	} {
		var k kept
		if _, err := k.item(f, 8); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// replies is a stream that keeps what a session sends.
type replies struct {
	grpc.ServerStreamingServer[sdspb.SessionResponse]
	sent []*sdspb.SessionResponse
}

func (r *replies) Send(m *sdspb.SessionResponse) error {
	r.sent = append(r.sent, proto.CloneOf(m))
	return nil
}

// quiet is a session without a connection, and all that it says.
type quiet struct {
	*session
	speaker *speaker
	stream  *replies
	queries sync.WaitGroup
	last    uint64
}

func newQuiet(ctx context.Context, s *Server, id *ca.Identity, token []byte) *quiet {
	r := new(replies)
	q := &quiet{stream: r, speaker: &speaker{stream: r, cursors: s.cursors}, session: &session{
		Server: s, who: id.ID(), ctx: ctx, holder: holder{peer: ca.Peer{ID: id.ID(), Key: id.Public()}}, granted: public,
		running: make(map[uint64]context.CancelFunc), out: make(chan []reply, 8), slot: make(chan struct{}, sessionQueries), allowance: s.meter.hold(id.ID()),
	}}
	q.hello(&sdspb.Hello{Capability: token, Speaks: wireVersion, Keep: 4})
	return q
}

// ask asks one question and returns every byte that is sent, but for the seal of a cursor.
func (q *quiet) ask(t *testing.T, question *sdspb.Question) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	q.last++
	if err := q.answer([]packedAsk{{id: q.last, question: b}}, &q.queries); err != nil {
		t.Fatal(err)
	}
	q.queries.Wait()
	for len(q.out) > 0 {
		if err := q.speaker.send(<-q.out, q.out); err != nil {
			t.Fatal(err)
		}
	}
	var all []byte
	for _, m := range q.stream.sent {
		for i, a := range m.Answers {
			p, err := parseAnswer(a)
			if err != nil {
				t.Fatal(err)
			}
			m.Answers[i] = bytes.Replace(a, p.cursor, make([]byte, len(p.cursor)), 1)
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	q.stream.sent = nil
	return all
}

// TestRememberedAnswersAreTrue: whatever happens between two questions of a session, the second is answered like a
// question on its own.
func TestRememberedAnswersAreTrue(t *testing.T) {
	const seed = 3
	random := rand.New(rand.NewPCG(seed, seed))
	w := newTown(t)
	owner, user := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "u")
	c := w.client(user, "group:staff")
	token, err := c.cfg.Capability(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	questions := []Query{
		{}, {XPath: "/service[floor=1]"}, {Template: []byte(`<service kind="printer"><floor>2</floor></service>`)}, {OrderBy: "load"},
		{Limit: 2}, {By: owner.ID()}, {By: user.ID()}, {Select: []string{"floor"}}, {XPath: "/service[node/@cores>1]", OrderBy: "floor", Descending: true},
	}
	version, same := uint64(1), 0
	for i := range 400 * proveScale(t) {
		name := fmt.Sprint("p", random.IntN(8))
		for range random.IntN(3) {
			version++
			switch random.IntN(6) {
			case 0:
				w.server.Withdraw(owner.ID(), name, version)
			case 1:
				w.allow(owner, name, [][]capability.Who{{"group:staff"}, {"group:others"}, {capability.Everyone}, {"group:staff", capability.Who(user.ID())}}[random.IntN(4)]...)
			case 2:
				w.acls.setFresh(random.IntN(3) > 0)
			case 3:
				w.server.Refresh(owner.ID(), time.Minute, []announce.Pair{{Name: name, Version: version, Numbers: map[string]float64{"load": random.Float64()}}})
			default:
				_ = w.server.Put(announce.Sign(owner, name, version, fmt.Appendf(nil, printer, name, random.IntN(3), random.IntN(3))))
			}
		}
		q := questions[random.IntN(len(questions))]
		found, err := c.Query(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		res, err := w.server.Query(callFrom(t.Context(), user), &sdspb.QueryRequest{Capability: token, Question: q.message(false)})
		if err != nil {
			t.Fatal(err)
		}
		var want []Found
		for _, m := range res.GetFound() {
			f := Found{ID: m.GetOwner() + "#" + m.GetName(), Owner: ca.ID(m.GetOwner()), Name: m.GetName(), Version: m.GetVersion(), Description: m.GetDescription(), Numbers: m.GetNumbers()}
			for _, v := range m.GetValues() {
				f.Values = append(f.Values, v.GetValue())
			}
			want = append(want, f)
		}
		for k := range found {
			found[k].Age = 0
		}
		if len(found)+len(want) > 0 && !reflect.DeepEqual(found, want) {
			t.Fatalf("seed %d, step %d: %+v\ngot  %+v\nwant %+v", seed, i, q, found, want)
		}
		if len(found) > 0 {
			same++
		}
	}
	if same == 0 {
		t.Error("nothing was ever found: the test tests nothing")
	}
	w.acls.setFresh(true)
	w.tokens.mu.Lock()
	clear(w.tokens.claims) // revoked
	w.tokens.mu.Unlock()
	found, err := c.Query(t.Context(), Query{})
	res, err2 := w.server.Query(callFrom(t.Context(), user), &sdspb.QueryRequest{})
	if err != nil || err2 != nil || len(found) != len(res.GetFound()) {
		t.Errorf("after the revocation: %v, %v; want %v, %v", names(found), err, res.GetFound(), err2)
	}
}

// TestRemembered: a question that is asked again is not searched again, until a class that it opens changes; what
// happens in others is not noticed.
func TestRemembered(t *testing.T) {
	w := newTown(t)
	owner, user := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "u")
	w.publish(owner, "p", 1, "<a/>")
	w.allow(owner, "p", capability.Everyone)
	q := newQuiet(t.Context(), w.server, user, nil)
	defer w.server.meter.release(q.allowance)
	ask := func() *result {
		q.ask(t, &sdspb.Question{Version: 1})
		for _, a := range q.asked.by {
			return a.result
		}
		return nil
	}
	first := ask()
	if first == nil || ask() != first {
		t.Error("it was searched again")
	}
	w.publish(owner, "hidden", 1, "<a/>")
	if ask() != first {
		t.Error("a change in another class was noticed")
	}
	w.publish(owner, "p", 2, "<a/>")
	if second := ask(); second == first || len(second.hits) != 1 || second.hits[0].version != 2 {
		t.Errorf("the old answer was given: %+v", second)
	}
}

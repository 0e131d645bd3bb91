package sds

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds/announce"
	"ninja/sds/sdspb"
)

// proveScale multiplies the small counts of a test run (NINJA_PROVE_SCALE).
func proveScale(t testing.TB) int {
	n, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE"))
	if err != nil || n < 1 {
		return 1
	}
	t.Logf("scale %d", n)
	return n
}

// callFrom is the context of a call by a peer.
func callFrom(ctx context.Context, id *ca.Identity) context.Context {
	return peer.NewContext(ctx, &peer.Peer{AuthInfo: ca.AuthInfo{Peer: ca.Peer{ID: id.ID(), Key: id.Public()}}})
}

// TestHiddenIsAbsent is row 8 of the threats: in a world with hidden services and in one without them, every answer,
// error, count and order is the same, byte for byte.
func TestHiddenIsAbsent(t *testing.T) {
	a, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	identity := func(kind, name string) *ca.Identity {
		id, err := a.NewIdentity(kind, name)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	w := hiddenWorld{owner: identity(ca.KindBase, "b"), other: identity(ca.KindBase, "c"), user: identity(ca.KindUser, "u"), server: identity(ca.KindSDS, "s")}
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	cases, answers, found := 40*proveScale(t), 0, 0
	for range cases {
		synctest.Test(t, func(t *testing.T) {
			n, f := w.compare(t, random)
			answers, found = answers+n, found+f
		})
	}
	t.Logf("seed %d: %d answers in %d pairs of worlds are identical; %d services found", seed, answers, cases, found)
	if found == 0 {
		t.Error("nothing was ever found: the test tests nothing")
	}
}

type hiddenWorld struct{ owner, other, user, server *ca.Identity }

// compare makes a world with and one without hidden services and asks both the same.
func (w hiddenWorld) compare(t *testing.T, random *rand.Rand) (answers, found int) {
	acls := &fakeACLs{lists: map[string]*capability.ACL{}, fresh: true, changed: make(chan struct{})}
	tokens := &fakeTokens{claims: map[string]capability.Claims{}}
	token := tokens.add(capability.Claims{
		Principal: w.user.ID(), Grants: []capability.Who{capability.Who(w.user.ID()), "group:staff", capability.Everyone},
		Ops: capability.Find, Expires: time.Now().Add(time.Hour), Holder: w.user.Public(),
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var worlds [2]*Server
	surroundings := world.Real()
	surroundings.Now = time.Now
	for i := range worlds {
		s, err := NewServer(Config{Identity: w.server, World: surroundings, Verifier: tokens, ACLs: acls})
		if err != nil {
			t.Fatal(err)
		}
		worlds[i] = s
		go func() { _ = s.Run(ctx) }()
	}
	for i := range 30 {
		name := fmt.Sprint("p", random.IntN(20)) // some are changed, some withdrawn
		owner, hidden := w.owner, random.IntN(2) == 0
		if hidden {
			owner = w.other // an owner with nothing visible, and services of the same owner below
		}
		if random.IntN(3) == 0 {
			name, owner, hidden = name+"-hidden", w.owner, true
		}
		service := string(owner.ID()) + "#" + name
		switch {
		case hidden && random.IntN(2) == 0:
			acls.set(service, "group:others")
		case !hidden:
			acls.set(service, []capability.Who{"group:staff", capability.Everyone, capability.Who(w.user.ID())}[len(name)%3])
		}
		b := announce.Sign(owner, name, uint64(i+1), fmt.Appendf(nil, printer, name, random.IntN(4), random.IntN(4)))
		b.Numbers = map[string]float64{"load": random.Float64()}
		for n, s := range worlds {
			if n == 0 && hidden {
				continue
			}
			if random.IntN(8) == 0 && !hidden && n == 0 {
				worlds[0].Withdraw(owner.ID(), name, b.Version)
				worlds[1].Withdraw(owner.ID(), name, b.Version)
			}
			_ = s.Put(b) // a withdrawn version is refused in both
		}
	}
	questions := []*sdspb.Question{
		{}, {CountOnly: true}, {Explain: true}, {Explain: true, Xpath: "/service[floor >= 1]/node/@cores", By: string(w.owner.ID())}, {Limit: 2}, {OrderBy: "load"}, {OrderBy: "floor", Descending: true, Limit: 3}, {Limit: 1, Select: []string{"floor", "node/@cores"}}, {By: string(w.other.ID())}, {By: string(w.owner.ID())},
		{Template: []byte(`<service><floor>2</floor></service>`)}, {Template: []byte(`<service kind="printer"><node cores="1"/></service>`)},
		{Xpath: "//floor[. >= 2]"}, {Xpath: "/service[floor < 2 or node/@cores = 3]"}, {Xpath: "//nothing"}, {Xpath: "not(//floor = 1)"}, {Xpath: "//*[@cores]"},
		{Template: []byte(`<a`)}, {Xpath: "/a["}, {OrderBy: "a:b"},
	}
	for _, q := range questions {
		for _, shown := range [][]byte{token, nil, []byte("no capability")} {
			x, n := ask(ctx, worlds[0], w.user, shown, q)
			y, _ := ask(ctx, worlds[1], w.user, shown, q)
			if answers, found = answers+1, found+n; !bytes.Equal(x, y) {
				t.Fatalf("%v\nabsent: %q\nhidden: %q", q, x, y)
			}
		}
	}
	answers += w.compareSessions(ctx, t, worlds, questions, [][]byte{token, nil}, acls)
	x, err := worlds[0].Status(callFrom(ctx, w.user), nil)
	y, err2 := worlds[1].Status(callFrom(ctx, w.user), nil)
	if err != nil || err2 != nil || !proto.Equal(x, y) {
		t.Fatalf("status: %v %v %v %v", x, y, err, err2)
	}
	return answers, found
}

// compareSessions asks each question three times on one session, so that answers are remembered and services mentioned by
// handle, while hidden services come and go in one of the worlds.
func (w hiddenWorld) compareSessions(ctx context.Context, t *testing.T, worlds [2]*Server, questions []*sdspb.Question, tokens [][]byte, acls *fakeACLs) (answers int) {
	acls.set(string(w.owner.ID())+"#late-hidden", "group:others")
	for _, token := range tokens {
		a, b := newQuiet(ctx, worlds[0], w.user, token), newQuiet(ctx, worlds[1], w.user, token)
		for round := range 3 {
			for _, q := range questions {
				x, y := a.ask(t, q), b.ask(t, q)
				if answers++; !bytes.Equal(x, y) {
					t.Fatalf("round %d of a session: %v\nabsent: %q\nhidden: %q", round, q, x, y)
				}
			}
			hidden := announce.Sign(w.owner, "late-hidden", uint64(time.Now().UnixNano())+uint64(answers), fmt.Appendf(nil, printer, "late", 2, 1))
			if err := worlds[1].Put(hidden); err != nil {
				t.Fatal(err)
			}
			if round == 1 {
				worlds[1].Withdraw(w.owner.ID(), "late-hidden", hidden.Version)
			}
		}
		worlds[0].meter.release(a.allowance)
		worlds[1].meter.release(b.allowance)
	}
	return answers
}

// ask is everything that a caller sees of an answer.
func ask(ctx context.Context, s *Server, id *ca.Identity, token []byte, q *sdspb.Question) (all []byte, found int) {
	res, err := s.Query(callFrom(ctx, id), &sdspb.QueryRequest{Version: 1, Capability: token, Question: q})
	if err != nil {
		return fmt.Append(nil, status.Convert(err).Code(), err), 0
	}
	cursor := res.Cursor
	res.Cursor = make([]byte, len(cursor)) // sealed with another nonce each time; what it leads to is looked at below
	all, err = proto.MarshalOptions{Deterministic: true}.Marshal(res)
	found = len(res.GetFound())
	if len(cursor) > 0 {
		rest := proto.CloneOf(q)
		rest.Cursor = cursor
		more, n := ask(ctx, s, id, token, rest)
		all, found = append(all, more...), found+n
	}
	return fmt.Append(all, err), found
}

package tree

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"ninja/base/dds"
	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/route"
	"ninja/sds/summary"
	"ninja/sds/tree/treepb"
)

// realm is a domain with a capability manager of its own; its servers check as real ones do.
type realm struct {
	*wood
	manager *capability.Manager
	routing *capability.Routing
	id      *ca.Identity // the manager's
	address string
	mu      sync.Mutex
	all     []*ca.Identity
}

func newRealm(t testing.TB, domain string) *realm {
	t.Helper()
	r := &realm{wood: newWoodOf(t, domain)}
	r.accept = func(p ca.Peer) error {
		if p.Foreign && p.ID.Kind() != ca.KindSDS {
			return fmt.Errorf("%s is of another domain", p.ID)
		}
		return nil
	}
	r.id = r.known(r.wood.identity(ca.KindCapability, "manager"))
	store, err := dds.Open(t.TempDir() + "/rights.db")
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	if r.manager, err = capability.NewManager(t.Context(), capability.ManagerConfig{Identity: r.id, Store: store, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	if r.routing, err = capability.NewRouting(t.Context(), r.id, store, r.manager); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = l.Addr().String()
	g := grpc.NewServer(grpc.Creds(ca.ServerCredentials(r.id, nil)))
	r.manager.Register(g)
	r.routing.Register(g)
	var all sync.WaitGroup
	all.Go(func() { _ = g.Serve(l) })
	t.Cleanup(func() { g.Stop(); all.Wait(); store.Close() })
	r.checks = func(id *ca.Identity, local *sds.Config, cfg *Config) {
		r.known(id)
		follow := capability.FollowerConfig{World: world.Real(), Identity: id, Address: r.address, Log: quiet}
		revoked, err := capability.NewFollower(follow)
		if err != nil {
			t.Fatal(err)
		}
		routes, err := capability.NewRoutesFollower(follow)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() { _ = revoked.Run(ctx) })
		all.Go(func() { _ = routes.Run(ctx) })
		t.Cleanup(func() { cancel(); all.Wait() })
		v := capability.NewVerifier(id, nil).WithRevocations(revoked)
		local.Verifier, local.Foreign, cfg.Routes = v, v.VerifyAny, routes.Routes
		cfg.Accept = func(string, ca.Peer) error { return nil }
	}
	return r
}

// known keeps an identity in step with its authority.
func (r *realm) known(id *ca.Identity) *ca.Identity {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, id)
	return id
}

func (r *realm) identity(kind, name string) *ca.Identity { return r.known(r.wood.identity(kind, name)) }

// adopt has all hear of a change of the authority's state.
func (r *realm) adopt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.all {
		if err := id.Adopt(r.ca.State()); err != nil {
			r.t.Fatal(err)
		}
	}
}

// rights is a client of the manager.
func (r *realm) rights(id *ca.Identity) *capability.Client {
	r.t.Helper()
	c, err := capability.NewClient(capability.ClientConfig{World: world.Real(), Identity: id, Address: r.address})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// trust has each of the realms trust all others, with their managers' keys.
func trust(t testing.TB, realms ...*realm) {
	t.Helper()
	for _, to := range realms {
		for _, from := range realms {
			if from == to {
				continue
			}
			all, err := from.rights(from.identity(ca.KindUser, "reader")).RoutingKeys(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			var keys []ca.RoutingKey
			for _, b := range all {
				k, err := ca.ParseRoutingKey(b)
				if err != nil {
					t.Fatal(err)
				}
				keys = append(keys, k)
			}
			if err := to.ca.TrustDomain(from.ca.Domain(), from.ca.Roots(), keys...); err != nil {
				t.Fatal(err)
			}
		}
		to.adopt()
	}
}

// as asks at a server as somebody, with a capability of the manager or a given one.
func (p *plant) as(r *realm, id *ca.Identity, token []byte) *Client {
	r.t.Helper()
	rights := r.rights(id)
	cfg := sds.ClientConfig{Identity: id, World: world.Real(), Address: p.address, Log: testLog(), Capability: rights.Capability, Vouch: rights.Vouch}
	if token != nil {
		cfg.Capability = func(context.Context) ([]byte, error) { return token, nil }
	}
	c, err := Dial(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// abroad are three domains: a server of east and one of west below one of north, which belongs to neither.
type abroad struct {
	east, west, north *realm
	root, leaf, door  *plant // of north, east, west
	owner             *ca.Identity
	x, y              *ca.Identity // users of west
}

func newAbroad(t testing.TB) *abroad {
	a := &abroad{east: newRealm(t, "east"), west: newRealm(t, "west"), north: newRealm(t, "north")}
	trust(t, a.east, a.west, a.north)
	a.root = a.north.grow("root")
	a.east.by["root"], a.west.by["root"] = a.root, a.root
	a.leaf, a.door = a.east.grow("leaf", "h=root"), a.west.grow("door", "h=root")
	a.north.by["leaf"], a.north.by["door"] = a.leaf, a.door
	a.east.adopt()
	a.west.adopt()
	a.north.adopt()
	a.owner = a.east.identity(ca.KindBase, "b")
	a.x, a.y = a.west.identity(ca.KindUser, "x"), a.west.identity(ca.KindUser, "y")
	return a
}

// finds waits until a client finds exactly these.
func finds(t *testing.T, what string, c *Client, want string) {
	t.Helper()
	last := ""
	begun := time.Now()
	for {
		a, err := c.Ask(t.Context(), sds.Query{}, Options{Scope: route.All})
		if err == nil {
			if last = names(a); sorted(last) == sorted(want) {
				return
			}
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("%s: found %q, want %q (%v)", what, last, want, err)
		}
		_ = world.Sleep(t.Context(), 10*time.Millisecond)
	}
}

func sorted(text string) string {
	all := strings.Fields(text)
	slices.Sort(all)
	return strings.Join(all, " ")
}

// TestHiddenServicesAreFoundAcrossDomains: who is named in an ACL of another domain finds what it opens, through the own
// server and one of a third domain, alone, as a member of a group of either domain, narrowed, and by a delegate; and
// within seconds of the end of a grant or of the trust no more.
func TestHiddenServicesAreFoundAcrossDomains(t *testing.T) {
	a := newAbroad(t)
	a.leaf.publish(a.owner, "open", 1, printer("lamp", 1))
	a.leaf.publish(a.owner, "vault", 1, printer("vault", 5), capability.Who(a.x.ID()))
	a.leaf.publish(a.owner, "safe", 1, printer("safe", 9), "group:west/staff")
	a.leaf.publish(a.owner, "cellar", 1, printer("cellar", 3), "group:partners")
	a.leaf.publish(a.owner, "own", 1, printer("own", 3), "group:staff")
	x, y := a.door.as(a.west, a.x, nil), a.door.as(a.west, a.y, nil)
	finds(t, "named by an ACL", x, "open@leaf vault@leaf")
	finds(t, "another user", y, "open@leaf")
	finds(t, "a server of the user's domain", a.door.as(a.west, a.door.id, nil), "open@leaf")
	finds(t, "the administrator of the user's domain", a.door.as(a.west, a.west.identity(ca.KindUser, "admin"), nil), "open@leaf")
	finds(t, "a user of the domain in between", a.root.as(a.north, a.north.identity(ca.KindUser, "x"), nil), "open@leaf")
	finds(t, "a namesake at home", a.leaf.as(a.east, a.east.identity(ca.KindUser, "x"), nil), "open@leaf")

	ordered := ask(t, x, sds.Query{OrderBy: "speed", Descending: true, Limit: 1}, Options{Scope: route.All})
	if names(ordered) != "vault@leaf" || ordered.Found[0].Owner != a.owner.ID() {
		t.Errorf("ordered and limited: %s", names(ordered))
	}
	members := func(r *realm, group string, of ...ca.ID) {
		t.Helper()
		if err := r.rights(r.identity(ca.KindUser, "admin")).SetGroup(t.Context(), group, of); err != nil {
			t.Fatal(err)
		}
	}
	members(a.west, "staff", a.y.ID())
	y = a.door.as(a.west, a.y, nil)
	finds(t, "in a group of its domain that an ACL names", y, "open@leaf safe@leaf")
	members(a.east, "partners", a.y.ID(), a.owner.ID())
	finds(t, "a guest in a group of the service's domain", y, "cellar@leaf open@leaf safe@leaf")

	// The creator that x gives less to finds less, and x itself goes on.
	apc := a.west.identity(ca.KindAPC, "apc")
	token, err := a.west.rights(a.x).Capability(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	less := func(template string) []byte {
		b, err := capability.Narrow(token, a.x, capability.Narrowing{Ops: capability.Find, Template: []byte(template), Delegate: apc.Public()})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	finds(t, "a delegate", a.door.as(a.west, apc, less("<service><speed>5</speed></service>")), "vault@leaf")
	finds(t, "a delegate of nothing hidden", a.door.as(a.west, apc, less("<service><speed>1</speed></service>")), "open@leaf")
	finds(t, "x itself", x, "open@leaf vault@leaf")

	a.leaf.publish(a.owner, "vault", 2, printer("vault", 5), capability.Who(a.y.ID()))
	begun := time.Now()
	finds(t, "the grant is taken back", x, "open@leaf")
	t.Logf("PROVE a grant was last found in another domain %v after it was taken back", time.Since(begun).Round(time.Millisecond))
	members(a.east, "partners", a.owner.ID())
	members(a.west, "staff")
	y = a.door.as(a.west, a.y, nil)
	finds(t, "no longer in the groups", y, "open@leaf vault@leaf")
	if err := a.east.ca.TrustDomain("west", nil); err != nil {
		t.Fatal(err)
	}
	begun = time.Now()
	a.east.adopt()
	finds(t, "the trust is taken back; north trusts both still", y, "open@leaf")
	t.Logf("PROVE what was granted to a domain was last found there %v after it was trusted no more", time.Since(begun).Round(time.Millisecond))
}

// TestWhoWasRevokedAtHomeIsNotFoundAbroad: also when it asks with a capability that holds and presents one that does not,
// a moment after the revocation it is told nothing any more.
func TestARevokedCapabilityIsPresentedInVain(t *testing.T) {
	a := newAbroad(t)
	a.leaf.publish(a.owner, "safe", 1, printer("safe", 9), "group:west/staff")
	admin := a.west.rights(a.west.identity(ca.KindUser, "admin"))
	if err := admin.SetGroup(t.Context(), "staff", []ca.ID{a.x.ID()}); err != nil {
		t.Fatal(err)
	}
	rights := a.west.rights(a.x)
	old, err := rights.Capability(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x := a.door.as(a.west, a.x, old)
	finds(t, "in the group", x, "safe@leaf")
	if err := admin.SetGroup(t.Context(), "staff", nil); err != nil {
		t.Fatal(err)
	}
	finds(t, "not in the group; its first server knows", x, "")
	if _, err := rights.Vouch(t.Context(), old); err == nil {
		t.Fatal("the manager vouches for what it revoked")
	}
	rights.Forget()
	present, err := rights.Capability(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h, err := a.leaf.node.boxes.hidden()
	if err != nil {
		t.Fatal(err)
	}
	question, err := sds.Query{}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for what, token := range map[string][]byte{"the old capability": old, "the new one without a voucher": present} {
		proof, err := newKeyring(a.x, world.Real()).present(a.leaf.id.ID(), h, "", token, nil, question)
		if err != nil {
			t.Fatal(err)
		}
		all := said(t, x, &treepb.Ask{
			Question: question, Capability: present, Proof: proof, Way: []string{string(a.root.id.ID()), string(a.leaf.id.ID())},
		})
		for _, m := range all {
			if len(m.GetSealed())+len(m.GetHits()) > 0 {
				t.Errorf("%s was presented, and answered", what)
			}
		}
	}
}

// TestAThirdDomainGuessesInVain (threat 10): the server in between, whose domain trusts both and shares a secret with each,
// knows the very names that are granted something and sees the summary; with all the keys that it has or makes up it finds
// no token there, but by chance.
func TestAThirdDomainGuessesInVain(t *testing.T) {
	guesses := 100_000
	if os.Getenv("NINJA_PROVE") == "1" {
		guesses = 1_000_000
	}
	a := newAbroad(t)
	var granted []capability.Who
	for i := range 100 {
		who := capability.Group("west/secret-" + strconv.Itoa(i))
		granted = append(granted, who)
		a.leaf.publish(a.owner, "vault"+strconv.Itoa(i), 1, printer("vault", i), who)
	}
	eventually(t, "the summary has a token for each grant", func() bool { return len(a.root.setOf("leaf")) == len(granted)+1 })
	set := a.root.setOf("leaf")
	has := func(key []byte, name capability.Who) bool {
		_, found := slices.BinarySearch(set, summary.Token(key, string(name), time.Now()))
		return found
	}
	known := 0
	for _, w := range granted {
		if has(a.door.node.cfg.Routes().Pairs["east"].There[0], w) {
			known++
		}
	}
	if known != len(granted) {
		t.Fatalf("the servers that are meant know %d of %d tokens", known, len(granted))
	}
	var keys [][]byte
	for _, p := range a.root.node.cfg.Routes().Pairs {
		keys = append(append(keys, p.Here...), p.There...)
	}
	keys = append(keys, a.root.node.cfg.Routes().Secret, nil)
	for len(keys) < guesses/len(granted) {
		made := make([]byte, 32)
		world.Real().Fill(made)
		keys = append(keys, made)
	}
	right := 0
	for _, k := range keys {
		for _, w := range granted {
			if has(k, w) {
				right++
			}
		}
	}
	t.Logf("PROVE %d guesses of a third domain: %d right (want under 0.1 %%)", len(keys)*len(granted), right)
	if right*1000 >= guesses {
		t.Error("a third domain guesses what is hidden")
	}
}

// said asks something as it is and returns all answers.
func said(t testing.TB, c *Client, a *treepb.Ask) []*treepb.Answer {
	t.Helper()
	s, err := c.stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return saidOn(t, c.cfg.World, s, a)
}

func saidOn(t testing.TB, w world.World, s *stream, a *treepb.Ask) (all []*treepb.Answer) {
	t.Helper()
	a.Query = make([]byte, 16)
	w.Fill(a.Query)
	a.TimeoutMs = 5000
	answers, err := s.ask(a)
	if err != nil {
		t.Fatal(err)
	}
	defer answers.done()
	late := time.After(10 * time.Second)
	for {
		for m, _ := answers.next(); m != nil; m, _ = answers.next() {
			all = append(all, readably(t, m))
			if m.last {
				return all
			}
		}
		select {
		case <-answers.ready:
		case <-late:
			t.Fatal("no answer in 10 s")
		}
	}
}

// readably is an answer as the protocol's definition has it.
func readably(t testing.TB, a *answer) *treepb.Answer {
	t.Helper()
	m := new(treepb.Answer)
	if err := proto.Unmarshal(appendAnswer(nil, a), m); err != nil {
		t.Fatal(err)
	}
	m.Id = 0
	return m
}

// TestHiddenIsAbsentAbroad (threats 8, 10): to all but whom an ACL names, another domain with hidden services and one
// without them answer the same, byte for byte but for times: to users and servers of the named one's domain, to servers
// that ask on a link with tokens that they guess, and to who presents a capability without having been asked for it.
func TestHiddenIsAbsentAbroad(t *testing.T) {
	rounds := 2
	if os.Getenv("NINJA_PROVE") == "1" {
		rounds = 20
		if n, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE")); err == nil && n > 0 {
			rounds *= n
		}
	}
	const seed = 11
	r := rand.New(rand.NewPCG(seed, seed))
	a := newAbroad(t)
	kinds := []string{"lamp", "vault", "printer"}
	for i := range 6 {
		a.leaf.publish(a.owner, fmt.Sprintf("open%d", i), 1, printer(kinds[r.IntN(3)], r.IntN(5)))
	}
	x := a.door.as(a.west, a.x, nil)
	askers := map[string]*Client{
		"y": a.door.as(a.west, a.y, nil), "server": a.door.as(a.west, a.door.id, nil), "north": a.root.as(a.north, a.north.identity(ca.KindUser, "x"), nil),
		"east": a.leaf.as(a.east, a.east.identity(ca.KindUser, "x"), nil),
	}
	var up *stream
	eventually(t, "the door is linked", func() bool {
		who, _ := a.door.node.neighbours("")
		for _, nb := range who {
			up = nb.stream
		}
		return up != nil
	})
	finds(t, "all that is open", x, "open0@leaf open1@leaf open2@leaf open3@leaf open4@leaf open5@leaf")
	a.root.knows("door", 0)
	a.root.knows("leaf", 6)
	answers := 0
	for round := range rounds {
		script := scriptOf(t, r, kinds)
		ask := func() map[string][]byte {
			out := map[string][]byte{}
			for i, q := range script {
				for who, c := range askers {
					out[fmt.Sprint(who, i)] = plainly(t, said(t, c, proto.Clone(q).(*treepb.Ask)))
				}
				guess := proto.Clone(q).(*treepb.Ask)
				guess.Capability, guess.Hierarchy, guess.Domain, guess.Hops = nil, "h", "west", 8
				for range 64 {
					guess.Tokens = append(guess.Tokens, r.Uint64()&(1<<40-1))
				}
				out[fmt.Sprint("guess", i)] = plainly(t, saidOn(t, world.Real(), up, guess))
				out[fmt.Sprint("unasked", i)] = plainly(t, said(t, askers["y"], a.unasked(t, q)))
			}
			return out
		}
		without := ask()
		hidden := []string{}
		for i := range 1 + r.IntN(3) {
			name := fmt.Sprintf("hidden%d-%d", round, i)
			a.leaf.publish(a.owner, name, 1, printer(kinds[r.IntN(3)], r.IntN(5)), capability.Who(a.x.ID()))
			hidden = append(hidden, name+"@leaf")
		}
		finds(t, "what is hidden", x, "open0@leaf open1@leaf open2@leaf open3@leaf open4@leaf open5@leaf "+strings.Join(hidden, " "))
		with := ask()
		for k, b := range without {
			if answers++; !bytes.Equal(b, with[k]) {
				t.Errorf("%s is told whether something is hidden: %d bytes without, %d with", k, len(b), len(with[k]))
			}
		}
		for i := range hidden {
			name, _, _ := strings.Cut(hidden[i], "@")
			a.leaf.server.Withdraw(a.owner.ID(), name, 2)
		}
		finds(t, "what is withdrawn", x, "open0@leaf open1@leaf open2@leaf open3@leaf open4@leaf open5@leaf")
	}
	t.Logf("PROVE seed %d: %d answers of pairs of worlds are identical in another domain", seed, answers)
}

// unasked presents y's capability to the leaf, which did not say that it has anything for it.
func (a *abroad) unasked(t *testing.T, q *treepb.Ask) *treepb.Ask {
	t.Helper()
	h, err := a.leaf.node.boxes.hidden()
	if err != nil {
		t.Fatal(err)
	}
	rights := a.west.rights(a.y)
	token, err := rights.Capability(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	voucher, err := rights.Vouch(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := newKeyring(a.y, world.Real()).present(a.leaf.id.ID(), h, "", token, voucher, q.GetQuestion())
	if err != nil {
		t.Fatal(err)
	}
	return &treepb.Ask{Question: q.GetQuestion(), Capability: token, Proof: proof, Way: []string{string(a.root.id.ID()), string(a.leaf.id.ID())}}
}

// scriptOf are random questions.
func scriptOf(t *testing.T, r *rand.Rand, kinds []string) (out []*treepb.Ask) {
	t.Helper()
	for range 4 {
		q := kindIs(kinds[r.IntN(len(kinds))])
		switch r.IntN(4) {
		case 0:
			q = sds.Query{}
		case 1:
			q.OrderBy, q.Limit = "speed", 1+r.IntN(3)
		case 2:
			q.Limit = 1
		}
		b, err := q.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, &treepb.Ask{Question: b, Scope: uint32(route.All), Want: uint32(r.IntN(3))})
	}
	return out
}

// plainly is all that was said but for times and encryption; how long what is encrypted is counts.
func plainly(t *testing.T, all []*treepb.Answer) []byte {
	t.Helper()
	one := &treepb.Answer{}
	for _, m := range all {
		for _, h := range m.GetHits() {
			h.GetFound().AgeMs = 0
			one.Hits = append(one.Hits, h)
		}
		for _, o := range m.GetOutcomes() {
			o.AgeMs, o.TookUs = 0, 0
			one.Outcomes = append(one.Outcomes, o)
		}
		for _, s := range m.GetSealed() {
			s.Box = make([]byte, len(s.GetBox()))
			one.Sealed = append(one.Sealed, s)
		}
		one.Code, one.Error = one.Code+m.GetCode(), one.Error+m.GetError()
	}
	slices.SortFunc(one.Outcomes, func(a, b *treepb.Outcome) int { // branches answer in any order
		return strings.Compare(a.GetServer()+a.GetVia()+a.GetHierarchy(), b.GetServer()+b.GetVia()+b.GetHierarchy())
	})
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

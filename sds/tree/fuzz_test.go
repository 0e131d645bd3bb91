package tree

import (
	"bytes"
	"context"
	"crypto/hpke"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/check"
	"ninja/sds/index"
	"ninja/sds/summary"
	"ninja/sds/tree/treepb"
)

// garden is one server's place in a hierarchy without sockets: what it is told is taken, what it says goes nowhere. Each
// process that fuzzes has another certificate authority, so that no input can hold a signature; the peer, who is a
// genuine server gone bad, signs what the input says.
type garden struct {
	t    testing.TB
	ca   *ca.Authority
	self *ca.Identity
	peer *ca.Identity
	node *Node
	h    *hierarchy
}

func newGarden(t testing.TB) *garden {
	t.Helper()
	a, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	g := &garden{t: t, ca: a}
	g.self, g.peer = g.identity(ca.KindSDS, "self"), g.identity(ca.KindSDS, "peer")
	lists := newWood(t).acls
	local, err := sds.NewServer(sds.Config{Identity: g.self, World: world.Real(), ACLs: lists, Verifier: tokens{}})
	if err != nil {
		t.Fatal(err)
	}
	if g.node, err = New(Config{Identity: g.self, World: world.Real(), Local: local, Period: time.Minute}); err != nil {
		t.Fatal(err)
	}
	g.h = newHierarchy(g.node, "h")
	g.h.ascent = &ascent{hierarchy: g.h} // it tells a parent what its children tell
	g.node.hierarchies["h"] = g.h
	ended := make(chan struct{})
	go func() { // the owner, without the links upward
		defer close(ended)
		for {
			select {
			case f := <-g.h.commands:
				f()
			case <-g.node.rootCtx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { g.node.end(); <-ended; g.node.parts.Wait() })
	return g
}

func (g *garden) identity(kind, name string) *ca.Identity {
	g.t.Helper()
	id, err := g.ca.NewIdentity(kind, name)
	if err != nil {
		g.t.Fatal(err)
	}
	return id
}

func (g *garden) peerOf(id *ca.Identity) ca.Peer {
	p, err := g.self.Verify(id.Chain())
	if err != nil {
		g.t.Fatal(err)
	}
	return p
}

// script is a stream on which the other side says what stands there and hangs up.
type script struct {
	frames []*treepb.Frame
}

func (s *script) SendMsg(any) error { return nil }

func (s *script) RecvMsg(m any) error {
	if len(s.frames) == 0 {
		return io.EOF
	}
	f := s.frames[0]
	s.frames = s.frames[1:]
	b, err := proto.Marshal(f)
	if err != nil {
		return err
	}
	return proto.Unmarshal(b, m.(proto.Message))
}

// frames reads an input. Questions and answers are left away: they have targets of their own.
func frames(b []byte) (out []*treepb.Frame) {
	r := bytes.NewReader(b)
	for len(out) < 64 {
		var f treepb.Frame
		if (protodelim.UnmarshalOptions{MaxSize: messageMost}).UnmarshalFrom(r, &f) != nil {
			break
		}
		if f.GetAsk() == nil && f.GetAnswer() == nil {
			out = append(out, &f)
		}
	}
	return out
}

func written(t testing.TB, all ...*treepb.Frame) []byte {
	var b bytes.Buffer
	for _, f := range all {
		f.Version = 1
		if _, err := protodelim.MarshalTo(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// sign puts the peer's signature below every summary that has none.
func (g *garden) sign(all []*treepb.Frame) {
	var message []byte
	for _, f := range all {
		p := f.GetPart()
		if p == nil {
			continue
		}
		if message = append(message, p.GetData()...); p.GetLast() {
			if len(p.Signature) == 0 {
				p.Signature = g.peer.Sign(summaryContext, signed("h", message))
			}
			message = nil
		}
	}
}

func sampleDoc(t testing.TB, i int) sds.PublicDoc {
	d := sampleDescription(t, fmt.Sprintf(`<service kind="printer" floor="%d"><ppm>%d</ppm><tray size="A%d"/></service>`, i%3, i, i%5))
	return sds.PublicDoc{ID: fmt.Sprint("s", i), By: "spiffe://test/base/b", Tree: d}
}

func sampleDescription(t testing.TB, text string) *index.Tree {
	t.Helper()
	d, err := check.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return index.Pack(d)
}

func samplePlan(kinds ...index.Kind) summary.Plan {
	var keys []summary.Key
	for _, kind := range kinds {
		for _, tag := range []string{"@kind", "@floor", "ppm", "@size"} {
			keys = append(keys, summary.KeyOf(kind, tag))
		}
	}
	slices.Sort(keys)
	return summary.Plan{Epoch: 3, Pairs: keys, Triples: keys[:len(keys)/2]}
}

func helloFrame() *treepb.Frame {
	return &treepb.Frame{Kind: &treepb.Frame_Hello{Hello: &treepb.Hello{Hierarchy: "h", Address: "127.0.0.1:9"}}}
}

func beatFrame(b *treepb.Beat) *treepb.Frame { return &treepb.Frame{Kind: &treepb.Frame_Beat{Beat: b}} }

// summaryFrames are those of a whole summary and of a change.
func summaryFrames(t testing.TB, plan summary.Plan) (out []*treepb.Frame) {
	var c summary.Counting
	put := func(i int, f func(summary.Term)) {
		d := sampleDoc(t, i)
		plan.Terms(summary.Describe(string(d.By), d.Tree), f)
	}
	part := func(m *summary.Message) {
		b := m.Encode()
		half := len(b) / 2
		out = append(out, &treepb.Frame{Kind: &treepb.Frame_Part{Part: &treepb.Part{Data: b[:half]}}},
			&treepb.Frame{Kind: &treepb.Frame_Part{Part: &treepb.Part{Data: b[half:], Last: true}}})
	}
	for i := range 5 {
		put(i, c.Add)
	}
	n, sum := c.Len(), c.Check()
	part(&summary.Message{Sequence: 1, Services: 5, Plan: plan, Terms: n, Check: sum, Added: c.Set()})
	put(5, c.Add)
	put(0, c.Remove)
	m := &summary.Message{Sequence: 2, Change: true, Services: 5, Plan: plan, Terms: c.Len(), Check: c.Check()}
	m.Added, m.Removed = c.Delta()
	part(m)
	return out
}

func share(f float64) bool { return f >= 0 && f <= 1 }

// FuzzChild: whatever a child says, its parent keeps to its bounds: shares are shares, what it tells of the child goes
// with the child, and its plan is one.
func FuzzChild(f *testing.F) {
	plan := samplePlan(index.Text, index.Numeric)
	told := summaryFrames(f, plan)
	f.Add(written(f, append([]*treepb.Frame{helloFrame()}, told...)...))
	wish := &treepb.Wish{Key: uint32(plan.Pairs[0]), Pairs: 5, Triples: 2}
	f.Add(written(f, helloFrame(), told[0], told[1], beatFrame(&treepb.Beat{Sequence: 1, Wishes: []*treepb.Wish{wish}, Useless: 0.25})))
	f.Add(written(f, helloFrame(), beatFrame(&treepb.Beat{Sequence: 9, Useless: math.Inf(1)}), beatFrame(&treepb.Beat{Sequence: 9}), &treepb.Frame{Kind: &treepb.Frame_Leave{Leave: true}}))
	f.Add(written(f, helloFrame(), beatFrame(&treepb.Beat{Useless: math.NaN(), Wishes: []*treepb.Wish{{Key: 1, Pairs: math.NaN(), Triples: math.Inf(1)}, {Key: 2, Pairs: -1}}})))
	f.Add(written(f, helloFrame(), &treepb.Frame{Kind: &treepb.Frame_Cancel{Cancel: 7}}, &treepb.Frame{Kind: &treepb.Frame_Resync{Resync: true}}))
	f.Add(written(f, &treepb.Frame{Kind: &treepb.Frame_Hello{Hello: &treepb.Hello{Hierarchy: "UP", SpawnedBy: "spiffe://test/sds/self"}}}))
	g := newGarden(f)
	peer := g.peerOf(g.peer)
	f.Fuzz(func(t *testing.T, b []byte) {
		all := frames(b)
		if len(all) == 0 || all[0].GetHello() == nil {
			return
		}
		h, err := g.node.admit(all[0].GetHello(), peer)
		if err != nil || h != g.h {
			if len(g.node.all()) > hierarchiesMost {
				t.Fatalf("a child opened %d hierarchies", len(g.node.all()))
			}
			return
		}
		g.sign(all)
		_ = h.serveChild(newStream(t.Context(), peer, &script{frames: all[1:]}, asksAtOnce), all[0].GetHello())
		h.wait(t.Context(), func() { err = g.settle(peer.ID) })
		if err != nil {
			t.Fatal(err)
		}
	})
}

// settle ends a period after a child has gone, says what is wrong with what the child left, and forgets it.
func (g *garden) settle(child ca.ID) error {
	h := g.h
	c := h.children[child]
	h.period()
	if !share(h.useless) {
		return fmt.Errorf("of the forwards below %v found nothing", h.useless)
	}
	if c != nil {
		if !share(c.useless) || c.table.Terms() > summary.MaxTerms || len(c.wishes) > summary.WishesMost || len(c.parts) > summary.MaxMessage {
			return fmt.Errorf("of a child is kept: useless %v, %d terms, %d wishes", c.useless, c.table.Terms(), len(c.wishes))
		}
		if c.table.Check() != summary.CheckOf(c.table.Set()) {
			return errors.New("the checksum of a child's summary is not that of its terms")
		}
		var asked summary.Demand
		asked.Add(c.wishes)
		var planner summary.Planner
		if p, _ := planner.Next(&asked, h.useless); p.Check() != nil {
			return fmt.Errorf("the plan that a child's wishes make: %w", p.Check())
		}
		h.forget(child, c)
	}
	if h.content.terms.Len() != 0 || h.content.terms.Check() != 0 {
		return fmt.Errorf("%d terms of a child that is gone are told on", h.content.terms.Len())
	}
	h.publish()
	return nil
}

// FuzzParent: whatever a parent says, a child has a plan that is one and tells its services by it, and a line of
// ancestors that it is not part of.
func FuzzParent(f *testing.F) {
	welcome := func(w *treepb.Welcome) *treepb.Frame {
		return &treepb.Frame{Kind: &treepb.Frame_Welcome{Welcome: w}}
	}
	for _, p := range []summary.Plan{samplePlan(index.Text), samplePlan(index.Text, index.Numeric, index.Present), {}} {
		f.Add(written(f, welcome(&treepb.Welcome{Line: []string{"spiffe://test/sds/root"}, Sequence: 2, Check: 5, PeriodMs: 1000}),
			beatFrame(&treepb.Beat{Plan: planMessage(p), Line: []string{"spiffe://test/sds/root"}}), beatFrame(&treepb.Beat{Plan: planMessage(samplePlan(index.Numeric))})))
	}
	f.Add(written(f, welcome(&treepb.Welcome{Refused: "no"})))
	f.Add(written(f, welcome(&treepb.Welcome{}), &treepb.Frame{Kind: &treepb.Frame_Resync{Resync: true}}, beatFrame(&treepb.Beat{Line: []string{"spiffe://test/sds/self"}})))
	g := newGarden(f)
	peer, h := g.peerOf(g.peer), g.h
	var docs []sds.PublicDoc
	for i := range 6 {
		docs = append(docs, sampleDoc(f, i))
	}
	h.wait(context.Background(), func() { h.content.replace(docs) })
	f.Fuzz(func(t *testing.T, b []byte) {
		all := frames(b)
		if len(all) == 0 || all[0].GetWelcome().GetRefused() != "" {
			return
		}
		line, err := h.lineFrom(peer.ID, all[0].GetWelcome().GetLine())
		if err != nil {
			return
		}
		_ = h.ascent.serveParent(newStream(t.Context(), peer, &script{frames: all[1:]}, asksAtOnce), "", line, all[0].GetWelcome())
		h.wait(t.Context(), func() { err = g.followed(docs) })
		if err != nil {
			t.Fatal(err)
		}
	})
}

// followed says what is wrong with what a parent has left.
func (g *garden) followed(docs []sds.PublicDoc) error {
	h := g.h
	if err := h.content.plan.Check(); err != nil {
		return err
	}
	if len(h.line) > lineMost+1 || slices.Contains(h.line, h.self) {
		return fmt.Errorf("a line of %d ancestors: %v", len(h.line), h.line)
	}
	var fresh summary.Counting
	for i := range docs {
		h.content.plan.Terms(summary.Describe(string(docs[i].By), docs[i].Tree), fresh.Add)
	}
	if fresh.Check() != h.content.terms.Check() || fresh.Len() != h.content.terms.Len() {
		return fmt.Errorf("after a change of plan %d terms are told, want %d", h.content.terms.Len(), fresh.Len())
	}
	return nil
}

// FuzzPresentation: a server takes what is presented to it when it is what the client signed, for this server and
// question, and nothing else, whatever a stranger seals to its key.
func FuzzPresentation(f *testing.F) {
	marshal := func(m *treepb.Presentation) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	genuine := &treepb.Presentation{Capability: []byte("spiffe://test/user/ann"), Key: bytes.Repeat([]byte{7}, keySize), Nonce: make([]byte, 16), Origin: "127.0.0.1:9"}
	f.Add(marshal(genuine), []byte("question"), uint16(0), byte(0))
	f.Add(marshal(genuine), []byte("question"), uint16(40), byte(1))
	f.Add(marshal(genuine), []byte("another"), uint16(0), byte(0))
	f.Add(marshal(&treepb.Presentation{Key: []byte("short"), Chain: [][]byte{{1}, {2}}, Signature: []byte("x")}), []byte("question"), uint16(0), byte(0))
	f.Add([]byte{0xff}, []byte{}, uint16(0), byte(0))
	g := newGarden(f)
	client, boxes := g.identity(ca.KindUser, "ann"), g.node.boxes
	question := []byte("question")
	f.Fuzz(func(t *testing.T, plain, asked []byte, at uint16, flip byte) {
		if _, err := boxes.take(plain, asked); err == nil {
			t.Fatal("what is not sealed was taken")
		}
		var p, seen treepb.Presentation
		if proto.Unmarshal(plain, &p) == nil {
			if len(p.Chain) == 0 {
				p.Chain = client.Chain()
			}
			p.UnixMs += g.self.Now().UnixMilli()
			if len(p.Signature) == 0 {
				p.Signature = client.Sign(proofContext, proofOf(g.self.ID(), question, &p))
			}
			plain = marshal(&p)
		}
		if len(plain) > 0 {
			plain[int(at)%len(plain)] ^= flip
		}
		sealed, err := hpke.Seal(boxes.now.PublicKey(), kdf(), aead(), []byte(hpkeInfo+string(g.self.ID())), plain)
		if err != nil {
			t.Fatal(err)
		}
		s, err := boxes.take(sealed, asked)
		if err != nil {
			return
		}
		if proto.Unmarshal(plain, &seen) != nil || !bytes.Equal(asked, question) || s.peer.ID != client.ID() ||
			!bytes.Equal(proofOf(g.self.ID(), asked, &seen), proofOf(g.self.ID(), question, &p)) || !bytes.Equal(s.key, p.Key) || !bytes.Equal(s.capability, p.Capability) {
			t.Fatalf("taken is what %s did not sign: %v", client.ID(), &seen)
		}
		if age := g.self.Now().Sub(time.UnixMilli(seen.UnixMs)); age.Abs() > proofSkew+time.Second {
			t.Fatalf("a proof of %v ago", age)
		}
		if len(boxes.shown) > shownMost {
			t.Fatalf("%d presentations are kept", len(boxes.shown))
		}
	})
}

// FuzzSealed: a client opens what was sealed for it, for this question and by this server, and nothing else; a handle
// stands for what was presented only with its MAC; and a capability goes only to a key that the server has signed.
func FuzzSealed(f *testing.F) {
	g := newGarden(f)
	key, query := bytes.Repeat([]byte{9}, keySize), bytes.Repeat([]byte{4}, 16)
	answer := &treepb.Answer{Hits: []*treepb.Hit{{Server: "spiffe://test/sds/self", Rank: 1, Text: "t"}}}
	f.Add([]byte("spiffe://test/sds/self"), []byte{}, uint16(0), byte(0))
	f.Add([]byte("spiffe://test/sds/self"), []byte{}, uint16(9), byte(1))
	f.Add([]byte("spiffe://test/sds/other"), []byte("no box, but long enough to be one"), uint16(0), byte(0))
	f.Add([]byte{}, []byte{1, 2, 3}, uint16(1), byte(255))
	client := g.identity(ca.KindUser, "ann")
	genuine, err := g.node.boxes.hidden()
	if err != nil {
		f.Fatal(err)
	}
	g.node.boxes.shown[handleOf(key)] = &shown{key: key}
	f.Fuzz(func(t *testing.T, server, box1 []byte, at uint16, flip byte) {
		b, err := box(g.node.cfg.World, key, g.self.ID(), query, answer)
		if err != nil {
			t.Fatal(err)
		}
		touched := flip != 0 || len(box1) > 0 || string(server) != b.Server
		if b.Server = string(server); len(box1) > 0 {
			b.Box = box1
		}
		b.Box[int(at)%len(b.Box)] ^= flip
		got, err := openBox(key, query, b)
		if (err == nil) == touched || err == nil && !proto.Equal(got, answer) {
			t.Fatalf("opened: %v, %v", got, err)
		}
		handle, mac := handleOf(key), macOf(key, query, server)
		mac[int(at)%len(mac)] ^= flip
		all := []*treepb.Shown{{Handle: box1, Mac: mac}, {Handle: handle[:], Mac: mac}}
		if (g.node.boxes.find(all, query, server) != nil) != (flip == 0) {
			t.Fatalf("a handle whose MAC is wrong by %d is taken: %v", flip, flip != 0)
		}
		h := proto.Clone(genuine).(*treepb.Hidden)
		switch field := at % 3; {
		case field == 0:
			h.Key[int(at)%len(h.Key)] ^= flip
		case field == 1:
			h.Signature[int(at)%len(h.Signature)] ^= flip
		case len(box1) > 0:
			h.Key, flip = box1, 1
		default:
			h.Chain[0], flip = server, 1
		}
		proof, err := newKeyring(client, world.Real()).present(g.self.ID(), h, "127.0.0.1:9", []byte("capability"), nil, server)
		if (err == nil) != (flip == 0) || err != nil && proof != nil {
			t.Fatalf("a capability was sealed to a key that is not the server's: %v", err)
		}
		if _, err := newKeyring(client, world.Real()).present(g.peer.ID(), genuine, "", nil, nil, nil); err == nil {
			t.Fatal("a capability for one server was sealed to another")
		}
	})
}

// FuzzHandOver: whatever the server that started this one hands over, nothing is taken that its owner did not sign.
func FuzzHandOver(f *testing.F) {
	g := newGarden(f)
	seed := func(m *treepb.HandOverRequest) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	seed(&treepb.HandOverRequest{Version: 1})
	seed(&treepb.HandOverRequest{Version: 1, Services: []*treepb.Service{{Owner: "spiffe://test/base/b", LifetimeMs: 1000}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m treepb.HandOverRequest
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		if refused := g.node.takeOver(&m); len(refused) != len(m.GetServices()) {
			t.Fatalf("of %d services that nobody signed %d are refused", len(m.GetServices()), len(refused))
		}
	})
}

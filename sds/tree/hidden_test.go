package tree

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/route"
	"ninja/sds/tree/treepb"
)

// TestHiddenServicesAreFoundByTheirGrants: a query is routed to what only its grants open, the capability is presented
// there and nowhere else, and who has no grant is told nothing: not even that the branch was of interest.
func TestHiddenServicesAreFoundByTheirGrants(t *testing.T) {
	w := newWood(t)
	owner := w.identity(ca.KindBase, "b")
	root := w.grow("root")
	mid := w.grow("mid", "h=root")
	leaf := w.grow("leaf", "h=mid")
	other := w.grow("other", "h=root")
	asked := w.grow("asked", "h=root")
	leaf.publish(owner, "vault", 1, printer("vault", 1), "group:staff")
	leaf.publish(owner, "open", 1, printer("printer", 1))
	other.publish(owner, "lamp", 1, printer("lamp", 1))
	root.knows("mid", 1)
	root.knows("other", 1)
	mid.knows("leaf", 1)
	staff := asked.client(w.identity(ca.KindUser, "ann"), "group:staff")
	eventually(t, "the holder of the grant finds it", func() bool {
		return names(ask(t, staff, kindIs("vault"), Options{Scope: route.All})) == "vault@leaf"
	})
	a := ask(t, staff, kindIs("vault"), Options{Scope: route.All})
	if o := outcomes(a); names(a) != "vault@leaf" || o["other"] != "pruned" || o["mid"] != "searched" || !a.Complete() {
		t.Errorf("found %s by %v", names(a), o)
	}
	for _, o := range a.Outcomes {
		if o.Hidden {
			t.Errorf("%s was presented the capability before, and asks for it again", o.Server)
		}
	}
	stranger := asked.client(w.identity(ca.KindUser, "eve"), "group:visitors")
	b := ask(t, stranger, kindIs("vault"), Options{Scope: route.All})
	if o := outcomes(b); len(b.Found) != 0 || o["mid"] != "pruned" {
		t.Errorf("who has no grant found %s by %v", names(b), o)
	}
	// The owner's own grant leads there too.
	if a := ask(t, asked.client(owner), kindIs("vault"), Options{Scope: route.All}); names(a) != "vault@leaf" {
		t.Errorf("the owner found %s", names(a))
	}
	// A server that has forgotten is presented the capability again.
	leaf.node.boxes.mu.Lock()
	clear(leaf.node.boxes.shown)
	leaf.node.boxes.mu.Unlock()
	if a := ask(t, staff, kindIs("vault"), Options{Scope: route.All}); names(a) != "vault@leaf" {
		t.Errorf("after the server has forgotten: found %s", names(a))
	}
}

// TestWhatIsPresentedFitsNowhereElse (threat 6): mutated, replayed to another server, for another question, by another
// client, too late: none is taken.
func TestWhatIsPresentedFitsNowhereElse(t *testing.T) {
	w := newWood(t)
	here, there, ann := w.identity(ca.KindSDS, "here"), w.identity(ca.KindSDS, "there"), w.identity(ca.KindUser, "ann")
	b, err := newBoxes(here)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := newBoxes(there)
	if err != nil {
		t.Fatal(err)
	}
	h, _ := b.hidden()
	present := func(world world.World) *treepb.Proof {
		p, err := newKeyring(ann, world).present(here.ID(), h, "origin", []byte("capability"), nil, []byte("question"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := present(world.Real())
	if s, err := b.take(good.GetSealed(), []byte("question")); err != nil || s.peer.ID != ann.ID() || string(s.capability) != "capability" {
		t.Fatalf("what was presented is not taken: %v", err)
	}
	if _, err := b.take(good.GetSealed(), []byte("other question")); err == nil {
		t.Error("a proof of one question was taken for another")
	}
	if _, err := elsewhere.take(good.GetSealed(), []byte("question")); err == nil {
		t.Error("what was presented to one server was taken by another")
	}
	late := world.Real()
	late.Now = func() time.Time { return time.Now().Add(-2 * proofSkew) }
	if _, err := b.take(present(late).GetSealed(), []byte("question")); err == nil {
		t.Error("a proof of two minutes ago was taken")
	}
	if _, err := newKeyring(ann, world.Real()).present(there.ID(), h, "origin", nil, nil, nil); err == nil {
		t.Error("the key of one server was taken for that of another")
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		bad := bytes.Clone(good.GetSealed())
		bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		if _, err := b.take(bad, []byte("question")); err == nil {
			t.Fatal("mutated bytes were taken")
		}
	}
	query := bytes.Repeat([]byte{7}, 16)
	key := bytes.Repeat([]byte{9}, keySize)
	box, err := box(world.Real(), key, here.ID(), query, &treepb.Answer{Error: "the vault is open"})
	if err != nil {
		t.Fatal(err)
	}
	if raw, _ := proto.Marshal(box); bytes.Contains(raw, []byte("vault")) {
		t.Error("who passes on an answer can read it")
	}
	if m, err := openBox(key, query, box); err != nil || m.GetError() != "the vault is open" {
		t.Errorf("the client cannot read its answer: %v", err)
	}
	for i := range box.Box {
		box.Box[i] ^= 1
		if _, err := openBox(key, query, box); err == nil {
			t.Fatal("a mutated answer was taken")
		}
		box.Box[i] ^= 1
	}
	if _, err := openBox(key, bytes.Repeat([]byte{8}, 16), box); err == nil {
		t.Error("the answer to one question was taken for another's")
	}
}

// TestNarrowingHoldsEverywhere: what a capability is narrowed to is conjoined at every server, not only at the first.
func TestNarrowingHoldsEverywhere(t *testing.T) {
	w := newWood(t)
	owner := w.identity(ca.KindBase, "b")
	root, leaf := w.grow("root"), w.grow("leaf", "h=root")
	leaf.publish(owner, "slow", 1, printer("printer", 1))
	leaf.publish(owner, "fast", 1, printer("printer", 9))
	root.knows("leaf", 2)
	ann := w.identity(ca.KindUser, "ann")
	token := []byte(string(ann.ID()) + "\nnarrow <service><speed>9</speed></service>")
	c, err := Dial(sds.ClientConfig{Identity: ann, World: world.Real(), Address: root.address, Capability: func(context.Context) ([]byte, error) { return token, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if a := ask(t, c, kindIs("printer"), Options{Scope: route.All}); names(a) != "fast@leaf" {
		t.Errorf("a capability that is narrowed to the fast found %s", names(a))
	}
}

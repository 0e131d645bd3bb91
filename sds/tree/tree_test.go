package tree

import (
	"fmt"
	"testing"

	"ninja/ca"
	"ninja/sds"
	"ninja/sds/route"
)

func printer(kind string, i int) string {
	return fmt.Sprintf(`<service kind="%s"><speed>%d</speed></service>`, kind, i)
}

func kindIs(kind string) sds.Query {
	return sds.Query{Template: []byte(fmt.Sprintf(`<service kind="%s"/>`, kind))}
}

// TestAQueryFindsWhatIsAnywhere (ninja-architecture 6.2: "to allow queries from all clients to reach services on all SDS
// servers"): three levels, asked at a leaf; what cannot match is ruled out.
func TestAQueryFindsWhatIsAnywhere(t *testing.T) {
	w := newWood(t)
	owner := w.identity(ca.KindBase, "b")
	root := w.grow("root")
	for i := range 2 {
		mid := w.grow(fmt.Sprint("m", i), "h=root")
		for j := range 2 {
			leaf := w.grow(fmt.Sprintf("l%d%d", i, j), "h="+fmt.Sprint("m", i))
			leaf.publish(owner, fmt.Sprintf("p%d%d", i, j), 1, printer("printer", 10*i+j))
			leaf.publish(owner, fmt.Sprintf("x%d%d", i, j), 1, printer(fmt.Sprintf("only%d%d", i, j), 3))
			mid.knows(fmt.Sprintf("l%d%d", i, j), 2)
		}
		root.knows(fmt.Sprint("m", i), 4)
	}
	c := w.by["l00"].client(w.identity(ca.KindUser, "ann"))
	if a := ask(t, c, kindIs("printer"), Options{Scope: route.All}); names(a) != "p00@l00 p01@l01 p10@l10 p11@l11" || !a.Complete() {
		t.Errorf("found %s: %v", names(a), outcomes(a))
	}
	if a := ask(t, c, kindIs("printer"), Options{Scope: route.Local}); names(a) != "p00@l00" {
		t.Errorf("scope local found %s", names(a))
	}
	a := ask(t, c, kindIs("only11"), Options{Scope: route.All})
	if o := outcomes(a); names(a) != "x11@l11" || o["l01"] != "pruned" || o["l10"] != "pruned" || o["m1"] != "searched" || o["root"] != "searched" {
		t.Errorf("found %s by %v", names(a), o)
	}
	q := kindIs("printer")
	q.OrderBy, q.Descending, q.Limit = "speed", true, 2
	if a := ask(t, c, q, Options{Scope: route.All}); names(a) != "p11@l11 p10@l10" {
		t.Errorf("the fastest are %s", names(a))
	}
	q = kindIs("printer")
	q.Limit = 1
	if a := ask(t, c, q, Options{Scope: route.All, First: true}); len(a.Found) != 1 || outcomes(a)["m0"] != "unneeded" {
		t.Errorf("the first is %s: %v", names(a), outcomes(a))
	}
}

// TestALostBranchIsNamed, and found again when it is back; what it keeps serving meanwhile is found there.
func TestALostBranchIsNamed(t *testing.T) {
	w := newWood(t)
	owner := w.identity(ca.KindBase, "b")
	root, a, b := w.grow("root"), w.grow("a", "h=root"), w.grow("b", "h=root")
	a.publish(owner, "pa", 1, printer("printer", 1))
	b.publish(owner, "pb", 1, printer("printer", 2))
	root.knows("a", 1)
	root.knows("b", 1)
	c := a.client(w.identity(ca.KindUser, "ann"))
	b.stop()
	eventually(t, "b is named unreachable", func() bool {
		x := ask(t, c, kindIs("printer"), Options{Scope: route.All})
		return names(x) == "pa@a" && outcomes(x)["b"] == "unreachable" && !x.Complete()
	})
	root.stop()
	eventually(t, "the root is named unreachable", func() bool {
		x := ask(t, c, kindIs("printer"), Options{Scope: route.All})
		return names(x) == "pa@a" && outcomes(x)["root"] == "unreachable"
	})
	root.start(func(*Config) {})
	t.Cleanup(func() { root.stop() })
	b.start(func(c *Config) { c.Parents = []Parent{{Hierarchy: "h", Addresses: []string{root.address}}} })
	t.Cleanup(func() { b.stop() })
	b.publish(owner, "pb", 1, printer("printer", 2))
	eventually(t, "all is found again", func() bool {
		x := ask(t, c, kindIs("printer"), Options{Scope: route.All})
		return names(x) == "pa@a pb@b" && x.Complete()
	})
}

// TestWhatGoesIsForgotten: a service that is withdrawn is gone from the summaries too.
func TestWhatGoesIsForgotten(t *testing.T) {
	w := newWood(t)
	owner := w.identity(ca.KindBase, "b")
	root, a := w.grow("root"), w.grow("a", "h=root")
	a.publish(owner, "pa", 1, printer("printer", 1))
	root.knows("a", 1)
	a.server.Withdraw(owner.ID(), "pa", 2)
	root.knows("a", 0)
	c := root.client(w.identity(ca.KindUser, "ann"))
	if x := ask(t, c, kindIs("printer"), Options{Scope: route.All}); outcomes(x)["a"] != "pruned" {
		t.Errorf("a query for what is gone: %v", outcomes(x))
	}
}

// TestNoServerIsItsOwnAncestor: three servers each of which names the next as its parent end as a chain, whichever of
// them was first, and stay one.
func TestNoServerIsItsOwnAncestor(t *testing.T) {
	w := newWood(t)
	a := w.grow("a")
	b := w.grow("b", "h=a")
	c := w.grow("c", "h=b", "other=a")
	eventually(t, "c knows its line", func() bool { return len(c.line("h")) == 2 })
	a.stop()
	a.start(func(cfg *Config) {
		cfg.Parents = []Parent{{Hierarchy: "h", Addresses: []string{c.address}}, {Hierarchy: "fine", Addresses: []string{b.address}}}
	})
	t.Cleanup(func() { a.stop() })
	eventually(t, "the other hierarchy is joined", func() bool { return len(a.line("fine")) == 1 })
	stood := 0
	eventually(t, "one of the three stands above the others", func() bool {
		lines := len(a.line("h")) + len(b.line("h")) + len(c.line("h"))
		if stood++; lines != 0+1+2 {
			stood = 0
		}
		return stood > 50
	})
}

// line is the ancestors of a server.
func (p *plant) line(hierarchy string) (out []ca.ID) {
	h, err := p.node.hierarchy(hierarchy)
	if err != nil {
		p.wood.t.Fatal(err)
	}
	h.wait(h.ctx, func() { out = h.line })
	return out
}

package sds

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/capability"
	"ninja/sds/announce"
	"ninja/sds/index"
	"ninja/sds/sdspb"
)

// Pages join to the whole answer in its order, and say when there is more.
func TestPages(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	const n = 57
	for i := range n {
		name := fmt.Sprintf("p%02d", i*11%n)
		w.publish(owner, name, 1, fmt.Sprintf(printer, name, i%5, i%3))
		w.allow(owner, name, capability.Who(fmt.Sprint("group:", i%4)))
		w.server.Refresh(owner.ID(), time.Minute, []announce.Pair{{Name: name, Version: 1, Numbers: map[string]float64{"load": float64(i % 7)}}})
	}
	ctx := context.Background()
	c := w.client(w.identity(ca.KindUser, "u"), "group:0", "group:1", "group:2")
	for _, q := range []Query{
		{}, {OrderBy: "load"}, {OrderBy: "load", Descending: true}, {OrderBy: "@name", Descending: true}, {OrderBy: "floor"},
		{Template: []byte(`<service><floor>3</floor></service>`)}, {XPath: "//node[@cores > 0]", OrderBy: "nothing"},
	} {
		whole, err := c.Page(ctx, q)
		if err != nil || whole.More || len(whole.Found) == 0 {
			t.Fatal(len(whole.Found), whole.More, err)
		}
		for _, size := range []int{1, 4, len(whole.Found) - 1, len(whole.Found)} {
			q.Limit, q.After = size, nil
			p, err := c.Page(ctx, q)
			if err != nil || p.More != (size < len(whole.Found)) || !slices.Equal(names(p.Found), names(whole.Found[:size])) {
				t.Fatalf("%+v: %v more %v, %v", q, names(p.Found), p.More, err)
			}
			var got []Found
			for f, err := range c.All(ctx, q) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, f)
			}
			if !slices.Equal(names(got), names(whole.Found)) {
				t.Errorf("%+v:\n got %v\nwant %v", q, names(got), names(whole.Found))
			}
		}
	}
}

// A cursor stays good while others come and go: what is there all the time is told once.
func TestCursorsSurviveChanges(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	for i := range 40 {
		w.publish(owner, fmt.Sprintf("stays%02d", i), 1, "<a/>")
		w.publish(owner, fmt.Sprintf("goes%02d", i), 1, "<a/>")
	}
	c, random := w.client(owner), rand.New(rand.NewPCG(1, 1))
	seen := map[string]int{}
	i := 0
	for f, err := range c.All(context.Background(), Query{Limit: 3}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[f.Name]++
		w.server.Withdraw(owner.ID(), fmt.Sprintf("goes%02d", random.IntN(40)), 1)
		w.publish(owner, fmt.Sprint("new", i), 1, "<a/>")
		if i++; i > 1000 {
			t.Fatal("no end")
		}
	}
	for i := range 40 {
		if n := seen[fmt.Sprintf("stays%02d", i)]; n != 1 {
			t.Errorf("stays%02d was told %d times", i, n)
		}
	}
	for name, n := range seen {
		if n > 1 {
			t.Errorf("%s was told %d times", name, n)
		}
	}
}

// A cursor is good for nobody else, for nothing else, and says nothing.
func TestCursorsAreSealed(t *testing.T) {
	w := newTown(t)
	owner, other := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "u")
	for i := range 5 {
		w.publish(owner, fmt.Sprint("secret", i), 1, `<a><b>secret</b></a>`)
		w.allow(owner, fmt.Sprint("secret", i), capability.Everyone)
	}
	ctx := context.Background()
	q := Query{Limit: 2, OrderBy: "b"}
	p, err := w.client(owner).Page(ctx, q)
	if err != nil || !p.More {
		t.Fatal(p, err)
	}
	if strings.Contains(string(p.Cursor), "secret") {
		t.Error("the cursor shows what it holds")
	}
	refused := func(what string, c *Client, q Query) {
		t.Helper()
		if _, err := c.Page(ctx, q); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "from the beginning") {
			t.Errorf("%s: %v", what, err)
		}
	}
	q.After = p.Cursor
	mine := w.client(owner)
	refused("another principal", w.client(other), q)
	for what, change := range map[string]func(*Query){
		"another order":   func(q *Query) { q.Descending = true },
		"another owner":   func(q *Query) { q.By = other.ID() },
		"another query":   func(q *Query) { q.XPath = "/a" },
		"another choice":  func(q *Query) { q.Select = []string{"b"} },
		"a changed bit":   func(q *Query) { q.After = slices.Clone(q.After); q.After[len(q.After)/2] ^= 1 },
		"a short one":     func(q *Query) { q.After = q.After[:5] },
		"a very long one": func(q *Query) { q.After = make([]byte, maxCursor+1) },
	} {
		x := q
		change(&x)
		refused(what, mine, x)
	}
	q.Limit = 10 // may change
	if p, err := mine.Page(ctx, q); err != nil || len(p.Found) != 3 || p.More {
		t.Error(p, err)
	}
}

// Values of paths come instead of descriptions when they are asked for.
func TestSelect(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	w.publish(owner, "p", 1, `<service xmlns="urn:x"><floor> 3 </floor><node cores="2"/><node cores="4"/></service>`)
	c := w.client(owner)
	found, err := c.Query(context.Background(), Query{Select: []string{"floor", "node/@cores", "nothing"}})
	if err != nil || len(found) != 1 || found[0].Description != nil || !reflect.DeepEqual(found[0].Values, [][]string{{"3"}, {"2", "4"}, nil}) || found[0].ID != string(owner.ID())+"#p" {
		t.Errorf("%+v, %v", found, err)
	}
	for _, bad := range [][]string{{"a:b"}, make([]string, selectMost+1)} {
		if _, err := c.Query(context.Background(), Query{Select: bad}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// Who did not ask for values is not given any.
	unsigned, err := new(kept).item(wireFound{owner: string(owner.ID()), name: "p", values: [][]string{{"x"}}}, 0)
	if f := c.open([]item{unsigned}, 0); len(f) != 0 || err != nil {
		t.Errorf("unsigned: %+v, %v", f, err)
	}
}

// "Order by id does not visit every match when the limit is small."
func TestFirstByIDAreCheap(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	for i := range 3000 {
		w.publish(owner, fmt.Sprintf("p%04d", i*7%3000), 1, fmt.Sprintf("<a><b>%d</b></a>", i%2))
	}
	ask := func(q *sdspb.Question) (*result, int) {
		x, err := w.server.compile(owner.ID(), q)
		if err != nil {
			t.Fatal(err)
		}
		res, used, err := w.server.look(context.Background(), rights{grants: []capability.Who{capability.Who(owner.ID())}}, x, index.Fuel)
		if err != nil {
			t.Fatal(err)
		}
		return res, used
	}
	for _, template := range []string{"<a/>", "<a><b>1</b></a>"} {
		few, used := ask(&sdspb.Question{Template: []byte(template), Limit: 5})
		all, most := ask(&sdspb.Question{Template: []byte(template), CountOnly: true})
		if len(few.hits) != 5 || all.count < 1500 || used > most/50 {
			t.Errorf("%s: the first 5 of %d used %d, all of them %d", template, all.count, used, most)
		}
	}
}

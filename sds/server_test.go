package sds

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"ninja/ca"
	"ninja/capability"
	"ninja/sds/announce"
)

const printer = `<service xmlns="urn:ninja:service:1" kind="printer" name="%s"><floor>%d</floor><node cores="%d"/></service>`

// "A client queries its SDS server over an authenticated channel to pass in a XML service template and its access
// rights in the form of capabilities. The server ... find[s] services accessible to the client which satisfy the query."
func TestQueryFindsWhatIsAccessible(t *testing.T) {
	w := newTown(t)
	owner, user := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "u")
	for i := range 5 {
		w.publish(owner, fmt.Sprint("p", i), 1, fmt.Sprintf(printer, fmt.Sprint("p", i), i, 8-i))
	}
	w.allow(owner, "p1", capability.Everyone)
	w.allow(owner, "p2", capability.Who(user.ID()))
	w.allow(owner, "p3", "group:staff")
	ctx := context.Background()
	q := Query{Template: []byte(`<service kind="printer"/>`)}
	for _, tc := range []struct {
		who  string
		c    *Client
		want []string
	}{
		{"owner", w.client(owner), []string{"p0", "p1", "p2", "p3", "p4"}},
		{"user", w.client(user), []string{"p1", "p2"}},
		{"staff", w.client(user, "group:staff"), []string{"p1", "p2", "p3"}},
		{"stranger", w.client(w.identity(ca.KindUser, "x")), []string{"p1"}},
	} {
		found, err := tc.c.Query(ctx, q)
		if err != nil || !reflect.DeepEqual(names(found), tc.want) {
			t.Errorf("%s: found %v, want %v; error %v", tc.who, names(found), tc.want, err)
		}
		if n, err := tc.c.Count(ctx, q); n != len(tc.want) || err != nil {
			t.Errorf("%s: count %d, want %d; error %v", tc.who, n, len(tc.want), err)
		}
	}
	c := w.client(owner)
	found, err := c.Query(ctx, Query{Template: []byte(`<service><floor q:at-least="1" q:less="4" xmlns:q="urn:ninja:query:1"/></service>`), OrderBy: "node/@cores", Limit: 2})
	if err != nil || !reflect.DeepEqual(names(found), []string{"p3", "p2"}) {
		t.Errorf("ordered: %v, %v", names(found), err)
	}
	w.server.Refresh(owner.ID(), time.Minute, []announce.Pair{{Name: "p0", Version: 1, Numbers: map[string]float64{"load": 2}}, {Name: "p4", Version: 1, Numbers: map[string]float64{"load": 1}}})
	found, err = c.Query(ctx, Query{OrderBy: "load", Limit: 2, By: owner.ID()})
	if err != nil || !reflect.DeepEqual(names(found), []string{"p4", "p0"}) || found[0].Numbers["load"] != 1 {
		t.Errorf("ordered by load: %v, %v", names(found), err)
	}
}

// What matches may be much more than what is wanted.
func TestLimit(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	const n = 2500
	for i := range n {
		w.publish(owner, fmt.Sprintf("p%04d", (i*7)%n), 1, "<a/>")
	}
	c := w.client(owner)
	found, err := c.Query(context.Background(), Query{Limit: 3})
	if err != nil || !slices.Equal(names(found), []string{"p0000", "p0001", "p0002"}) {
		t.Error(names(found), err)
	}
	if n, err := c.Count(context.Background(), Query{Limit: 3}); n != 2500 || err != nil {
		t.Error(n, err)
	}
	if found, err := c.Query(context.Background(), Query{}); err != nil || len(found) != n || found[n-1].Name != "p2499" {
		t.Error(len(found), err)
	}
}

func TestCapabilities(t *testing.T) {
	w := newTown(t)
	owner, user, thief := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "u"), w.identity(ca.KindUser, "t")
	for i := range 3 {
		name := fmt.Sprint("p", i)
		w.publish(owner, name, 1, fmt.Sprintf(printer, name, i, i))
	}
	w.allow(owner, "p0", capability.Everyone)
	w.allow(owner, "p1", capability.Who(user.ID()))
	w.allow(owner, "p2", capability.Who(user.ID()))
	claims := capability.Claims{Principal: user.ID(), Grants: []capability.Who{capability.Who(user.ID()), capability.Everyone}, Ops: capability.Find, Expires: time.Now().Add(time.Hour), Holder: user.Public()}
	full := w.tokens.add(claims)
	narrow, useOnly, old := claims, claims, claims
	narrow.Templates = [][]byte{[]byte(`<service><floor>2</floor></service>`)}
	useOnly.Ops = capability.Use
	old.Expires = time.Now().Add(-time.Second)
	mine, theirs := w.client(user), w.client(thief)
	for _, tc := range []struct {
		what  string
		c     *Client
		token []byte
		want  []string
	}{
		{"full", mine, full, []string{"p0", "p1", "p2"}},
		{"narrowed", mine, w.tokens.add(narrow), []string{"p2"}},
		{"without find", mine, w.tokens.add(useOnly), nil},
		{"expired", mine, w.tokens.add(old), []string{"p0"}},
		{"garbage", mine, []byte("x"), []string{"p0"}},
		{"stolen", theirs, full, []string{"p0"}},
	} {
		found, err := tc.c.QueryAs(context.Background(), tc.token, Query{})
		if err != nil || !slices.Equal(names(found), tc.want) {
			t.Errorf("%s: found %v, want %v; error %v", tc.what, names(found), tc.want, err)
		}
	}
	// The capability manager is unreachable for too long: fail closed, at once, for all but owners.
	w.acls.setFresh(false)
	for _, tc := range []struct {
		c    *Client
		by   ca.ID
		want []string
	}{{mine, "", nil}, {mine, owner.ID(), nil}, {w.client(owner), "", []string{"p0", "p1", "p2"}}, {w.client(owner), user.ID(), nil}} {
		found, err := tc.c.Query(context.Background(), Query{By: tc.by})
		if !slices.Equal(names(found), tc.want) || err != nil {
			t.Errorf("with stale ACLs: %v, %v, want %v", names(found), err, tc.want)
		}
	}
	if n, err := mine.Count(context.Background(), Query{}); n != 0 || err != nil {
		t.Errorf("with stale ACLs: count %d, %v", n, err)
	}
	w.acls.setFresh(true)
	if found, err := mine.Query(context.Background(), Query{}); len(found) != 3 || err != nil {
		t.Errorf("with fresh ACLs again: %v, %v", names(found), err)
	}
}

func TestAnnounceOverTLS(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	c := w.client(owner)
	ctx := context.Background()
	good := announce.Sign(owner, "p", 7, []byte(`<a><b>x</b></a>`))
	other := announce.Sign(w.identity(ca.KindBase, "other"), "p", 7, []byte(`<a/>`))
	bent := announce.Sign(owner, "q", 7, []byte("<a>\n<b x='1' x='2'/></a>"))
	changed := good
	changed.Description = []byte(`<a><b>y</b></a>`)
	unknown, err := c.Send(ctx, []announce.Body{good, other, bent, changed}, []announce.Pair{{Name: "p", Version: 7}, {Name: "r", Version: 1}}, nil)
	if !slices.Equal(unknown, []string{"r"}) {
		t.Errorf("unknown %v, want r", unknown)
	}
	for _, want := range []string{"identity", "line 2: two attributes named x: remove one", "signature"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("refusals %v lack %q", err, want)
		}
	}
	var refused *announce.Refused
	if !errors.As(err, &refused) {
		t.Errorf("error is no *Refused: %v", err)
	}
	if _, err := c.Send(ctx, []announce.Body{announce.Sign(owner, "p", 7, []byte(`<a><b>z</b></a>`))}, nil, nil); err == nil || !strings.Contains(err.Error(), "with other bytes") {
		t.Errorf("same version, other bytes: %v", err)
	}
	if _, err := c.Send(ctx, []announce.Body{announce.Sign(owner, "p", 6, []byte(`<a><b>z</b></a>`))}, nil, nil); err == nil || !strings.Contains(err.Error(), "version 7 is known") {
		t.Errorf("older version: %v", err)
	}
	found, err := c.Query(ctx, Query{Template: []byte(`<a><b>x</b></a>`)})
	if err != nil || len(found) != 1 || string(found[0].Description) != string(good.Description) || found[0].ID != string(owner.ID())+"#p" {
		t.Fatalf("found %+v, %v", found, err)
	}
	st, err := c.Status(ctx)
	if err != nil || len(st.Refused) != 5 || st.Server != w.server.cfg.Identity.ID() {
		t.Errorf("status %+v, %v", st, err)
	}
	if _, err = c.Send(ctx, nil, nil, []announce.Pair{{Name: "p", Version: 7}}); err != nil {
		t.Error(err)
	}
	if found, err = c.Query(ctx, Query{}); len(found) != 0 || err != nil {
		t.Errorf("after the withdrawal: %v, %v", names(found), err)
	}
	if _, err := c.Send(ctx, []announce.Body{good}, nil, nil); err == nil || !strings.Contains(err.Error(), "withdrawn") {
		t.Errorf("a withdrawn version came back: %v", err)
	}
	if _, err := c.Query(ctx, Query{Template: []byte(`<a`)}); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("bad template: %v", err)
	}
}

func TestWatch(t *testing.T) {
	w := newTown(t)
	owner, user := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "u")
	w.publish(owner, "p0", 1, fmt.Sprintf(printer, "p0", 3, 1))
	w.allow(owner, "p0", capability.Everyone)
	ctx, cancel := context.WithCancel(context.Background())
	events, done := make(chan WatchEvent), make(chan error, 1)
	c := w.client(user)
	go func() {
		done <- c.Watch(ctx, Query{Template: []byte(`<service><floor>3</floor></service>`)}, func(e WatchEvent) { events <- e })
	}()
	expect := func(kind WatchKind, name string) {
		t.Helper()
		select {
		case e := <-events:
			if e.Kind != kind || e.Found.Name != name {
				t.Fatalf("event %v %s, want %v %s", e.Kind, e.Found.Name, kind, name)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no event, want %v %s", kind, name)
		}
	}
	expect(Enter, "p0")
	expect(Synced, "")
	w.publish(owner, "p1", 1, fmt.Sprintf(printer, "p1", 3, 1)) // hidden
	w.publish(owner, "p2", 1, fmt.Sprintf(printer, "p2", 4, 1)) // hidden and elsewhere
	w.allow(owner, "p2", capability.Everyone)
	w.allow(owner, "p1", capability.Everyone)
	expect(Enter, "p1")
	w.publish(owner, "p0", 2, fmt.Sprintf(printer, "p0", 3, 2))
	expect(Change, "p0")
	w.server.Refresh(owner.ID(), time.Minute, []announce.Pair{{Name: "p0", Version: 2}}) // no change
	w.publish(owner, "p0", 3, fmt.Sprintf(printer, "p0", 4, 2))
	expect(Leave, "p0")
	w.publish(owner, "p2", 2, fmt.Sprintf(printer, "p2", 3, 2))
	expect(Enter, "p2")
	w.allow(owner, "p2")
	expect(Leave, "p2")
	w.server.Withdraw(owner.ID(), "p1", 1)
	expect(Leave, "p1")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

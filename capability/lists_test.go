package capability

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
)

// An owner lists the ACLs of its own services and no others, however many there are.
func TestListACLs(t *testing.T) {
	s := newSite(t).serve()
	ann, bob := s.client(s.identity(ca.KindUser, "ann")), s.client(s.identity(ca.KindUser, "ann2"))
	const many = listed + 3
	for i := range many {
		if _, err := ann.Grant(t.Context(), ServiceID("spiffe://test/user/ann", fmt.Sprintf("s%04d", i)), Everyone, Find); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := bob.Grant(t.Context(), ServiceID("spiffe://test/user/ann2", "s"), Everyone, Find|Use); err != nil {
		t.Fatal(err)
	}
	all, err := ann.ACLs(t.Context())
	if err != nil || len(all) != many || all[many-1].Service != fmt.Sprintf("spiffe://test/user/ann#s%04d", many-1) {
		t.Errorf("%d ACLs, %v", len(all), err)
	}
	if all, err = bob.ACLs(t.Context()); err != nil || len(all) != 1 || all[0].Entries[0].Ops != Find|Use {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestEditGroup(t *testing.T) {
	s := newSite(t).serve()
	admin, bob := s.client(s.identity(ca.KindUser, "admin")), s.identity(ca.KindUser, "bob")
	id := func(name string) ca.ID { return ca.ID("spiffe://test/user/" + name) }
	f := s.follower(time.Minute)
	v := NewVerifier(s.identity(ca.KindSDS, "v"), nil).WithRevocations(f)
	for _, step := range []struct {
		add, remove, want []ca.ID
	}{
		{[]ca.ID{id("bob"), id("ann")}, nil, []ca.ID{id("ann"), id("bob")}},
		{[]ca.ID{id("ann"), id("cy")}, []ca.ID{id("nobody")}, []ca.ID{id("ann"), id("bob"), id("cy")}},
		{nil, []ca.ID{id("ann")}, []ca.ID{id("bob"), id("cy")}},
	} {
		got, err := admin.EditGroup(t.Context(), "staff", step.add, step.remove)
		if err != nil || !slices.Equal(got, step.want) {
			t.Errorf("%v, %v; want %v", got, err, step.want)
		}
	}
	if all, err := admin.Groups(t.Context()); err != nil || len(all) != 1 || all[0] != (GroupSize{"staff", 2}) {
		t.Errorf("%v, %v", all, err)
	}
	token := s.token(bob)
	if _, err := admin.EditGroup(t.Context(), "staff", nil, []ca.ID{bob.ID()}); err != nil {
		t.Fatal(err)
	}
	until(t, f, "bob's capability ended with his membership", func() bool { _, err := v.Verify(token, bob.Public()); return err != nil })
	if _, err := s.client(bob).EditGroup(t.Context(), "staff", []ca.ID{bob.ID()}, nil); status.Code(err) != codes.PermissionDenied {
		t.Errorf("bob lets himself in: %v", err)
	}
	if _, err := s.client(bob).Groups(t.Context()); status.Code(err) != codes.PermissionDenied {
		t.Errorf("bob lists groups: %v", err)
	}
	if _, err := admin.EditGroup(t.Context(), "staff", []ca.ID{"bob"}, nil); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a member that is no ID: %v", err)
	}
}

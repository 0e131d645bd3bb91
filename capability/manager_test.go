package capability

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	pb "ninja/capability/capabilitypb"
)

func TestIssueAndVerify(t *testing.T) {
	s := newSite(t).serve()
	alice := s.identity(ca.KindUser, "alice")
	c := s.client(alice)
	token, err := c.Capability(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Capability(t.Context())
	if err != nil || &again[0] != &token[0] {
		t.Errorf("the capability is not kept: %v", err)
	}
	claims, err := s.verifier().Verify(token, alice.Public())
	if err != nil {
		t.Fatal(err)
	}
	if claims.Principal != alice.ID() || claims.Ops != All || !slices.Equal(claims.Grants, []Who{Who(alice.ID()), Everyone}) {
		t.Errorf("%+v", claims)
	}
	if c.Forget(); true {
		if fresh, err := c.Capability(t.Context()); err != nil || &fresh[0] == &token[0] {
			t.Errorf("not fetched anew: %v", err)
		}
	}
}

// "Only its owner edits its ACL", and an ACL can be set before the service exists.
func TestOnlyTheOwnerEditsAnACL(t *testing.T) {
	s := newSite(t).serve()
	owner, other := s.identity(ca.KindBase, "maps"), s.identity(ca.KindUser, "mallory")
	admin := s.identity(ca.KindUser, "admin")
	service := ServiceID(owner.ID(), "directions")
	ctx := t.Context()
	if _, err := s.client(owner).Grant(ctx, service, Everyone, Find); err != nil {
		t.Fatal(err)
	}
	if a, err := s.client(owner).Grant(ctx, service, Everyone, Use); err != nil || a.Version != 2 || a.Entries[0].Ops != Find|Use {
		t.Fatal(a, err)
	}
	if a, err := s.client(owner).Revoke(ctx, service, Everyone, Find); err != nil || a.Entries[0].Ops != Use {
		t.Fatal(a, err)
	}
	for _, id := range []*ca.Identity{other, admin} {
		c := s.client(id)
		_, denied := c.SetACL(ctx, service, nil)
		_, absent := c.SetACL(ctx, ServiceID(owner.ID(), "no-such"), nil)
		if status.Code(denied) != codes.PermissionDenied || denied.Error() != absent.Error() {
			t.Errorf("%s: %v, %v", id.ID(), denied, absent)
		}
		if _, err := c.GetACL(ctx, service); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", id.ID(), err)
		}
	}
	if err := s.client(other).SetGroup(ctx, "staff", nil); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
	if _, err := s.client(owner).SetACL(ctx, service, []Entry{{"nobody", Use}}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}

func TestFollowerHearsChanges(t *testing.T) {
	s := newSite(t).serve()
	owner := s.identity(ca.KindBase, "maps")
	service := ServiceID(owner.ID(), "directions")
	c := s.client(owner)
	if _, err := c.Grant(t.Context(), service, Everyone, Find); err != nil {
		t.Fatal(err)
	}
	f := s.follower(time.Minute)
	until(t, f, "the snapshot", func() bool { return f.ACL(service) != nil })
	if _, err := c.Revoke(t.Context(), service, Everyone, All); err != nil {
		t.Fatal(err)
	}
	until(t, f, "the revocation", func() bool { a := f.ACL(service); return a != nil && len(a.Entries) == 0 })
}

// Threats, row 7: from revoking to the last acceptance at most 5 s when connected. A capability ends when its principal
// leaves a group.
func TestLeavingAGroupEndsCapabilities(t *testing.T) {
	s := newSite(t).serve()
	admin, bob := s.client(s.identity(ca.KindUser, "admin")), s.identity(ca.KindUser, "bob")
	if err := admin.SetGroup(t.Context(), "staff", []ca.ID{bob.ID()}); err != nil {
		t.Fatal(err)
	}
	f := s.follower(time.Minute)
	v := NewVerifier(s.identity(ca.KindSDS, "v"), nil).WithRevocations(f)
	token := s.token(bob)
	claims, err := v.Verify(token, bob.Public())
	if err != nil || !slices.Contains(claims.Grants, Group("staff")) {
		t.Fatal(claims, err)
	}
	if err := admin.SetGroup(t.Context(), "staff", nil); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	until(t, f, "bob's capability refused", func() bool { _, err := v.Verify(token, bob.Public()); return err != nil })
	t.Logf("refused after %v", time.Since(begun))
	claims, err = v.Verify(s.token(bob), bob.Public())
	if err != nil || slices.Contains(claims.Grants, Group("staff")) {
		t.Error(claims, err)
	}
}

func TestAFollowerFailsClosed(t *testing.T) {
	s := newSite(t).serve()
	owner := s.identity(ca.KindBase, "maps")
	service := ServiceID(owner.ID(), "directions")
	if _, err := s.client(owner).Grant(t.Context(), service, Everyone, Find); err != nil {
		t.Fatal(err)
	}
	f := s.follower(1500 * time.Millisecond)
	until(t, f, "the snapshot", func() bool { return f.ACL(service) != nil })
	s.server.Stop()
	if !f.Fresh() || f.ACL(service) == nil {
		t.Error("it does not hold")
	}
	until(t, f, "closed", func() bool { return !f.Fresh() && f.ACL(service) == nil })
	s.serve()
	until(t, f, "open again", func() bool { return f.Fresh() && f.ACL(service) != nil })
}

func TestOnlyCheckersFollow(t *testing.T) {
	s := newSite(t).serve()
	conn, err := dial(s.world, s.identity(ca.KindUser, "nosy"), s.address, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	f, _ := NewFollower(FollowerConfig{World: s.world, Identity: s.id, Address: s.address, Log: quiet()})
	f.cfg.Identity = s.identity(ca.KindUser, "nosy")
	if heard, err := f.follow(t.Context(), pb.NewManagerClient(conn)); heard || status.Code(err) != codes.PermissionDenied {
		t.Error(heard, err)
	}
}

// Who checks rights for its own services alone learns of no other.
func TestUnitsFollowTheirOwn(t *testing.T) {
	s := newSite(t).serve()
	unit, other := s.identity(ca.KindUnit, "phone"), s.identity(ca.KindUnit, "phone2")
	own, hidden := ServiceID(unit.ID(), "speaker"), ServiceID(other.ID(), "speaker")
	for _, id := range []*ca.Identity{unit, other} {
		if _, err := s.client(id).Grant(t.Context(), ServiceID(id.ID(), "speaker"), Everyone, SendTo); err != nil {
			t.Fatal(err)
		}
	}
	f := s.followerAs(unit, time.Minute)
	until(t, f, "the snapshot", func() bool { return f.ACL(own) != nil })
	if _, err := s.client(other).Grant(t.Context(), hidden, Everyone, Find); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client(unit).Grant(t.Context(), own, Everyone, Find); err != nil {
		t.Fatal(err)
	}
	until(t, f, "the change", func() bool { return f.ACL(own).Version == 2 })
	if all, _, _ := f.All(); len(all) != 1 {
		t.Errorf("it knows %v", all)
	}
}

// The capability is kept while the manager is away.
func TestTheClientDoesWithoutTheManager(t *testing.T) {
	s := newSite(t).serve()
	c := s.client(s.identity(ca.KindUser, "u"))
	token, err := c.Capability(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.server.Stop()
	c.renew = time.Time{}
	again, err := c.Capability(t.Context())
	if err != nil || &again[0] != &token[0] {
		t.Error(err)
	}
	if !c.renew.After(time.Now()) {
		t.Error("it would ask again at once")
	}
	c.expires, c.renew = time.Time{}, time.Time{}
	if _, err := c.Capability(t.Context()); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
}

func TestManagerKeepsItsState(t *testing.T) {
	s := newSite(t).serve()
	admin, bob := s.client(s.identity(ca.KindUser, "admin")), s.identity(ca.KindUser, "bob")
	service := ServiceID(bob.ID(), "phone")
	_, err := s.client(bob).SetACL(t.Context(), service, []Entry{{Group("staff"), SendTo}})
	if err == nil {
		err = admin.SetGroup(t.Context(), "staff", []ca.ID{bob.ID(), "spiffe://test/user/eve"})
	}
	if err == nil {
		err = admin.SetGroup(t.Context(), "staff", []ca.ID{bob.ID()})
	}
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewManager(t.Context(), ManagerConfig{Identity: s.id, Store: s.manager.store, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if a := again.state.acls[service]; a == nil || a.Version != 1 || a.Entries[0] != (Entry{Group("staff"), SendTo}) {
		t.Errorf("%+v", a)
	}
	if !slices.Equal(again.state.groups["staff"], []ca.ID{bob.ID()}) || again.state.epoch != 1 || again.state.revoked["spiffe://test/user/eve"] != 1 {
		t.Errorf("%+v", again.state)
	}
}

// An ACL that is deleted is gone for everybody at once, durably, and can be made anew.
func TestDeleteACL(t *testing.T) {
	s := newSite(t).serve()
	owner, other := s.identity(ca.KindBase, "maps"), s.identity(ca.KindUser, "mallory")
	service := ServiceID(owner.ID(), "directions")
	c := s.client(owner)
	f := s.follower(time.Minute)
	if _, err := c.Grant(t.Context(), service, Everyone, Find); err != nil {
		t.Fatal(err)
	}
	until(t, f, "the grant", func() bool { return f.ACL(service) != nil })
	if err := s.client(other).DeleteACL(t.Context(), service); status.Code(err) != codes.PermissionDenied {
		t.Errorf("deleted by another: %v", err)
	}
	for range 2 {
		if err := c.DeleteACL(t.Context(), service); err != nil {
			t.Fatal(err)
		}
	}
	until(t, f, "the deletion", func() bool { return f.ACL(service) == nil })
	if a, err := c.GetACL(t.Context(), service); err != nil || a.Version != 0 || len(a.Entries) != 0 {
		t.Error(a, err)
	}
	again, err := NewManager(t.Context(), ManagerConfig{Identity: s.id, Store: s.manager.store, Log: quiet()})
	if err != nil || len(again.state.acls) != 0 {
		t.Errorf("stored still: %v %v", again.state.acls, err)
	}
	if _, err := c.Grant(t.Context(), service, Everyone, Use); err != nil {
		t.Fatal(err)
	}
	until(t, f, "the new one", func() bool { a := f.ACL(service); return a != nil && a.Entries[0].Ops == Use })
}

// Who is in a group is told to those who are in it and to the administrator; another owner learns nothing by naming it,
// not even whether it exists.
func TestWhoSees(t *testing.T) {
	s := newSite(t).serve()
	admin, ann, eve := s.identity(ca.KindUser, "admin"), s.identity(ca.KindUser, "ann"), s.identity(ca.KindUser, "eve")
	members := []ca.ID{ann.ID(), "spiffe://test/user/bob"}
	if err := s.client(admin).SetGroup(t.Context(), "staff", members); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		id   *ca.Identity
		told bool
	}{{admin, true}, {ann, true}, {eve, false}} {
		c, service := s.client(tc.id), ServiceID(tc.id.ID(), "s")
		entries := []Entry{{"spiffe://test/user/bob", Use}, {Group("staff"), Find}, {Group("no-such"), Find}}
		if _, err := c.SetACL(t.Context(), service, entries); err != nil {
			t.Fatal(err)
		}
		got, err := c.WhoSees(t.Context(), service)
		if err != nil || len(got) != 3 || got[0].Entry != entries[0] || got[1].Entry != entries[1] || got[0].Told {
			t.Fatalf("%s: %+v %v", tc.id.ID(), got, err)
		}
		staff, absent := got[1], got[2]
		if staff.Told != tc.told || tc.told && (staff.Size != 2 || !slices.Equal(staff.Members, members)) {
			t.Errorf("%s: %+v", tc.id.ID(), staff)
		}
		if !tc.told && (absent.Told || absent.Size != staff.Size || len(staff.Members) != 0) {
			t.Errorf("%s can tell a group from none: %+v %+v", tc.id.ID(), staff, absent)
		}
		if _, err := s.client(eve).WhoSees(t.Context(), service); tc.id != eve && status.Code(err) != codes.PermissionDenied {
			t.Errorf("asked by another: %v", err)
		}
	}
}

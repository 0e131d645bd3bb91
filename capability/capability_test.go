package capability

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"ninja/ca"
)

func TestOperationsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Operations(rapid.Uint8Range(0, uint8(All)).Draw(t, "ops"))
		if back, err := ParseOperations(o.String()); err != nil || back != o {
			t.Errorf("%v: %v, %v", o, back, err)
		}
	})
	if All.String() != "find,use,listen-from,send-to" {
		t.Error(All)
	}
	if _, err := ParseOperations("find,fly"); err == nil {
		t.Error("parsed")
	}
}

func TestAllowed(t *testing.T) {
	const owner, alice, bob ca.ID = "spiffe://test/base/maps", "spiffe://test/user/alice", "spiffe://test/user/bob"
	service := ServiceID(owner, "directions")
	acl := func(e ...Entry) *ACL { return &ACL{Service: service, Version: 1, Entries: e} }
	for _, tc := range []struct {
		name  string
		who   ca.ID
		group string
		ops   Operations // of the capability
		acl   *ACL
		op    Operations
		want  bool
	}{
		{"no ACL: owner", owner, "", All, nil, Use, true},
		{"no ACL: another", alice, "", All, nil, Find, false},
		{"an ACL does not bind the owner", owner, "", All, acl(), SendTo, true},
		{"the owner's narrowed capability does", owner, "", Find, nil, Use, false},
		{"everyone may find", alice, "", All, acl(Entry{Everyone, Find}), Find, true},
		{"but not use", alice, "", All, acl(Entry{Everyone, Find}), Use, false},
		{"named", alice, "", All, acl(Entry{Who(alice), Find | Use}), Find | Use, true},
		{"another is named", bob, "", All, acl(Entry{Who(alice), Find | Use}), Find, false},
		{"in the group", bob, "staff", All, acl(Entry{Group("staff"), ListenFrom}), ListenFrom, true},
		{"in another group", bob, "guests", All, acl(Entry{Group("staff"), ListenFrom}), ListenFrom, false},
		{"two entries together", bob, "staff", All, acl(Entry{Group("staff"), Use}, Entry{Everyone, Find}), Find | Use, true},
		{"narrowed", alice, "", Find, acl(Entry{Who(alice), All}), Use, false},
		{"no operation", owner, "", All, nil, 0, false},
	} {
		st := newState("test")
		if tc.group != "" {
			st.setGroup(tc.group, []ca.ID{tc.who})
		}
		c := Claims{Principal: tc.who, Grants: st.grants(tc.who), Ops: tc.ops}
		if got := Allowed(c, owner, tc.acl, tc.op); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestACLCheck(t *testing.T) {
	const service = "spiffe://test/base/maps#directions"
	many := make([]Entry, MaxEntries+1)
	for i := range many {
		many[i] = Entry{Everyone, Find}
	}
	for name, a := range map[string]*ACL{
		"no service":   {},
		"bad owner":    {Service: "maps#directions"},
		"no name":      {Service: "spiffe://test/base/maps#"},
		"no operation": {Service: service, Entries: []Entry{{Everyone, 0}}},
		"unknown one":  {Service: service, Entries: []Entry{{Everyone, 1 << 4}}},
		"bad who":      {Service: service, Entries: []Entry{{"alice", Find}}},
		"bad group":    {Service: service, Entries: []Entry{{"group:", Find}}},
		"twice":        {Service: service, Entries: []Entry{{Everyone, Find}, {Everyone, Use}}},
		"too many":     {Service: service, Entries: many},
	} {
		if a.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	good := &ACL{Service: service, Entries: []Entry{{Group("staff"), Use}, {"spiffe://test/user/a", All}}}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	if a := good.With(Group("staff"), 0, All); len(a.Entries) != 1 || len(good.Entries) != 2 {
		t.Errorf("%+v, %+v", a, good)
	}
}

// Groups and memberships are two views of one relation.
func TestGroups(t *testing.T) {
	people := []ca.ID{"spiffe://t/user/a", "spiffe://t/user/b", "spiffe://t/user/c"}
	rapid.Check(t, func(t *rapid.T) {
		s := newState("test")
		for range 10 {
			name := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "group")
			members := rapid.SliceOf(rapid.SampledFrom(people)).Draw(t, "members")
			before := slices.Clone(s.groups[name])
			for _, gone := range s.setGroup(name, members) {
				if !slices.Contains(before, gone) || slices.Contains(members, gone) {
					t.Fatalf("%s did not leave", gone)
				}
			}
			for _, p := range people {
				for _, g := range []string{"x", "y", "z"} {
					if slices.Contains(s.groups[g], p) != slices.Contains(s.grants(p), Group(g)) {
						t.Fatalf("%s in %s: %v, %v", p, g, s.groups[g], s.grants(p))
					}
				}
			}
		}
	})
}

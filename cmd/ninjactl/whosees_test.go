package main

import (
	"strings"
	"testing"

	"ninja/ca"
	"ninja/capability"
)

func TestSeenBy(t *testing.T) {
	const service = "spiffe://test/base/b#s"
	ann, bob := ca.ID("spiffe://test/user/ann"), ca.ID("spiffe://test/user/bob")
	entry := func(who capability.Who, ops capability.Operations) capability.Entry {
		return capability.Entry{Who: who, Ops: ops}
	}
	reaches := []capability.Reach{
		{Entry: entry(capability.Who(ann), capability.Use)},
		{Entry: entry("group:staff", capability.Find), Told: true, Members: []ca.ID{ann, bob}, Size: 7},
		{Entry: entry("group:far", capability.Find)},
		{Entry: entry("group:users", capability.Use)},
		{Entry: entry(capability.Everyone, capability.SendTo)},
	}
	for _, tc := range []struct {
		want       capability.Operations
		principals string
		hidden     string
		everyone   bool
	}{
		{capability.Find, "b ann bob", "group:staff (5 more) group:far", false},
		{capability.Find | capability.Use, "b ann", "", false},
		{capability.SendTo, "b ann bob", "group:staff (5 more) group:far group:users", true},
		{capability.ListenFrom, "b", "", false},
	} {
		got := seenBy(service, reaches, tc.want)
		var names []string
		for _, p := range got.Principals {
			names = append(names, p.ID.Name())
		}
		if n, h := strings.Join(names, " "), strings.Join(got.Hidden, " "); n != tc.principals || got.Everyone != tc.everyone || h != tc.hidden {
			t.Errorf("%v: %s, hidden %s, everyone %v", tc.want, n, h, got.Everyone)
		}
	}
	var text strings.Builder
	seenBy(service, reaches, capability.Find).write(&text)
	for _, want := range []string{"who may find " + service, string(ann) + "\tfind,use,send-to\tas " + string(ann) + ", group:staff", "as owner"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

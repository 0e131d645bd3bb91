package sds

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds/announce"
)

// late are access lists that come after the services.
type late struct{ *fakeACLs }

func (l late) ACL(service string) *capability.ACL {
	if !l.Fresh() {
		return nil
	}
	return l.fakeACLs.ACL(service)
}

// TestReclass: what came before the access lists is found by all who may as soon as Reclass returns; without it the server
// would look at the lists within a second.
func TestReclass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority, err := ca.NewAuthority(world.Real(), "test")
		if err != nil {
			t.Fatal(err)
		}
		id, err := authority.NewIdentity(ca.KindSDS, "one")
		if err != nil {
			t.Fatal(err)
		}
		owner, err := authority.NewIdentity(ca.KindBase, "b")
		if err != nil {
			t.Fatal(err)
		}
		lists := late{&fakeACLs{lists: map[string]*capability.ACL{}, changed: make(chan struct{})}}
		s, err := NewServer(Config{Identity: id, World: world.Real(), ACLs: lists})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = s.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		for i := range 3 {
			name := fmt.Sprint("s", i)
			lists.set(string(owner.ID())+"#"+name, capability.Everyone)
			if err := s.Put(announce.Sign(owner, name, 1, []byte(`<service/>`))); err != nil {
				t.Fatal(err)
			}
		}
		public := func() (n int) {
			_ = s.store.do(func() {
				for _, e := range s.store.services {
					if e.class.visible([]capability.Who{capability.Everyone}) {
						n++
					}
				}
			})
			return n
		}
		if n := public(); n != 0 {
			t.Fatalf("%d services are shown before the lists are there", n)
		}
		lists.setFresh(true)
		if s.Reclass(); public() != 3 {
			t.Errorf("%d of 3 services are shown", public())
		}
	})
}

package sds

import (
	"testing"
	"time"

	"ninja/ca"
	"ninja/capability"
)

// What a banned principal published leaves, for watchers too, and nothing of anyone else's; it cannot announce again.
func TestTheServicesOfTheBannedGo(t *testing.T) {
	w := newTown(t)
	eve, ann := w.identity(ca.KindUser, "eve"), w.identity(ca.KindUser, "ann")
	for _, id := range []*ca.Identity{eve, ann} {
		for _, name := range []string{"one", "two"} {
			w.publish(id, name, 1, `<service kind="lamp"/>`)
			w.allow(id, name, capability.Everyone)
		}
	}
	client := w.client(ann)
	left := make(chan string, 8)
	go client.Watch(t.Context(), Query{XPath: `//service[@kind="lamp"]`}, func(e WatchEvent) {
		if e.Kind == Leave || e.Kind == Synced {
			left <- e.Found.ID
		}
	})
	<-left // all has been told
	if err := w.server.cfg.Identity.Adopt(ca.State{Roots: w.ca.Roots(), Banned: []ca.ID{eve.ID()}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case id := <-left:
			if id != string(eve.ID())+"#one" && id != string(eve.ID())+"#two" {
				t.Errorf("%s has left", id)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a service of the banned stays")
		}
	}
	found, err := client.Query(t.Context(), Query{XPath: `//service[@kind="lamp"]`})
	if err != nil || len(found) != 2 || found[0].Owner != ann.ID() {
		t.Errorf("%d found: %v", len(found), err)
	}
}

package ca

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"ninja/internal/world"
)

// A trust file's routing key counts when the domain's own capability manager signed it under one of the roots, also when
// its certificate has ended since; it is kept, told to everyone, and goes with the trust.
func TestRoutingKeysAreTheManagersOwn(t *testing.T) {
	here, there := authorityOf(t, "here"), authorityOf(t, "there")
	manager := testIdentity(t, there, KindCapability, "manager")
	key := bytes.Repeat([]byte{7}, 32)
	good := NewRoutingKey(manager, key)
	wrong := good
	wrong.Key = bytes.Repeat([]byte{8}, 32)
	bare := good
	bare.Chain = nil
	for what, keys := range map[string][]RoutingKey{
		"no capability manager": {NewRoutingKey(testIdentity(t, there, KindSDS, "s"), key)},
		"not trusted":           {NewRoutingKey(testIdentity(t, here, KindCapability, "m"), key)},
		"signature":             {wrong},
		"without a certificate": {bare},
		"at most 2":             {good, good, good},
	} {
		if err := here.TrustDomain("there", there.Roots(), keys...); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want %q: %v", what, err)
		}
	}
	if len(here.State().Domains) != 0 {
		t.Fatal("a refused trust file left something")
	}
	b, err := good.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	read, err := ParseRoutingKey(b)
	if err != nil {
		t.Fatal(err)
	}
	later := world.Real()
	later.Now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	again, err := OpenAuthority(later, "here", here.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.TrustDomain("there", there.Roots(), read); err != nil {
		t.Errorf("a day later: %v", err)
	}
	if here, err = OpenAuthority(world.Real(), "here", here.dir); err != nil {
		t.Fatal(err)
	}
	me := testIdentity(t, here, KindCapability, "m")
	if k := me.State().Keys["there"]; len(k) != 1 || !bytes.Equal(k[0], key) {
		t.Errorf("after the authority was started again: %x", k)
	}
	dir := t.TempDir()
	if err := me.Save(dir); err != nil {
		t.Fatal(err)
	}
	if me, err = Load(dir, world.Real()); err != nil || len(me.State().Keys["there"]) != 1 {
		t.Errorf("after the identity was loaded again: %v", err)
	}
	if s := *stateFrom(stateTo(ptr(here.State()))); !sameState(s, here.State()) {
		t.Error("what is told over the network is another state")
	}
	if err := here.TrustDomain("there", nil); err != nil || len(here.State().Keys) != 0 {
		t.Errorf("the trust has ended: %v", err)
	}
}

func ptr(s State) *State { return &s }

// FuzzRoutingKey: whatever a trust file holds, it is read or refused, and what was not signed is not trusted.
func FuzzRoutingKey(f *testing.F) {
	a, err := NewAuthority(world.Real(), "there")
	if err != nil {
		f.Fatal(err)
	}
	manager, err := a.NewIdentity(KindCapability, "manager")
	if err != nil {
		f.Fatal(err)
	}
	key := bytes.Repeat([]byte{7}, 32)
	good, err := NewRoutingKey(manager, key).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	here, err := NewAuthority(world.Real(), "here")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseRoutingKey(b)
		if err == nil && k.verifyIn("there", a.Roots(), here) == nil && !bytes.Equal(k.Key, key) {
			t.Errorf("trusted another key: %x", k.Key)
		}
	})
}

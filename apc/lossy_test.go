package apc

import (
	"context"
	"testing"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/connectors/hop"
	"ninja/connectors/udp"
	"ninja/internal/world"
	"ninja/internal/world/relay"
	"ninja/operators"
)

// Readings that both ends say they can do without flow by udp: over a line that loses a fifth of all datagrams those that
// arrive are in order, and nothing waits for the others.
func TestReadingsFlowByUDP(t *testing.T) {
	const count, typ = 200, "application/json;about=temperature"
	r := relay.New(relay.Config{There: relay.Faults{Link: world.Link{Loss: 0.2}}})
	t.Logf("relay seed %d", r.Seed())
	t.Cleanup(func() { r.Close() })
	a, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan []uint64, 1)
	gives, takes := new(operators.Registry), new(operators.Registry)
	add(gives, "sensor", func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
		for range count {
			if err := out.Write(ctx, connectors.ADU{Payload: []byte(`{"celsius":21}`)}); err != nil {
				return err
			}
		}
		return nil
	})
	add(takes, "display", func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
		var all []uint64
		defer func() { got <- all }()
		for {
			a, err := in.Read(ctx)
			if err != nil {
				return nil
			}
			all = append(all, a.Seq)
		}
	})
	town := &town{}
	for _, end := range []struct {
		name, in, out string
		programs      *operators.Registry
		world         world.World
	}{{"sensor", "", typ, gives, r.World()}, {"display", typ, "", takes, world.Real()}} {
		p := newPlaceIn(t, a, ca.KindUnit, end.name, end.programs, end.world, func(id *ca.Identity, hops *hop.Server) connectors.Transport {
			return udp.New(udp.Config{Hops: hops, Identity: id, World: end.world})
		})
		s := spec(end.name, end.in, end.out)
		s.Transports = []string{"mem", "tcp", "udp"}
		town.publish(p.id.ID(), operators.Description{Kind: "phone", Name: end.name, Operators: []operators.Spec{s},
			Node: &operators.Node{Control: p.control, Data: p.hops.Addr(), Cores: 8}})
	}
	c, _ := creatorOn(t, a, town)
	const path = "0123456789abcdef"
	info, err := c.Create(t.Context(), ann, Request{Path: path, Line: "phone:sensor ! phone:display", Capability: []byte(path)})
	if err != nil {
		t.Fatal(err)
	}
	if info.Hops[0].Transport != "udp" {
		t.Errorf("readings go by %s", info.Hops[0].Transport)
	}
	select {
	case all := <-got:
		for i := range all[1:] {
			if all[i+1] <= all[i] {
				t.Fatalf("%d comes after %d", all[i+1], all[i])
			}
		}
		if len(all) < count/2 || len(all) == count {
			t.Errorf("%d of %d readings came over a line that loses a fifth", len(all), count)
		}
	case <-time.After(time.Minute):
		t.Fatal("nothing comes")
	}
}

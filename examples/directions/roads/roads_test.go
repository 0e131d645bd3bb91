package roads

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ninja/examples/directions/pbf"
)

var load = sync.OnceValues(func() (*Graph, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/paulmach/osm").Output()
	if err != nil {
		return nil, err
	}
	file, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "testdata", "delaware-latest.osm.pbf"))
	if err != nil {
		return nil, err
	}
	var b Builder
	if err := pbf.Read(bytes.NewReader(file), pbf.Visitor{Way: b.Way}); err != nil {
		return nil, err
	}
	b.Nodes()
	if err := pbf.Read(bytes.NewReader(file), pbf.Visitor{Node: b.Node}); err != nil {
		return nil, err
	}
	return b.Graph()
})

func delaware(t testing.TB) *Graph {
	g, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Routes are connected, keep to the direction of the roads, and are as fast as those that are found without the bound
// that A* is led by.
func TestRoutes(t *testing.T) {
	g := delaware(t)
	blind := *g
	blind.fastest = math.Inf(1)
	r := rand.New(rand.NewPCG(1, 0))
	pick := func() Spot {
		for {
			if s, ok := g.Snap(g.vertices[r.IntN(len(g.vertices))], 500, ""); ok {
				return s
			}
		}
	}
	for range 2 {
		from, to := pick(), pick()
		way, err := g.Route(context.Background(), from, to)
		if err != nil {
			t.Fatal(err)
		}
		for i, arc := range way.arcs {
			if !g.allowed(arc) || (i > 0 && g.head(way.arcs[i-1]) != g.tail(arc)) {
				t.Fatalf("arc %d of the route cannot be driven", i)
			}
		}
		if way.Metres < Metres(from.At, to.At)*0.99 {
			t.Errorf("%.0f m of road between places %.0f m apart", way.Metres, Metres(from.At, to.At))
		}
		other, err := blind.Route(context.Background(), from, to)
		if err != nil || math.Abs(other.Seconds-way.Seconds) > 0.5 {
			t.Errorf("%.1f s, without the bound %.1f s (%v)", way.Seconds, other.Seconds, err)
		}
		if n := len(way.Steps); way.Steps[0].Kind != Depart || way.Steps[n-1].Kind != Arrive {
			t.Errorf("the steps begin with %s and end with %s", way.Steps[0].Kind, way.Steps[n-1].Kind)
		}
	}
}

func TestRouteEndsWithItsContext(t *testing.T) {
	g := delaware(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a, _ := g.Snap(g.vertices[0], 5000, "")
	if _, err := g.Route(ctx, a, a); err != nil && err != context.Canceled {
		t.Error(err)
	}
}

func TestAngles(t *testing.T) {
	north, east := Point{396_010_000, -756_000_000}, Point{396_000_000, -755_990_000}
	here := Point{396_000_000, -756_000_000}
	if b := bearing(here, north); math.Abs(b) > 0.01 {
		t.Errorf("north is %v", b)
	}
	if b := bearing(here, east); math.Abs(b-90) > 0.01 {
		t.Errorf("east is %v", b)
	}
	if a := turnAngle(350, 20); a != 30 {
		t.Errorf("from 350 to 20 is %v", a)
	}
	if m := Metres(here, north); math.Abs(m-111.2) > 0.1 {
		t.Errorf("a thousandth of a degree is %v m", m)
	}
	for degrees, word := range map[float64]string{0: "north", 359: "north", 46: "northeast", 181: "south", -80: "west"} {
		if compassWord(degrees) != word {
			t.Errorf("%v is %s", degrees, compassWord(degrees))
		}
	}
}

package directions

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"ninja/examples/directions/pbf"
	"ninja/examples/directions/pbf/pbftest"
	"ninja/operators"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func tags(s string) pbf.Tags {
	var t pbf.Tags
	for _, kv := range strings.Split(s, "|") {
		k, v, _ := strings.Cut(kv, "=")
		t = append(t, pbf.Tag{Key: k, Value: v})
	}
	return t
}

// town is a hand-made map, points at 100 m or so to the unit (0.001 degrees):
//
//	        8 Oak Street (north-south, x=8)
//	y=4  ----+----------- Elm Avenue, dual: eastbound y=3.9, westbound y=4.1, from x=0 to x=16
//	         |
//	y=2      o  roundabout at (8,2): Mill Road leaves to the east, Oak Street goes on to the south
//	         |
//	y=0  ----+------ Main St, from x=0 to x=16
func town() []byte {
	var nodes []pbf.Node
	var ways []pbf.Way
	ids := map[[2]float64]int64{}
	node := func(x, y float64) int64 {
		if id, ok := ids[[2]float64{x, y}]; ok {
			return id
		}
		id := int64(len(nodes) + 1)
		ids[[2]float64{x, y}] = id
		nodes = append(nodes, pbf.Node{ID: id, Lat: 396_000_000 + int32(y*10_000), Lon: -756_000_000 + int32(x*10_000)})
		return id
	}
	way := func(t string, xy ...float64) {
		w := pbf.Way{ID: int64(len(ways) + 1), Tags: tags(t)}
		for i := 0; i < len(xy); i += 2 {
			w.Refs = append(w.Refs, node(xy[i], xy[i+1]))
		}
		ways = append(ways, w)
	}
	way("highway=residential|name=Main St", 0, 0, 8, 0, 16, 0)
	way("highway=residential|name=Oak Street", 8, 0, 8, 1.8)
	way("highway=residential|name=Oak Street", 8, 2.2, 8, 3.9)
	way("highway=residential|name=Oak Street", 8, 3.9, 8, 4.1)
	way("highway=residential|name=Oak Street", 8, 4.1, 8, 8)
	way("highway=residential|junction=roundabout", 8, 1.8, 8.2, 2, 8, 2.2, 7.8, 2, 8, 1.8)
	way("highway=residential|name=Mill Road", 8.2, 2, 16, 2, 16, 0)
	way("highway=primary|name=Elm Avenue|oneway=yes|maxspeed=35 mph", 0, 3.9, 8, 3.9, 16, 3.9)
	way("highway=primary|name=Elm Avenue|oneway=yes", 16, 4.1, 8, 4.1, 0, 4.1)
	way("highway=primary|name=Elm Avenue", 0, 3.9, 0, 4.1)
	way("highway=primary|name=Elm Avenue", 16, 4.1, 16, 3.9)
	way("highway=footway|name=Elm Walk", 0, 0, 0, 3.9)
	way("building=yes|addr:housenumber=12|addr:street=Elm Ave|addr:city=Bear", 2, 4.4, 2.2, 4.4, 2.2, 4.6, 2, 4.6, 2, 4.4)
	place := func(x, y float64, t string) {
		id := node(x, y)
		nodes[id-1].Tags = tags(t)
	}
	place(2.4, 0.2, "addr:housenumber=615|addr:street=S. Main Street|addr:city=Bear") // no road of that name: the nearest will do
	place(1, 0.2, "addr:housenumber=605|addr:street=Main Street|addr:city=Bear")
	place(12, 2.1, "addr:housenumber=7;9|addr:street=Mill Road")
	place(3, 0.1, "addr:housenumber=100|addr:street=Main Street|addr:city=Bear, DE")
	place(15.9, 0.1, "addr:housenumber=100|addr:street=Main Street|addr:city=St. Georges")
	place(5, 0.1, "addr:housenumber=5B|addr:street=Main Street|addr:city=Bear")
	return pbftest.File(pbftest.Form{}, nodes, ways, nil)
}

// at is a position of the town.
func at(x, y float64) *operators.Position {
	return &operators.Position{Lat: 39.6 + y*0.001, Lon: -75.6 + x*0.001}
}

func townService(t testing.TB) *Service {
	m, err := LoadMap(bytes.NewReader(town()))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Service: "spiffe://home/base/b1#map", Loaded: m, From: at(8, 7)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// delawareBytes is the extract that ships with the module of paulmach/osm.
var delawareBytes = sync.OnceValues(func() ([]byte, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/paulmach/osm").Output()
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "testdata", "delaware-latest.osm.pbf"))
})

var delawareMap = sync.OnceValues(func() (*Map, error) {
	b, err := delawareBytes()
	if err != nil {
		return nil, err
	}
	return LoadMap(bytes.NewReader(b))
})

func delaware(t testing.TB) *Service {
	m, err := delawareMap()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Service: "spiffe://home/base/b1#map", Loaded: m})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

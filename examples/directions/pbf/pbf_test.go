package pbf_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/paulmach/osm"
	"github.com/paulmach/osm/osmpbf"

	"ninja/examples/directions/pbf"
	"ninja/examples/directions/pbf/pbftest"
)

var (
	nodes = []pbf.Node{
		{ID: 7, Lat: 396_000_000, Lon: -756_000_000, Tags: pbf.Tags{{Key: "place", Value: "town"}, {Key: "name", Value: "Bear"}}},
		{ID: 3, Lat: -1, Lon: 1}}
	ways      = []pbf.Way{{ID: 9, Refs: []int64{7, 3, 7}, Tags: pbf.Tags{{Key: "highway", Value: "residential"}}}}
	relations = []pbf.Relation{{ID: 4, Members: []pbf.Member{{ID: 9, Kind: pbf.WayMember, Role: "from"}}, Tags: pbf.Tags{{Key: "type", Value: "restriction"}}}}
)

// collect keeps all that a file contains.
func collect(b []byte) (n []pbf.Node, w []pbf.Way, r []pbf.Relation, err error) {
	err = pbf.Read(bytes.NewReader(b), pbf.Visitor{
		Node: func(x *pbf.Node) error {
			n = append(n, pbf.Node{ID: x.ID, Lat: x.Lat, Lon: x.Lon, Tags: slices.Clone(x.Tags)})
			return nil
		},
		Way: func(x *pbf.Way) error {
			w = append(w, pbf.Way{ID: x.ID, Refs: slices.Clone(x.Refs), Tags: slices.Clone(x.Tags)})
			return nil
		},
		Relation: func(x *pbf.Relation) error {
			r = append(r, pbf.Relation{ID: x.ID, Members: slices.Clone(x.Members), Tags: slices.Clone(x.Tags)})
			return nil
		},
	})
	return n, w, r, err
}

func TestEveryForm(t *testing.T) {
	for _, form := range []pbftest.Form{{}, {Plain: true}, {Raw: true}, {Plain: true, Raw: true}} {
		n, w, r, err := collect(pbftest.File(form, nodes, ways, relations))
		if err != nil {
			t.Fatalf("%+v: %v", form, err)
		}
		if fmt.Sprint(n) != fmt.Sprint(nodes) || !reflect.DeepEqual(w, ways) || !reflect.DeepEqual(r, relations) {
			t.Errorf("%+v: read %v %v %v", form, n, w, r)
		}
	}
}

func TestEveryCutIsAnError(t *testing.T) {
	whole := pbftest.File(pbftest.Form{}, nodes, ways, relations)
	good := 0
	for i := range whole {
		if _, _, _, err := collect(whole[:i]); err == nil {
			good++ // between two blocks
		}
	}
	if good > 1 {
		t.Errorf("%d cut files were read without an error", good)
	}
}

func TestWhatIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"empty":    {"", "empty"},
		"text":     {"<?xml version='1.0'?><osm/>", "not a PBF file"},
		"no earth": {string(pbftest.File(pbftest.Form{}, []pbf.Node{{ID: 1, Lat: math.MaxInt32}}, nil, nil)), "not on earth"},
	} {
		if _, _, _, err := collect([]byte(c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stop := errors.New("enough")
	err := pbf.Read(bytes.NewReader(pbftest.File(pbftest.Form{}, nodes, nil, nil)), pbf.Visitor{Node: func(*pbf.Node) error { return stop }})
	if err != stop {
		t.Errorf("a visitor's error came back as %v", err)
	}
}

// The reader agrees with another one on a whole state.
func TestAgreesWithAnotherReader(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/paulmach/osm").Output()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "testdata", "delaware-latest.osm.pbf"))
	if err != nil {
		t.Fatal(err)
	}
	var ours, theirs [6]int64
	err = pbf.Read(bytes.NewReader(b), pbf.Visitor{
		Node: func(n *pbf.Node) error {
			ours[0], ours[1] = ours[0]+1, ours[1]+int64(n.Lat)+int64(n.Lon)
			ours[5] += int64(len(n.Tags))
			return nil
		},
		Way: func(w *pbf.Way) error {
			ours[2]++
			for _, r := range w.Refs {
				ours[3] += r
			}
			ours[5] += int64(len(w.Tags))
			return nil
		},
		Relation: func(r *pbf.Relation) error { ours[4]++; ours[5] += int64(len(r.Tags)); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := osmpbf.New(context.Background(), bytes.NewReader(b), 1)
	defer s.Close()
	for s.Scan() {
		switch o := s.Object().(type) {
		case *osm.Node:
			theirs[0], theirs[1] = theirs[0]+1, theirs[1]+int64(math.Round(o.Lat*1e7))+int64(math.Round(o.Lon*1e7))
			theirs[5] += int64(len(o.Tags))
		case *osm.Way:
			theirs[2]++
			for _, n := range o.Nodes {
				theirs[3] += int64(n.ID)
			}
			theirs[5] += int64(len(o.Tags))
		case *osm.Relation:
			theirs[4]++
			theirs[5] += int64(len(o.Tags))
		}
	}
	if s.Err() != nil || ours != theirs {
		t.Errorf("we read %v, the other %v (%v)", ours, theirs, s.Err())
	}
}

func FuzzRead(f *testing.F) {
	for _, form := range []pbftest.Form{{}, {Plain: true}, {Raw: true}, {Plain: true, Raw: true}} {
		f.Add(pbftest.File(form, nodes, ways, relations))
	}
	f.Fuzz(func(t *testing.T, b []byte) { collect(b) })
}

// Package ninja holds the tests of the house itself: which room may import which.
package ninja

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// floors places every room. A room imports only rooms of a lower floor, and its own sub-rooms, which have floors of
// their own where they are built on. The longest prefix counts.
var floors = map[string]int{
	"internal/world":                  0,
	"internal/world/relay":            1,
	"connectors":                      1,
	"ca":                              1,
	"ca/seal":                         0,
	"connectors/hop":                  2,
	"connectors/mem":                  2,
	"connectors/splice":               2,
	"connectors/tcp":                  3,
	"connectors/trunk":                3,
	"connectors/rtp":                  4,
	"connectors/rtp/external":         5,
	"connectors/udp":                  4,
	"connectors/connectorstest":       4,
	"connectors/webrtc":               5,
	"capability":                      3,
	"operators":                       3,
	"base/dds":                        3,
	"base/dds/ddstest":                4,
	"operators/audio":                 4,
	"operators/text":                  4,
	"operators/image":                 4,
	"operators/wrap":                  4,
	"operators/golden":                5,
	"operators/forms":                 4,
	"operators/speech":                5,
	"operators/catalogue":             6,
	"operators/host":                  5,
	"sds":                             6,
	"sds/announce":                    5,
	"sds/check":                       4,
	"sds/packed":                      4,
	"sds/schema":                      5,
	"sds/index":                       5,
	"sds/terms":                       5,
	"sds/summary":                     6,
	"sds/route":                       7,
	"sds/route/sim":                   8,
	"sds/tree":                        9,
	"sds/httpsd":                      7,
	"sds/dnssd":                       7,
	"base":                            7,
	"proxy":                           7,
	"apc":                             8,
	"apc/plan":                        7,
	"units":                           9,
	"units/browsertest":               9,
	"examples/directions/pbf":         9,
	"examples/directions/pbf/pbftest": 10,
	"examples/directions/spoken":      9,
	"examples/directions/roads":       10,
	"examples":                        12,
	"cmd/home":                        12,
	"cmd":                             13,
}

// banned names tell nothing about what a room is for.
var banned = []string{"util", "utils", "common", "helpers", "types", "manager", "misc"}

func TestImportsPointDownwards(t *testing.T) {
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && file != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "out") {
			return fs.SkipDir
		}
		if d.IsDir() {
			for _, b := range banned {
				if name == b {
					t.Errorf("%s: a room says what is in it", file)
				}
			}
		}
		if !d.IsDir() && strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go") && path.Dir(file) != "." {
			checkFile(t, file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkFile(t *testing.T, file string) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Errorf("%s: %v", file, err)
		return
	}
	room := path.Dir(filepath.ToSlash(file))
	mine, ok := floorOf(room)
	if !ok {
		t.Errorf("%s: the room has no floor: place it in structure_test.go and in ARCHITECTURE.md", room)
		return
	}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		other, ours := strings.CutPrefix(imported, "ninja/")
		if err != nil || !ours || strings.HasPrefix(other, room+"/") {
			continue
		}
		floor, ok := floorOf(other)
		if ok && floor >= mine && !pb(other, room) {
			t.Errorf("%s (floor %d) imports %s (floor %d): imports point downwards", file, mine, other, floor)
		}
	}
}

// pb reports whether the import is the room's own generated code, which may stand beside sub-rooms.
func pb(imported, room string) bool {
	return path.Dir(imported) == room && strings.HasSuffix(imported, "pb")
}

func floorOf(room string) (int, bool) {
	for ; room != "."; room = path.Dir(room) {
		if floor, ok := floors[room]; ok {
			return floor, true
		}
	}
	return 0, false
}

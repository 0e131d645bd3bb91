package directions

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// delaware opens the extract that ships with the module of paulmach/osm.
func delaware(t testing.TB) *os.File {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/paulmach/osm").Output()
	if err != nil {
		t.Fatalf("find the module of paulmach/osm: %v", err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(out)), "testdata", "delaware-latest.osm.pbf"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestDelaware(t *testing.T) {
	f := delaware(t)
	start := time.Now()
	m, err := LoadMap(f)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(time.Since(start))
	v, l, a := m.Roads.Stats()
	fmt.Println(v, l, a, m.Skipped, m.Addresses.Len(), len(m.Addresses.Streets()), len(m.Addresses.Cities()))
	fmt.Println(string(m.Addresses.Grammar()))
}

package ninja

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the README says to authors of operators does what it says: the plan at its end goes through the operator.
func TestREADMEOperator(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```sh\n(ninjactl operator init.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatal("the README has no script for authors")
	}
	bin, err := filepath.Abs("bin")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // programs run as nobody when the daemon is root
			t.Fatal(err)
		}
	}
	script := strings.ReplaceAll(string(m[1]), "/tmp/", dir+"/")
	script = strings.Replace(script, "\nexport NINJA_HOME", "\nuntil [ -e "+dir+"/ninja/admin/identity.pem ]; do sleep 0.1; done\nexport NINJA_HOME", 1)
	script = strings.Replace(script, "\nninjactl path plan", "\nuntil ninjactl operator list | grep -q 'shout.*published' && ninjactl path plan 'phone:dev ! ?time-of-day ! phone:dev' >/dev/null 2>&1; do sleep 0.2; done\nninjactl path plan", 1)
	cmd := exec.Command("timeout", "-k", "5", "90", "bash", "-c", "set -e\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\ncd "+dir+"\nexport PATH="+bin+":$PATH\n"+script)
	out, err := cmd.CombinedOutput()
	for _, want := range []string{"shout does what its description says", "is published", "style=shout", "no cheaper path exists"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("%v, want %q\n%s", err, want, out)
		}
	}
}

package ninja

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every command line in the README names a command and options that exist.
func TestREADMECommandsExist(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	make_, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	targets := 0
	for _, m := range regexp.MustCompile("`?make ([a-z]+)").FindAllStringSubmatch(string(b), -1) {
		targets++
		if !strings.Contains(string(make_), "\n"+m[1]+":") {
			t.Errorf("README speaks of make %s, which does not exist", m[1])
		}
	}
	if targets < 4 {
		t.Errorf("only %d mentions of make were found", targets)
	}
}

// The ten lines of the README do what they say: a new user publishes a telephone, finds it, and joins it to a service.
func TestREADMETenLines(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```sh\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatal("the README has no script")
	}
	dir := t.TempDir()
	script := strings.ReplaceAll(string(m[1]), "/tmp/", dir+"/")
	// The daemons of the script run in the background; they end with it.
	script = "set -e\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n" +
		strings.Replace(script, "\nexport NINJA_HOME", "\nuntil [ -e "+dir+"/ninja/admin/identity.pem ]; do sleep 0.1; done\nexport NINJA_HOME", 1)
	script = strings.Replace(script, "\nsdsquery kind=phone", "\nuntil sdsquery kind=phone name=mine; do sleep 0.2; done\nsdsquery kind=phone", 1)
	cmd := exec.Command("timeout", "-k", "5", "90", "bash", "-c", script)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "what time is it in tokyo") || !strings.Contains(string(out), "found:") {
		t.Errorf("%v\n%s", err, out)
	}
	if wav, err := os.Stat(filepath.Join(dir, "heard.wav")); err != nil || wav.Size() < 10_000 {
		t.Errorf("nothing was heard: %v", err)
	}
}

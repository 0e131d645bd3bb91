package dnssd

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ninja/internal/world"
	"ninja/sds"
)

// inside is set in the process that runs beside an avahi-daemon.
const inside = "NINJA_DNSSD_INSIDE"

// Avahi, which is what a Debian desktop browses with, sees what is exported, and what it publishes is imported. All of it
// happens in a network namespace of its own.
func TestAvahi(t *testing.T) {
	if os.Getenv(inside) != "" {
		t.Run("export", testAvahiBrowses)
		t.Run("import", testAvahiPublishes)
		return
	}
	for _, tool := range []string{"avahi-daemon", "avahi-browse", "avahi-publish", "dbus-daemon", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: install avahi-daemon, avahi-utils, dbus and iproute2 (make setup does)", err)
		}
	}
	// Avahi gives its files to a user of its own, which takes the real root.
	namespaces := []string{"--net", "--mount"}
	if out, err := exec.CommandContext(t.Context(), "unshare", append(namespaces, "true")...).CombinedOutput(); err != nil {
		t.Logf("only root may make the namespaces that Avahi runs in here, so it is not asked: %s", out)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(namespaces, "--pid", "--mount-proc", "--fork", "--kill-child", "testdata/avahi.sh", t.TempDir(), exe, "-test.run=^TestAvahi$", "-test.v")
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", args...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if t.Logf("%s", out); err != nil || !bytes.Contains(out, []byte("PASS: TestAvahi")) {
		t.Error(err)
	}
}

const link = "10.77.0.1"

func testAvahiBrowses(t *testing.T) {
	stop := exporting(t, world.Real(), link, &fake{found: []sds.Found{service("web.site", "10.77.0.9:8080")}})
	defer stop()
	// avahi-browse ends by itself when it has heard all that there is.
	want := `;_http._tcp;local;ninja-0a4d0009.local;10.77.0.9;8080;"ninja=spiffe://test/base/b#web.site"`
	deadline := time.Now().Add(30 * time.Second)
	for {
		out, err := exec.CommandContext(t.Context(), "avahi-browse", "-rtpk", "_http._tcp").CombinedOutput()
		if err == nil && strings.Contains(string(out), want) && strings.Contains(string(out), `web\.site\032\040base\047b\041`) {
			t.Logf("%s", out)
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("avahi-browse: %v\n%s\nwant %s", err, out, want)
		}
	}
	stop()
	for {
		out, _ := exec.CommandContext(t.Context(), "avahi-browse", "-tpk", "_http._tcp").CombinedOutput()
		if !strings.Contains(string(out), "ninja") && !strings.Contains(string(out), `web\.site`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after the farewell: %s", out)
		}
	}
}

func testAvahiPublishes(t *testing.T) {
	p := &published{now: map[string]string{}}
	stop := importing(t, world.Real(), link, p)
	defer stop()
	printer := exec.CommandContext(t.Context(), "avahi-publish", "-s", "Office 2.0", "_ipp._tcp", "631", "rp=ipp/print", "Color=T")
	if err := printer.Start(); err != nil {
		t.Fatal(err)
	}
	wait := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !done(); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v", what, p.log)
			}
			_ = world.Sleep(t.Context(), 50*time.Millisecond)
		}
	}
	wait("not imported", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, d := range p.now {
			if strings.Contains(d, `name="Office 2.0"`) && strings.Contains(d, `address="10.77.0.1" port="631"`) && strings.Contains(d, `<txt key="rp">ipp/print</txt>`) {
				t.Logf("%s", d)
				return true
			}
		}
		return false
	})
	printer.Process.Kill()
	printer.Wait()
	wait("still there", func() bool { return p.count() == 0 })
}

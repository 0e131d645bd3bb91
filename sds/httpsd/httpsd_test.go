package httpsd

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"ninja/sds"
)

// fake is a Finder that counts the questions.
type fake struct {
	mu    sync.Mutex
	asked int
	found []sds.Found
	err   error
}

func (f *fake) Query(context.Context, sds.Query) ([]sds.Found, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.found, f.err
}

func service(name, description string) sds.Found {
	return sds.Found{ID: "spiffe://test/base/b#" + name, Owner: "spiffe://test/base/b", Name: name, Description: []byte(description)}
}

func handler(t testing.TB, f Finder, allow ...netip.Prefix) *Handler {
	t.Helper()
	h, err := New(Config{Finder: f, Address: "metrics/@address", Path: "metrics/@path", Allow: allow, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func get(t testing.TB, h http.Handler) (groups []group, code int) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/targets", nil))
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &groups); err != nil || w.Header().Get("Content-Type") != "application/json" || groups == nil {
			t.Fatalf("%q: %v", w.Body, err)
		}
	}
	return groups, w.Code
}

func TestTargets(t *testing.T) {
	f := &fake{found: []sds.Found{
		service("z", `<service kind="map" a-b="x&quot;"><metrics address="10.1.2.3:9100" path="/m"/></service>`),
		service("a", `<s:service xmlns:s="urn:x"><s:metrics address="[fd00::1]:9100"/></s:service>`),
		service("none", `<service/>`),
		service("name", `<service><metrics address="example.com:9100"/></service>`),
		service("outside", `<service><metrics address="203.0.113.7:9100"/></service>`),
		service("cloud", `<service><metrics address="169.254.169.254:80"/></service>`),
		service("mapped", `<service><metrics address="[::ffff:203.0.113.7]:80"/></service>`),
		service("zone", `<service><metrics address="[fe80::1%eth0]:80"/></service>`),
		service("port", `<service><metrics address="10.1.2.3:0"/></service>`),
		service("path", `<service><metrics address="10.1.2.3:1" path="evil.example/"/></service>`),
		service("broken", `<service>`),
	}}
	groups, code := get(t, handler(t, f))
	if code != 200 || len(groups) != 3 {
		t.Fatalf("%d: %+v", code, groups)
	}
	if g := groups[0]; g.Targets[0] != "[fd00::1]:9100" || g.Labels[labelName] != "a" || g.Labels[labelPath] != "" {
		t.Errorf("%+v", g)
	}
	if g := groups[1]; g.Targets[0] != "10.1.2.3:1" || g.Labels[labelPath] != "" {
		t.Errorf("%+v", g)
	}
	if g := groups[2]; g.Targets[0] != "10.1.2.3:9100" || g.Labels[labelRoot+"kind"] != "map" || g.Labels[labelRoot+"a_b"] != `x"` ||
		g.Labels[labelPath] != "/m" || g.Labels[labelService] != "spiffe://test/base/b#z" {
		t.Errorf("%+v", g)
	}
	if groups, _ := get(t, handler(t, f, netip.MustParsePrefix("203.0.113.0/24"))); len(groups) != 2 {
		t.Errorf("with another network: %+v", groups)
	}
}

// Many scrapers cost one question, failure is told as such and is not kept.
func TestFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		h := handler(t, f)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { get(t, h) })
		}
		all.Wait()
		if groups, code := get(t, h); f.asked != 1 || code != 200 || len(groups) != 0 {
			t.Errorf("%d questions, %d %v", f.asked, code, groups)
		}
		time.Sleep(6 * time.Second)
		f.err = errors.New("away")
		if _, code := get(t, h); code != http.StatusServiceUnavailable {
			t.Error(code)
		}
		f.err = nil
		if _, code := get(t, h); code != 200 {
			t.Error(code)
		}
	})
}

func TestOnlyGet(t *testing.T) {
	w := httptest.NewRecorder()
	handler(t, &fake{}).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x")))
	if w.Code != http.StatusMethodNotAllowed {
		t.Error(w.Code)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{{}, {Finder: &fake{}}, {Finder: &fake{}, Address: "a", Path: "@x/y"}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v", cfg)
		}
	}
}

// Whatever a description says, the answer is JSON whose targets are IP and port within the networks.
func FuzzGroup(f *testing.F) {
	f.Add(`<service kind="map"><metrics address="10.1.2.3:9100" path="/m"/></service>`)
	f.Fuzz(func(t *testing.T, description string) {
		groups, code := get(t, handler(t, &fake{found: []sds.Found{service("s", description)}}))
		if code != 200 {
			t.Fatal(code)
		}
		for _, g := range groups {
			if a, err := netip.ParseAddrPort(g.Targets[0]); err != nil || !a.Addr().IsPrivate() && !a.Addr().IsLoopback() {
				t.Error(g.Targets)
			}
		}
	})
}

// Threats, row 26: what a description says stays text in the answer, whatever is in it, and nothing in it is a control
// character.
func TestHostileTargets(t *testing.T) {
	n := 500
	if os.Getenv("NINJA_PROVE") == "1" {
		n = 300_000
	}
	r := rand.New(rand.NewPCG(26, 27))
	pieces := []string{"\u009b31m", "\u202e", "\u2028", `","targets":["8.8.8.8:53"]`, "</script>", "\x7f", "\U000e0041", "\ufeff", "𝄞", "é", " ", "x", `\`}
	for range n {
		var kind strings.Builder
		for range 1 + r.IntN(5) {
			kind.WriteString(pieces[r.IntN(len(pieces))])
		}
		var escaped strings.Builder
		_ = xml.EscapeText(&escaped, []byte(kind.String()))
		f := &fake{found: []sds.Found{service("s", `<service kind="`+escaped.String()+`"><metrics address="10.0.0.1:9100"/></service>`)}}
		w := httptest.NewRecorder()
		handler(t, f).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/targets", nil))
		for _, c := range w.Body.String() {
			if !unicode.IsPrint(c) {
				t.Fatalf("%q", w.Body)
			}
		}
		var groups []group
		if err := json.Unmarshal(w.Body.Bytes(), &groups); err != nil || len(groups) != 1 || len(groups[0].Targets) != 1 || groups[0].Labels["__meta_ninja_attribute_kind"] != kind.String() {
			t.Fatalf("%v: %s", err, w.Body)
		}
	}
	t.Logf("PROVE %d hostile descriptions through the page for Prometheus: no control character, no target that is not ours", n)
}

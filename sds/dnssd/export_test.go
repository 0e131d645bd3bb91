package dnssd

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"ninja/internal/world"
	"ninja/sds"
)

// fake is a Finder.
type fake struct {
	mu    sync.Mutex
	found []sds.Found
	err   error
}

func (f *fake) Query(context.Context, sds.Query) ([]sds.Found, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.found, f.err
}

func (f *fake) set(err error, found ...sds.Found) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found, f.err = found, err
}

func service(name, address string) sds.Found {
	return sds.Found{
		ID: "spiffe://test/base/b#" + name, Owner: "spiffe://test/base/b", Name: name,
		Description: []byte(`<service kind="web"><node http="` + address + `"/></service>`),
	}
}

func exporting(t *testing.T, w world.World, via string, f Finder) (stop func()) {
	t.Helper()
	x, err := NewExporter(ExporterConfig{
		World: w, Via: netip.MustParseAddr(via), Finder: f, Log: quiet(),
		Rules: []Rule{{Query: sds.Query{Template: []byte(`<service kind="web"/>`)}, Type: "_http._tcp", Address: "node/@http"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- x.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// browser counts what it hears of each record.
type browser struct {
	s *socket
}

// hear collects records for a time: by type, name and how often; goodbyes begin with a minus.
func (b *browser) hear(d time.Duration) map[string]int {
	out := map[string]int{}
	end := time.After(d)
	for {
		select {
		case m := <-b.s.heard:
			for _, r := range m.records {
				sign := ""
				if r.ttl == 0 {
					sign = "-"
				}
				if m.response {
					out[sign+map[uint16]string{typeA: "A ", typePTR: "PTR ", typeSRV: "SRV ", typeTXT: "TXT "}[r.typ]+string(r.name)]++
				}
			}
		case <-end:
			return out
		}
	}
}

const shownName = "SRV web (base/b)._http._tcp.local."

func TestExporterOnALink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := world.NewSim(1, world.Link{Delay: time.Millisecond})
		f := &fake{found: []sds.Found{service("web", "192.0.2.9:80"), service("named", "example.com:80"), service("six", "[fd00::1]:80")}}
		s, err := listen(t.Context(), sim.Host("10.0.0.2"), netip.MustParseAddr("10.0.0.2"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		b := &browser{s}
		stop := exporting(t, sim.Host("10.0.0.1"), "10.0.0.1", f)
		defer stop()
		if heard := b.hear(4 * time.Second); heard[shownName] != 2 || heard["A ninja-c0000209.local."] != 2 || heard["PTR _http._tcp.local."] != 2 || len(heard) != 5 {
			t.Errorf("announced: %v", heard)
		}
		browse := pack(false, []question{{"_HTTP._tcp.local.", typePTR}}, nil)
		s.send(quiet(), browse)
		if heard := b.hear(200 * time.Millisecond); heard[shownName] != 1 || heard["PTR _http._tcp.local."] != 1 || heard["A ninja-c0000209.local."] != 1 {
			t.Errorf("answered: %v", heard)
		}
		for range 300 { // a flood gets no more than one answer a second
			s.send(quiet(), browse)
			time.Sleep(10 * time.Millisecond)
		}
		if heard := b.hear(time.Second); heard[shownName] > 5 {
			t.Errorf("a flood is answered: %v", heard)
		}
		known := record{name: "_http._tcp.local.", typ: typePTR, ttl: 100, target: "web (base/b)._http._tcp.local."}
		s.send(quiet(), pack(false, []question{{"_http._tcp.local.", typePTR}}, []record{known}))
		s.send(quiet(), pack(false, []question{{"absent._http._tcp.local.", typeANY}}, nil))
		if heard := b.hear(2 * time.Second); len(heard) != 0 {
			t.Errorf("what is known, or not there, is answered: %v", heard)
		}
		f.set(nil) // withdrawn, or hidden
		if heard := b.hear(8 * time.Second); heard["-PTR _http._tcp.local."] != 1 {
			t.Errorf("no farewell: %v", heard)
		}
		f.set(nil, service("web", "192.0.2.9:80"))
		b.hear(10 * time.Second)
		f.set(errors.New("away")) // is held, and not for ever
		if heard := b.hear(50 * time.Second); heard["-PTR _http._tcp.local."] != 0 {
			t.Errorf("gone too soon: %v", heard)
		}
		if heard := b.hear(30 * time.Second); heard["-PTR _http._tcp.local."] != 1 {
			t.Errorf("held for ever: %v", heard)
		}
		f.set(nil, service("web", "192.0.2.9:80"))
		b.hear(10 * time.Second)
		stop()
		if heard := b.hear(time.Second); heard["-PTR _http._tcp.local."] != 1 {
			t.Errorf("the door leaves without a farewell: %v", heard)
		}
	})
}

// The doors of a link do not bring each other's services back in.
func TestOwnServicesAreNotImported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := world.NewSim(1, world.Link{Delay: time.Millisecond})
		p := &published{now: map[string]string{}}
		defer importing(t, sim.Host("10.0.0.2"), "10.0.0.2", p)()
		defer exporting(t, sim.Host("10.0.0.1"), "10.0.0.1", &fake{found: []sds.Found{service("web", "192.0.2.9:80")}})()
		time.Sleep(time.Minute)
		if p.count() != 0 {
			t.Error("imported")
		}
	})
}

func TestInstanceLabels(t *testing.T) {
	long := service(strings.Repeat("ü", 60), "")
	label := instanceLabel(long)
	if len(label) > maxLabel || !utf8.ValidString(label) || label == instanceLabel(service(strings.Repeat("ü", 61), "")) {
		t.Errorf("%q", label)
	}
}

func TestNewExporterRefuses(t *testing.T) {
	good := ExporterConfig{World: world.Real(), Via: netip.MustParseAddr("127.0.0.1"), Finder: &fake{}}
	for _, r := range []Rule{
		{Type: "_http._tcp", Address: "a"}, {Query: sds.Query{By: "x"}, Type: "http", Address: "a"}, {Query: sds.Query{By: "x"}, Type: "_http._tcp"},
	} {
		cfg := good
		cfg.Rules = []Rule{r}
		if _, err := NewExporter(cfg); err == nil {
			t.Errorf("%+v", r)
		}
	}
}

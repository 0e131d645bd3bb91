package dnssd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ninja/internal/world"
	"ninja/sds/announce"
	"ninja/sds/check"
)

var begun = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func answers(records ...record) message { return message{response: true, records: records} }

func with(r record, change func(*record)) record { change(&r); return r }

// names of what has changed and of what is gone.
func seen(s *imported, now time.Time) string {
	changed, gone, _ := s.look(now)
	var out []string
	for _, c := range changed {
		out = append(out, "+"+c.name)
	}
	for _, g := range gone {
		out = append(out, "-"+g)
	}
	return strings.Join(out, " ")
}

func TestImportedStory(t *testing.T) {
	s := newImported([]string{"_ipp._tcp"}, map[string]string{"_ipp._tcp": "printer"}, 10)
	expect := func(after time.Duration, want string) {
		t.Helper()
		if got := seen(s, begun.Add(after)); got != want {
			t.Errorf("after %v: %q, want %q", after, got, want)
		}
	}
	id := (&instance{name: printer[0].target, typ: "_ipp._tcp"}).id()
	if err := announce.CheckName(id); err != nil {
		t.Error(err)
	}
	s.take(message{records: printer}, begun) // a question with known answers
	expect(0, "")
	s.take(answers(printer[0]), begun)
	if _, _, lacking := s.look(begun); !lacking {
		t.Error("it lacks an address")
	}
	q, known := s.questions(begun)
	if len(q) != 3 || len(known) != 1 || q[1].typ != typeSRV {
		t.Errorf("%+v, known %+v", q, known)
	}
	s.take(answers(printer[1], printer[2]), begun)
	expect(0, "")
	s.take(answers(printer[3]), begun)
	expect(0, "+"+id)
	expect(1, "")
	s.take(answers(printer...), begun.Add(time.Second))
	expect(time.Second, "")
	s.take(answers(with(printer[1], func(r *record) { r.port = 632 })), begun.Add(2*time.Second))
	expect(2*time.Second, "+"+id)
	// Half through the life of the address it is asked for again; it is not answered, and the service goes.
	q, _ = s.questions(begun.Add(70 * time.Second))
	if !slices.ContainsFunc(q, func(q question) bool { return q.typ == typeSRV }) || !slices.ContainsFunc(q, func(q question) bool { return q.typ == typeA }) {
		t.Errorf("%+v", q)
	}
	expect(123*time.Second, "-"+id)
	s.take(answers(printer...), begun.Add(200*time.Second))
	expect(200*time.Second, "+"+id)
	s.take(answers(with(printer[0], func(r *record) { r.ttl = 0 })), begun.Add(201*time.Second))
	expect(201*time.Second, "")
	expect(203*time.Second, "-"+id)
	if len(s.instances) != 0 || len(s.all()) != 0 {
		t.Errorf("%+v", s.instances)
	}
}

func TestDescribe(t *testing.T) {
	s := newImported([]string{"_ipp._tcp"}, map[string]string{"_ipp._tcp": "printer"}, 10)
	s.take(answers(printer...), begun)
	changed, _, _ := s.look(begun)
	const want = `<service xmlns="urn:ninja:mdns:1" kind="printer" name="Büro 2.0 \ 3rd floor" origin="mdns">
  <dnssd type="_ipp._tcp" host="printer.local." address="192.0.2.7" port="631"/>
  <txt key="rp">ipp/print</txt>
  <txt key="Color">T</txt>
  <txt key="note"></txt>
</service>
`
	if len(changed) != 1 || string(changed[0].description) != want {
		t.Errorf("%s", changed[0].description)
	}
}

func TestImportedIsBounded(t *testing.T) {
	s := newImported([]string{"_ipp._tcp"}, nil, 5)
	for i := range 100 {
		one := under(fmt.Sprint("p", i), "_ipp._tcp.local.")
		s.take(answers(
			with(printer[0], func(r *record) { r.target = one }),
			with(printer[1], func(r *record) { r.name, r.target = one, name(fmt.Sprintf("h%d.local.", i)) }),
			with(printer[3], func(r *record) { r.name = name(fmt.Sprintf("h%d.local.", i)) }),
			with(printer[3], func(r *record) { r.name = name(fmt.Sprintf("nobody%d.local.", i)) }),
		), begun)
	}
	if len(s.instances) != 5 || len(s.hosts) != 5 {
		t.Errorf("%d instances, %d hosts", len(s.instances), len(s.hosts))
	}
}

// Whatever comes from the link, what is published is a description that the SDS takes, under a name that it takes.
func FuzzImport(f *testing.F) {
	f.Add(pack(true, nil, printer)[0])
	f.Add(pack(true, nil, []record{
		with(printer[0], func(r *record) { r.target = "\x00<&\"'\xff\u2028._ipp._tcp.local." }),
		with(printer[1], func(r *record) { r.name = "\x00<&\"'\xff\u2028._ipp._tcp.local." }),
		with(printer[2], func(r *record) {
			r.name, r.texts = "\x00<&\"'\xff\u2028._ipp._tcp.local.", []string{"<k>=]]>\x00\n", "=x"}
		}), printer[3],
	})[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		s := newImported([]string{"_ipp._tcp"}, nil, 10)
		s.take(m, begun)
		changed, _, _ := s.look(begun)
		for _, c := range changed {
			if _, err := check.Parse(c.description); err != nil {
				t.Errorf("%s: %v", c.description, err)
			}
			if err := announce.CheckName(c.name); err != nil {
				t.Error(err)
			}
		}
	})
}

// Control bytes and markup of an instance's name and texts do no harm, and the rest is kept.
func TestHostileNames(t *testing.T) {
	s := newImported([]string{"_ipp._tcp"}, nil, 10)
	odd := under("\x00<&\"'\xff\n", "_ipp._tcp.local.")
	s.take(answers(
		with(printer[0], func(r *record) { r.target = odd }), with(printer[1], func(r *record) { r.name = odd }),
		with(printer[2], func(r *record) { r.name, r.texts = odd, []string{"<k>=]]>\x00"} }), printer[3],
	), begun)
	changed, _, _ := s.look(begun)
	if len(changed) != 1 || strings.Contains(string(changed[0].description), "<k>") {
		t.Fatalf("%+v", changed)
	}
	if _, err := check.Parse(changed[0].description); err != nil {
		t.Error(err)
	}
}

// published is what an Importer published.
type published struct {
	mu  sync.Mutex
	now map[string]string
	log []string
}

func (p *published) Publish(name string, description []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now[name] = string(description)
	p.log = append(p.log, "+"+name)
	return nil
}

func (p *published) Withdraw(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.now, name)
	p.log = append(p.log, "-"+name)
}

// count is how many are published now.
func (p *published) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.now)
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func importing(t *testing.T, w world.World, via string, p *published) (stop func()) {
	t.Helper()
	im, err := NewImporter(ImporterConfig{
		World: w, Via: netip.MustParseAddr(via), Types: []string{"_ipp._tcp", "_http._tcp"}, Publish: p.Publish, Withdraw: p.Withdraw, Log: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- im.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// A printer that answers questions appears, and goes with its goodbye; with the door all that it brought goes.
func TestImporterOnALink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := world.NewSim(1, world.Link{Delay: time.Millisecond})
		p := &published{now: map[string]string{}}
		stop := importing(t, sim.Host("10.0.0.1"), "10.0.0.1", p)
		defer stop()
		device, err := listen(t.Context(), sim.Host("10.0.0.2"), netip.MustParseAddr("10.0.0.2"))
		if err != nil {
			t.Fatal(err)
		}
		defer device.close()
		reply := func() { // one record a question, as stingy as can be
			for {
				select {
				case m := <-device.heard:
					for _, q := range m.questions {
						for _, r := range printer {
							if r.name.key() == q.name.key() && r.typ == q.typ {
								device.send(quiet(), pack(true, nil, []record{r}))
							}
						}
					}
				case <-time.After(5 * time.Second):
					return
				}
			}
		}
		reply()
		if p.count() != 1 {
			t.Errorf("published %v", p.log)
		}
		device.send(quiet(), pack(true, nil, []record{with(printer[0], func(r *record) { r.ttl = 0 })}))
		time.Sleep(3 * time.Second)
		if p.count() != 0 {
			t.Errorf("after the goodbye: %v", p.log)
		}
		device.send(quiet(), pack(true, nil, printer))
		time.Sleep(time.Second)
		if p.count() != 1 {
			t.Errorf("announced: %v", p.log)
		}
		stop()
		if p.count() != 0 {
			t.Errorf("after the door: %v", p.log)
		}
	})
}

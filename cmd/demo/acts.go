package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ninja/apc"
	"ninja/examples/directions"
)

// unknownAddress is the outcome of an address that the map does not have, when the answer says so correctly.
type unknownAddress struct{ said string }

func (u unknownAddress) Error() string { return "the map does not have the address: " + u.said }

// request is all that the path creator is told: two ends and what must lie between.
const request = "phone:lobby ! ?map-directions ! phone:lobby"

// domain is the trust domain of the demo.
const domain = "demo.ninja"

func run(ctx context.Context, o options) (err error) {
	s, err := newStage(o.Out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano()) % 100_000
	}
	p := &printer{quiet: o.Quiet}
	p.title("Ninja: a spoken address comes back as spoken directions")
	if err := raise(ctx, s, p, o); err != nil {
		return err
	}
	sayings, err := draw(o)
	if err != nil {
		return err
	}
	if o.Calls > 1 {
		return series(ctx, s, o, sayings)
	}
	if err := pickUp(ctx, s, p, o, o.Voice[0], sayings[0]); err != nil {
		return err
	}
	if err := show(ctx, s, p); err != nil {
		return err
	}
	v, err := call(ctx, s, p, sayings[0])
	if err != nil {
		return err
	}
	return v.print(s, p)
}

// draw is what will be said: the user's words, or addresses of the map and ways to say them.
func draw(o options) ([]string, error) {
	if o.Say != "" {
		return []string{o.Say}, nil
	}
	f, err := os.Open(o.Map)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := directions.LoadMap(f)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, sample := range m.Addresses.Sample(o.Seed, o.Calls) {
		all = append(all, sample.Text)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the map %s has no address that can be said without its city", o.Map)
	}
	return all, nil
}

// raise starts the server, the proxies and the base node, each joining with a token of its own.
func raise(ctx context.Context, s *stage, p *printer, o options) error {
	p.act("Starting: a server, two active proxies, a base node with the map; each a process with an identity of its own")
	r := rand.New(rand.NewPCG(o.Seed, uint64(os.Getpid())))
	// A channel of the demo's own keeps two demos on one machine apart.
	group := fmt.Sprintf("239.255.%d.%d", 80+r.IntN(100), 1+r.IntN(250))
	port := 20000 + r.IntN(20000)
	discovery := fmt.Sprintf("discovery: {group: '%s:%d', via: 127.0.0.1}\n", group, port)
	server := discovery + fmt.Sprintf("roles:\n  ca: {domain: %s}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s}\n  apc: {}\n",
		domain, group, port+1)
	if err := s.start(ctx, "server", server); err != nil {
		return err
	}
	join := func(name, principal, roles string) error {
		token, err := s.as(ctx, "server/admin", "ninjactl", "token", "--for", principal)
		if err != nil {
			return err
		}
		return s.start(ctx, name, discovery+"join: "+token+"\nhttp: 127.0.0.1:0\nroles:\n"+roles)
	}
	everyone := `acl: ["everyone: find, use"]`
	errs := make(chan error, 3)
	go func() {
		errs <- join("proxy1", "proxy/p1", "  proxy: {name: p1, "+everyone+"}\n")
	}()
	go func() {
		errs <- join("proxy2", "proxy/p2", "  proxy: {name: p2, "+everyone+"}\n")
	}()
	go func() {
		errs <- join("base", "base/b1", "  base:\n    name: b1\n    services:\n      - {component: map-directions, name: map, args: {map: '"+o.Map+"'}, "+everyone+"}\n"+
			"      - {component: time-of-day, name: clock, "+everyone+"}\n")
	}()
	if err := errors.Join(<-errs, <-errs, <-errs); err != nil {
		return err
	}
	token, err := s.as(ctx, "server/admin", "ninjactl", "token", "--for", "user/ann")
	if err != nil {
		return err
	}
	_, err = s.run(ctx, "ninjactl", "join", token, "--group", fmt.Sprintf("%s:%d", group, port), "--via", "127.0.0.1")
	return err
}

// pickUp makes the recording that the telephone will say, and starts the telephone.
func pickUp(ctx context.Context, s *stage, p *printer, o options, voice, say string) error {
	said, heard := filepath.Join(s.out, "said.wav"), filepath.Join(s.out, "heard.wav")
	flite := exec.CommandContext(ctx, "flite", "-voice", voice, "-o", said)
	flite.Stdin = strings.NewReader(say)
	flite.Args = append(flite.Args, "/dev/stdin")
	if out, err := flite.CombinedOutput(); err != nil {
		return fmt.Errorf("flite -voice %s: %w: %s", voice, err, out)
	}
	p.line("a telephone, in the lobby, will say (voice %s, seed %d): %q", voice, o.Seed, say)
	token := s.tokens["phone"]
	if token == "" {
		var err error
		if token, err = s.as(ctx, "server/admin", "ninjactl", "token", "--for", "unit/lobby"); err != nil {
			return err
		}
		s.tokens["phone"] = token
	}
	settings, err := os.ReadFile(filepath.Join(s.out, "proxy1.yaml"))
	if err != nil {
		return err
	}
	var discovery string
	for _, line := range strings.Split(string(settings), "\n") {
		if strings.HasPrefix(line, "discovery:") {
			discovery = line + "\n"
		}
	}
	if err := s.start(ctx, "phone", discovery+"join: "+token+"\nroles:\n  unit: {name: lobby, microphone: '"+said+"', speaker: '"+heard+
		"', hang-up: "+o.HangUp+", position: {lat: 39.1582, lon: -75.5244}, acl: ['spiffe://"+domain+"/user/ann: find, use, listen-from, send-to']}\n"); err != nil {
		return err
	}
	return s.await(ctx, "sdsquery", "kind=phone", "name=lobby")
}

// show prints what is published and what the creator would make of the request.
func show(ctx context.Context, s *stage, p *printer) error {
	for _, q := range []struct{ title, kind string }{
		{"proxies", "proxy"}, {"services", "map-directions"}, {"", "time-of-day"}, {"units", "phone"},
	} {
		out, err := s.run(ctx, "sdsquery", "kind="+q.kind)
		if err != nil {
			return err
		}
		p.found(q.title, string(out))
	}
	out, err := s.run(ctx, "sdsquery", "--count", "kind=operator")
	if err != nil {
		return err
	}
	p.line("and %s descriptions of operators that the proxies can run", strings.TrimSpace(string(out)))
	p.act("Planning: ninjactl path plan '%s'", request)
	out, err = s.run(ctx, "ninjactl", "path", "plan", request)
	p.text(string(out))
	return err
}

// await repeats a query until it finds something: announcements take a moment.
func (s *stage) await(ctx context.Context, query ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		_, err := s.run(ctx, query...)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not found in time: %w", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// outcome is what the path told while it ran.
type outcome struct {
	recognised, answer, firstSample, heard string
}

// call makes the path, follows it until the answer has been heard, and judges the answer.
func call(ctx context.Context, s *stage, p *printer, said string) (verdict, error) {
	v := verdict{said: said}
	p.act("Calling: ninjactl path create '%s'", request)
	if err := s.into(ctx, &v.path, "ninjactl", "path", "create", request); err != nil {
		return v, err
	}
	info := &v.path
	p.line("path %s runs: planned in %s, set up in %s", info.Path, ms(info.PlanTime), ms(info.SetUp))
	var err error
	if v.outcome, err = follow(ctx, s, p, info); err != nil {
		return v, err
	}
	p.act("The path as it ran")
	p.path(*info)
	if left := s.leftovers(ctx); left != "" {
		return v, fmt.Errorf("the path is gone, but something is left of it: %s", left)
	}
	p.line("torn down; nothing of it is left on any node")
	return v, v.judge()
}

// follow prints what happens until the path has ended; info is what was measured last while it ran.
func follow(ctx context.Context, s *stage, p *printer, info *apc.Info) (outcome, error) {
	var result outcome
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := s.tool(ctx, "ninjactl", "path", "watch", info.Path, "--output", "json")
	events, err := cmd.StdoutPipe()
	if err != nil {
		return result, err
	}
	if err := cmd.Start(); err != nil {
		return result, err
	}
	lines := bufio.NewScanner(events)
	for lines.Scan() {
		var e apc.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return result, fmt.Errorf("path watch printed %q: %w", lines.Text(), err)
		}
		result.take(e)
		p.event(e)
		if e.NoteKind == "heard" || e.NoteKind == "first-sample" {
			_ = s.into(ctx, info, "ninjactl", "path", "show", info.Path) // the picture before it stays good enough
		}
		if e.Kind == "fault" {
			err = errors.Join(err, fmt.Errorf("%s: %s", e.Stage, e.Text))
		}
	}
	return result, errors.Join(err, lines.Err(), cmd.Wait())
}

func (r *outcome) take(e apc.Event) {
	switch e.NoteKind {
	case "recognised":
		r.recognised = e.Text
	case "answer":
		r.answer = e.Text
	case "first-sample":
		r.firstSample = e.Text
	case "heard":
		r.heard = e.Text
	}
}

// leftovers says what the nodes still run.
func (s *stage) leftovers(ctx context.Context) string {
	var left []string
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		left = nil
		for _, name := range []string{"proxy1", "proxy2", "base"} {
			n, err := s.metric(ctx, name, "ninja_paths")
			if err != nil || n != "0" {
				left = append(left, fmt.Sprintf("%s: ninja_paths %s %v", name, n, err))
			}
		}
		if left == nil {
			return ""
		}
	}
	return strings.Join(left, "; ")
}

// metric reads one number of a daemon.
func (s *stage) metric(ctx context.Context, daemon, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(s.out, daemon+".ready"))
	if err != nil {
		return "", err
	}
	var at struct {
		HTTP string `json:"http"`
	}
	if err := json.Unmarshal(b, &at); err != nil {
		return "", err
	}
	page, err := get(ctx, "http://"+at.HTTP+"/metrics")
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(page, "\n") {
		if _, value, ok := strings.Cut(line, "} "); ok && strings.HasPrefix(line, name+"{") {
			return value, nil
		}
	}
	return "", fmt.Errorf("%s has no %s", daemon, name)
}

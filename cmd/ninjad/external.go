package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"ninja/connectors"
	"ninja/connectors/rtp/external"
	"ninja/internal/world"
	"ninja/operators"
)

// rules are the addresses outside the system that a proxy may speak with.
func (r *proxyRole) rules() (all []external.Rule, err error) {
	for _, line := range r.External {
		rule, err := external.ParseRule(line)
		if err != nil {
			return nil, err
		}
		all = append(all, rule)
	}
	return all, nil
}

// published is an allow-list as it stands in the proxy's description: without how addresses answer, or any secret.
func published(rules []external.Rule) (string, error) {
	var all []string
	for _, r := range rules {
		if s := (operators.External{Network: r.Network, First: r.First, Last: r.End}).String(); !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	text := strings.Join(all, " ")
	if len(text) > operators.MaxExternal {
		return "", fmt.Errorf("%d bytes: at most %d are published; name wider networks", len(text), operators.MaxExternal)
	}
	return text, nil
}

// externals runs the ends of paths that are addresses outside the system. The two directions of one path share one session
// with an address; two paths never do.
type externals struct {
	edge  *external.Edge
	rules []external.Rule

	mu    sync.Mutex
	calls map[callKey]*outsideCall
}

type callKey struct{ path, address string }

// outsideCall is a session and how many stages use it.
type outsideCall struct {
	session *external.Session
	users   int
}

// silentTime is how long an address may say nothing before that is a fault.
const silentTime = 30 * time.Second

// newExternals opens nothing: sessions are opened by the stages of paths.
func newExternals(w world.World, host string, rules []external.Rule, log *slog.Logger) (*externals, error) {
	local, err := netip.ParseAddr(host)
	if err != nil {
		return nil, fmt.Errorf("host %q: sockets for addresses outside want an address of this machine: %w", host, err)
	}
	edge, err := external.New(external.Config{World: w, Local: local, Allow: rules, Log: log})
	if err != nil {
		return nil, err
	}
	return &externals{edge: edge, rules: rules, calls: make(map[callKey]*outsideCall)}, nil
}

// register adds the two programs to a proxy's.
func (o *externals) register(r *operators.Registry) {
	r.Add(operators.ExternalIn, func(_ context.Context, env operators.Env) (operators.Operator, error) {
		key, err := o.check(env)
		return operators.Func(func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
			return o.with(ctx, key, env.Out, func(s *external.Session) error {
				env.Note("external", fmt.Sprintf("send to %s", s.Addr()))
				return pump(ctx, s.Reader(), out)
			})
		}), err
	})
	r.Add(operators.ExternalOut, func(_ context.Context, env operators.Env) (operators.Operator, error) {
		key, err := o.check(env)
		return operators.Func(func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
			return o.with(ctx, key, env.In, func(s *external.Session) error {
				note := fmt.Sprintf("%s is asked for consent", key.address)
				if token := s.Token(); token != "" {
					note += "; by RTCP it consents with the CNAME " + token
				}
				env.Note("external", note)
				return pump(ctx, in, s.Writer())
			})
		}), err
	})
}

// check refuses an address that the proxy may not reach when the path is prepared, before anything is opened.
func (o *externals) check(env operators.Env) (callKey, error) {
	key := callKey{env.Args[operators.ExternalPath], env.Args[operators.ExternalAddress]}
	at, err := netip.ParseAddrPort(key.address)
	if err != nil {
		return key, fmt.Errorf("address %q: want an IP address with a port", key.address)
	}
	if !slices.ContainsFunc(o.rules, func(r external.Rule) bool { return r.Allows(at) }) {
		return key, fmt.Errorf("%w: %s (roles.proxy.external)", external.ErrNotAllowed, at)
	}
	return key, nil
}

// with runs f with the session of a path with an address. It is opened by the first stage that runs, not when it is made:
// an older epoch of the path, which ends at that moment, may have had one.
func (o *externals) with(ctx context.Context, key callKey, t connectors.Type, f func(*external.Session) error) error {
	o.mu.Lock()
	c := o.calls[key]
	if c == nil {
		s, err := o.edge.Open(ctx, external.Call{Remote: "rtp://" + key.address, Type: t, Silence: silentTime})
		if err != nil {
			o.mu.Unlock()
			return err
		}
		c = &outsideCall{session: s}
		o.calls[key] = c
	}
	c.users++
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if c.users--; c.users == 0 {
			delete(o.calls, key)
			c.session.Close()
		}
	}()
	return f(c.session)
}

// pump passes on what comes until its source ends.
func pump(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
	for {
		a, err := in.Read(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := out.Write(ctx, a); err != nil {
			return err
		}
	}
}

// outside has a proxy speak with addresses outside the system; it returns what of that is published.
func (n *node) outside(role proxyRole) (string, error) {
	rules, err := role.rules()
	if err != nil || rules == nil {
		return "", err
	}
	o, err := newExternals(n.d.world, n.d.cfg.Host, rules, n.log)
	if err != nil {
		return "", err
	}
	o.register(n.registry)
	return published(rules)
}

// Package httpsd is a door for Prometheus: services that publish where their metrics are become targets of its HTTP service
// discovery (prometheus.io/docs/prometheus/latest/http_sd). Whoever may reach the handler sees what the door's own
// principal may find: give it an identity of its own, and serve it where only Prometheus comes.
package httpsd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf16"

	"ninja/sds"
	"ninja/sds/check"
	"ninja/sds/index"
)

// Finder finds services; *sds.Client is one.
type Finder interface {
	Query(ctx context.Context, q sds.Query) ([]sds.Found, error)
}

// Config configures a Handler.
type Config struct {
	// Finder asks the SDS. Required.
	Finder Finder
	// Query says which services are chosen; empty is all that have an address.
	Query sds.Query
	// Address is the place in a description that holds IP:PORT, as in "metrics/@address" (see index.Select). Required.
	Address string
	// Path is the place that holds the path of the metrics; "" or a service without it leaves it to Prometheus.
	Path string
	// Allow are the networks that targets may be in: a publisher must not be able to send Prometheus anywhere. None are
	// loopback and the private networks (RFC 1918, RFC 4193).
	Allow []netip.Prefix
	// Fresh is for how long one answer serves; 0 is 5 s.
	Fresh time.Duration
	// Log is told of services that are left out; nil is slog.Default().
	Log *slog.Logger
}

// Handler answers with the targets. When the SDS cannot be asked it answers 503, and Prometheus keeps what it has.
type Handler struct {
	cfg           Config
	address, path *index.Selector

	asking sync.Mutex // held while the SDS is asked: one question serves all who wait
	answer []byte
	until  time.Time
}

// Bounds.
const (
	timeout   = 10 * time.Second
	maxLabel  = 1024 // bytes of a label's value
	maxLabels = 32   // root attributes of a service that become labels
)

// New makes a Handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Finder == nil {
		return nil, errors.New("HTTP service discovery: a finder is required")
	}
	h := &Handler{cfg: cfg}
	var err error
	if h.address, err = index.Select(cfg.Address, nil); err != nil {
		return nil, fmt.Errorf("HTTP service discovery: address: %w", err)
	}
	if cfg.Path != "" {
		if h.path, err = index.Select(cfg.Path, nil); err != nil {
			return nil, fmt.Errorf("HTTP service discovery: path: %w", err)
		}
	}
	if cfg.Fresh == 0 {
		h.cfg.Fresh = 5 * time.Second
	}
	if cfg.Log == nil {
		h.cfg.Log = slog.Default()
	}
	return h, nil
}

// group is one entry of the answer.
type group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	answer, err := h.targets(r.Context())
	if err != nil {
		h.cfg.Log.Warn("targets not found", "error", err)
		http.Error(w, "the service discovery service cannot be asked now", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(answer)
}

// targets is the answer, at most so old as configured.
func (h *Handler) targets(ctx context.Context) ([]byte, error) {
	h.asking.Lock()
	defer h.asking.Unlock()
	if time.Now().Before(h.until) {
		return h.answer, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, err := h.cfg.Finder.Query(ctx, h.cfg.Query)
	if err != nil {
		return nil, err
	}
	groups := []group{} // none is [], not null
	for _, f := range found {
		g, ok, err := h.group(f)
		if err != nil {
			h.cfg.Log.Info("service left out of the targets", "service", f.ID, "error", err)
		} else if ok {
			groups = append(groups, g)
		}
	}
	slices.SortFunc(groups, func(a, b group) int { return strings.Compare(a.Labels[labelService], b.Labels[labelService]) })
	answer, err := json.Marshal(groups)
	if err != nil {
		return nil, err
	}
	h.answer, h.until = printable(answer), time.Now().Add(h.cfg.Fresh)
	return h.answer, nil
}

// printable escapes what does not print in JSON text, such as the control characters from U+0080 on and those that turn
// the direction of writing, which package json leaves as they are. Outside strings there are none.
func printable(text []byte) []byte {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r >= 0x10000:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return []byte(b.String())
}

// The labels. Those that begin with __meta_ are for relabelling, and go unless a rule keeps them.
const (
	labelService = "__meta_ninja_service" // OWNER-ID#name
	labelOwner   = "__meta_ninja_owner"
	labelName    = "__meta_ninja_name"
	labelPath    = "__metrics_path__"
	labelRoot    = "__meta_ninja_attribute_" // and the name of an attribute of the root element
)

// group makes the entry of a service; false if it has no address.
func (h *Handler) group(f sds.Found) (g group, ok bool, err error) {
	d, err := check.Parse(f.Description)
	if err != nil {
		return g, false, err
	}
	text, ok := h.address.Value(d)
	if !ok {
		return g, false, nil
	}
	target, err := h.target(text)
	if err != nil {
		return g, false, err
	}
	g = group{[]string{target}, map[string]string{labelService: f.ID, labelOwner: string(f.Owner), labelName: f.Name}}
	for i, a := range d.Attributes(0) {
		if a.Space == "" && len(a.Value) <= maxLabel && i < maxLabels {
			g.Labels[labelRoot+strings.Map(labelRune, a.Local)] = a.Value
		}
	}
	if h.path != nil {
		if path, ok := h.path.Value(d); ok && strings.HasPrefix(path, "/") && len(path) <= maxLabel {
			g.Labels[labelPath] = path
		}
	}
	return g, true, nil
}

// target checks an address. A name is none: it could lead to another host each time it is looked up.
func (h *Handler) target(text string) (string, error) {
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Addr().Zone() != "" || a.Port() == 0 {
		return "", fmt.Errorf("address %.80q: want IP:PORT", text)
	}
	ip := a.Addr().Unmap()
	inside := slices.ContainsFunc(h.cfg.Allow, func(p netip.Prefix) bool { return p.Contains(ip) })
	if len(h.cfg.Allow) == 0 {
		inside = ip.IsLoopback() || ip.IsPrivate()
	}
	if !inside {
		return "", fmt.Errorf("address %v is not in an allowed network", a)
	}
	return netip.AddrPortFrom(ip, a.Port()).String(), nil
}

// labelRune makes a name one that Prometheus takes.
func labelRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '_'
}

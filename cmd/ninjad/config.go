package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"ninja/ca"
	"ninja/capability"
	"ninja/operators"
	"ninja/sds/announce"
)

// config is the daemon's file: where it stands, and the roles it plays. `ninjad example` prints one with every key.
type config struct {
	// State is the directory that the daemon keeps everything in.
	State string `yaml:"state"`
	// Host is the address that sockets are opened at when a role names none.
	Host string `yaml:"host"`
	// Transports are the schemes that hops of other nodes may reach this one by; none named is all of them.
	Transports []string `yaml:"transports"`
	// HTTP is where /healthz and /metrics are served; empty is nowhere.
	HTTP string `yaml:"http"`
	// Ready is a file that is written when every role is ready, with the addresses it can be reached at, as JSON.
	Ready string    `yaml:"ready"`
	Log   logConfig `yaml:"log"`
	// Discovery says how the SDS is found.
	Discovery discoveryConfig `yaml:"discovery"`
	// Join is the join token of the roles that have none of their own, or @FILE.
	Join  string `yaml:"join"`
	Roles roles  `yaml:"roles"`
}

type logConfig struct {
	Level  string `yaml:"level" allowed:"debug,info,warn,error"`
	Format string `yaml:"format" allowed:"text,json"`
}

type discoveryConfig struct {
	// Group is the well-known multicast channel of server announcements, or noGroup; Via the address of the interface.
	Group string `yaml:"group"`
	Via   string `yaml:"via"`
	// Server is the UDP address of an SDS server that is asked instead of listening, where there is no multicast.
	Server string `yaml:"server"`
}

// noGroup in place of a multicast group: the network has no multicast.
const noGroup = "none"

type roles struct {
	CA         *caRole      `yaml:"ca"`
	Capability *serviceRole `yaml:"capability"`
	SDS        *sdsRole     `yaml:"sds"`
	APC        *serviceRole `yaml:"apc"`
	Proxy      *proxyRole   `yaml:"proxy"`
	Base       *baseRole    `yaml:"base"`
	Unit       *unitRole    `yaml:"unit"`
	DNSSD      *dnssdRole   `yaml:"dnssd"`
	HTTPSD     *httpsdRole  `yaml:"httpsd"`
}

// serviceRole is what every role has.
type serviceRole struct {
	Name   string `yaml:"name"`
	Listen string `yaml:"listen"`
	Join   string `yaml:"join"`
}

type caRole struct {
	serviceRole `yaml:",inline"`
	Domain      string `yaml:"domain"`
	// Life is how long certificates live, from 10 seconds to a day; a revocation that is not heard and a change of the
	// root take that long.
	Life time.Duration `yaml:"life"`
}

type sdsRole struct {
	serviceRole `yaml:",inline"`
	// Channel is the multicast group that services announce themselves on.
	Channel string `yaml:"channel"`
	// Networks, Kinds and Owners are the server's extent; empty is all.
	Networks []string `yaml:"networks"`
	Kinds    []string `yaml:"kinds"`
	Owners   string   `yaml:"owners"`
	// Period is how often services announce themselves, rounded to a power of two of milliseconds; while they take more
	// than Budget bytes a second it becomes longer, up to MaxPeriod.
	Period    time.Duration `yaml:"period"`
	Budget    float64       `yaml:"budget"`
	MaxPeriod time.Duration `yaml:"max-period"`
	// UDP is where announcements are taken by unicast, and the server's own are asked for; empty is nowhere.
	UDP string `yaml:"udp"`
	// CA and Capability are the addresses of the certificate authority and of the capability manager; empty are those
	// that this daemon plays itself.
	CA         string `yaml:"ca"`
	Capability string `yaml:"capability"`
	// Schemas are files NAME-VERSION.dtd, or directories of them, that descriptions may claim. Registrars are IDs of who,
	// beside the administrator, may register more over the network.
	Schemas    []string `yaml:"schemas"`
	Registrars []string `yaml:"registrars"`
	// Parents are where the server joins hierarchies, Children who may join below it.
	Parents  []parentConfig   `yaml:"parents"`
	Children []childrenConfig `yaml:"children"`
	// Spawn is when the server starts another one to share its load; SpawnedBy is the server that started this one.
	Spawn     *spawnConfig `yaml:"spawn"`
	SpawnedBy string       `yaml:"spawned-by"`
}

type proxyRole struct {
	serviceRole `yaml:",inline"`
	Region      string  `yaml:"region"`
	Cores       float64 `yaml:"cores"`
	Memory      int64   `yaml:"memory"`
	// Without names built-in operators that the proxy does not offer.
	Without []string `yaml:"without"`
	// External lists what paths may send to and hear from outside the system through this proxy, and how they answer a
	// challenge: as external.ParseRule reads them.
	External    []string `yaml:"external"`
	ACL         []string `yaml:"acl"`
	guestConfig `yaml:",inline"`
}

type baseRole struct {
	serviceRole `yaml:",inline"`
	Region      string          `yaml:"region"`
	Services    []serviceConfig `yaml:"services"`
}

type serviceConfig struct {
	Component string            `yaml:"component"`
	Name      string            `yaml:"name"`
	Args      map[string]string `yaml:"args"`
	ACL       []string          `yaml:"acl"`
}

type unitRole struct {
	serviceRole `yaml:",inline"`
	Kind        string `yaml:"kind" allowed:"phone,browser"`
	// Page is where a browser unit serves its page; Certificate and Key are PEM files for HTTPS, which a page that is
	// not on this machine needs. Call is what stands between the page's microphone and loudspeaker when the user talks,
	// as in "?map-directions".
	Page        string `yaml:"page"`
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	Call        string `yaml:"call"`
	// Voice is how a browser unit's microphone speaks.
	Voice string `yaml:"voice" allowed:"pcmu,opus"`
	// Microphone is the WAV file that the unit says, Speaker the one it writes what it hears to.
	Microphone string          `yaml:"microphone"`
	Speaker    string          `yaml:"speaker"`
	HangUp     string          `yaml:"hang-up" allowed:"never,after-answer,at-first-sample"`
	Position   *positionConfig `yaml:"position"`
	ACL        []string        `yaml:"acl"`
}

type positionConfig struct {
	Lat float64 `yaml:"lat"`
	Lon float64 `yaml:"lon"`
}

func (p *positionConfig) position() *operators.Position {
	if p == nil {
		return nil
	}
	return &operators.Position{Lat: p.Lat, Lon: p.Lon}
}

// defaultConfig is what a file need not say.
func defaultConfig() config {
	return config{
		Host:      "127.0.0.1",
		Log:       logConfig{Level: "info", Format: "text"},
		Discovery: discoveryConfig{Group: "239.255.77.1:7701", Via: "127.0.0.1"},
	}
}

// maxConfig bounds the file.
const maxConfig = 1 << 20

// loadConfig reads and checks a file. Every error names the file, the line where there is one, and what is allowed.
func loadConfig(path string) (config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return config{}, err
	}
	if len(b) > maxConfig {
		return config{}, fmt.Errorf("%s: larger than %d bytes", path, maxConfig)
	}
	c, err := parseConfig(b)
	if c.Roles.Proxy != nil {
		c.Roles.Proxy.beside = filepath.Dir(path)
	}
	if err != nil {
		return config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func parseConfig(b []byte) (config, error) {
	c := defaultConfig()
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return c, err
	}
	if len(doc.Content) == 0 {
		return c, errors.New("the file is empty: ninjad example prints one")
	}
	if root := doc.Content[0]; root.Kind != yaml.MappingNode {
		return c, fmt.Errorf("line %d: want keys and values, such as state: DIRECTORY", root.Line)
	}
	if err := checkKeys(doc.Content[0], reflect.TypeOf(c), ""); err != nil {
		return c, err
	}
	if err := doc.Decode(&c); err != nil {
		return c, err
	}
	c.fillDefaults()
	return c, c.check()
}

// checkKeys compares a mapping with the fields of a type: unknown keys and values that are not allowed are errors with
// their line.
func checkKeys(n *yaml.Node, t reflect.Type, where string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			if err := checkKeys(item, t.Elem(), where); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		fields := fieldsOf(t)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			f, ok := fields[key.Value]
			if !ok {
				var names []string
				for name := range fields {
					names = append(names, name)
				}
				slices.Sort(names)
				return fmt.Errorf("line %d: unknown key %q in %s; allowed: %s", key.Line, key.Value, place(where), strings.Join(names, ", "))
			}
			if allowed := f.Tag.Get("allowed"); allowed != "" && !slices.Contains(strings.Split(allowed, ","), value.Value) {
				return fmt.Errorf("line %d: %s%s: %q is not one of %s", value.Line, where, key.Value, value.Value, strings.ReplaceAll(allowed, ",", ", "))
			}
			if err := checkKeys(value, f.Type, where+key.Value+"."); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Struct && n.Kind == yaml.ScalarNode && n.Value != "" && n.Tag != "!!null":
		return fmt.Errorf("line %d: %s: want keys and values in place of %q", n.Line, place(where), n.Value)
	}
	return nil
}

func place(where string) string {
	if where == "" {
		return "the file"
	}
	return strings.TrimSuffix(where, ".")
}

func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := make(map[string]reflect.StructField)
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" || name == "" && option == "" { // no key of the file
			continue
		}
		if option == "inline" {
			for k, v := range fieldsOf(f.Type) {
				fields[k] = v
			}
			continue
		}
		fields[name] = f
	}
	return fields
}

// fillDefaults fills what depends on other keys.
func (c *config) fillDefaults() {
	r := &c.Roles
	named := func(s *serviceRole, name string) {
		if s.Name == "" {
			s.Name = name
		}
		if s.Listen == "" {
			s.Listen = net.JoinHostPort(c.Host, "0")
		}
		if s.Join == "" {
			s.Join = c.Join
		}
	}
	if r.CA != nil {
		named(&r.CA.serviceRole, "ca")
		if r.CA.Domain == "" {
			r.CA.Domain = "ninja.local"
		}
		if r.CA.Life == 0 {
			r.CA.Life = ca.LeafLife
		}
	}
	if r.Capability != nil {
		named(r.Capability, "capability")
	}
	if r.SDS != nil {
		named(&r.SDS.serviceRole, "sds")
		if r.SDS.Channel == "" {
			r.SDS.Channel = "239.255.77.2:7702"
		}
		if r.SDS.Period == 0 {
			r.SDS.Period = 8 * time.Second
		}
		if r.SDS.Budget == 0 {
			r.SDS.Budget = 125_000
		}
		if r.SDS.MaxPeriod == 0 {
			r.SDS.MaxPeriod = max(announce.DefaultMaxPeriod, r.SDS.Period)
		}
	}
	if r.APC != nil {
		named(r.APC, "apc")
	}
	if r.Proxy != nil {
		named(&r.Proxy.serviceRole, "proxy")
		if r.Proxy.Cores == 0 {
			r.Proxy.Cores = 1
		}
	}
	if r.Base != nil {
		named(&r.Base.serviceRole, "base")
	}
	if r.Unit != nil {
		named(&r.Unit.serviceRole, "unit")
		if r.Unit.Kind == "" {
			r.Unit.Kind = "phone"
		}
		if r.Unit.Page == "" {
			r.Unit.Page = net.JoinHostPort(c.Host, "0")
		}
		if r.Unit.HangUp == "" {
			r.Unit.HangUp = "after-answer"
		}
	}
	c.fillDoors()
}

// check says what is wrong beyond single keys.
func (c *config) check() error {
	if c.State == "" {
		return errors.New("state: name the directory that the daemon keeps its state in")
	}
	if c.Roles == (roles{}) {
		return errors.New("roles: name at least one of ca, capability, sds, apc, proxy, base, unit, dnssd, httpsd")
	}
	if r := c.Roles.CA; r != nil && (r.Life < 10*time.Second || r.Life > 24*time.Hour) {
		return fmt.Errorf("roles.ca.life: %v is not between 10s and 24h", r.Life)
	}
	for key, address := range map[string]string{"discovery.group": c.Discovery.Group, "roles.sds.channel": c.channel()} {
		if a, err := netip.ParseAddrPort(address); (address != noGroup || key != "discovery.group") && (err != nil || !a.Addr().IsMulticast()) {
			return fmt.Errorf("%s: %q is not a multicast address with a port, such as 239.255.77.1:7701", key, address)
		}
	}
	if err := c.checkUnicast(); err != nil {
		return err
	}
	if err := c.checkTransports(); err != nil {
		return err
	}
	if _, err := netip.ParseAddr(c.Discovery.Via); err != nil {
		return fmt.Errorf("discovery.via: %q is not the address of a network interface", c.Discovery.Via)
	}
	if c.Roles.Proxy != nil {
		if err := c.Roles.Proxy.guestConfig.check(); err != nil {
			return err
		}
	}
	for _, acl := range [][]string{c.proxyACL(), c.unitACL()} {
		if _, err := parseACL(acl); err != nil {
			return err
		}
	}
	if s := c.Roles.SDS; s != nil {
		if _, err := registrar("domain", s.Registrars); err != nil {
			return err
		}
	}
	if c.Roles.Base != nil {
		for _, s := range c.Roles.Base.Services {
			if s.Component == "" || s.Name == "" {
				return errors.New("roles.base.services: every service wants a component and a name")
			}
			if _, err := parseACL(s.ACL); err != nil {
				return err
			}
		}
	}
	if c.Roles.SDS != nil {
		if err := c.Roles.SDS.checkHierarchies(); err != nil {
			return err
		}
	}
	if c.Roles.Proxy != nil {
		if _, err := c.Roles.Proxy.outside(); err != nil {
			return fmt.Errorf("roles.proxy.external: %w", err)
		}
	}
	return c.checkFiles()
}

func (c *config) checkFiles() error {
	if u := c.Roles.Unit; u != nil {
		if err := u.checkPage(); err != nil {
			return err
		}
		if u.Microphone != "" {
			if _, err := os.Stat(u.Microphone); err != nil {
				return fmt.Errorf("roles.unit.microphone: %w", err)
			}
		}
		if _, err := os.Stat(filepath.Dir(u.Speaker)); u.Speaker != "" && err != nil {
			return fmt.Errorf("roles.unit.speaker: %w", err)
		}
	}
	return nil
}

func (c *config) channel() string {
	if c.Roles.SDS == nil {
		return "239.255.77.2:7702"
	}
	return c.Roles.SDS.Channel
}

func (c *config) proxyACL() []string {
	if c.Roles.Proxy == nil {
		return nil
	}
	return c.Roles.Proxy.ACL
}

func (c *config) unitACL() []string {
	if c.Roles.Unit == nil {
		return nil
	}
	return c.Roles.Unit.ACL
}

// parseACL reads lines such as "everyone: find, use" and "spiffe://DOMAIN/user/ann: listen-from, send-to".
func parseACL(lines []string) ([]capability.Entry, error) {
	var entries []capability.Entry
	for _, line := range lines {
		entry, err := capability.ParseEntry(line)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// logger makes the daemon's log.
func (c *config) logger() *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

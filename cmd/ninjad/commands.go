package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

type runCommand struct {
	File string `arg:"" type:"existingfile" help:"The configuration, YAML; ninjad example prints one."`
}

func (r *runCommand) Run(ctx context.Context) error {
	c, err := loadConfig(r.File)
	if err != nil {
		return err
	}
	return c.run(ctx)
}

type checkCommand struct {
	File string `arg:"" type:"existingfile"`
}

func (r *checkCommand) Run() error {
	if _, err := loadConfig(r.File); err != nil {
		return err
	}
	fmt.Printf("%s: no mistakes found\n", r.File)
	return nil
}

type exampleCommand struct{}

func (*exampleCommand) Run() error {
	_, err := fmt.Print(example)
	return err
}

type devCommand struct {
	State string `help:"State directory; the default is one in the user's cache." type:"path"`
	HTTP  string `default:"127.0.0.1:7780" help:"Where /healthz and /metrics are served; none for nowhere."`
	Map   string `type:"existingfile" help:"Also run the map service, on this OpenStreetMap extract (.osm.pbf)."`
	Ready string `type:"path" help:"File that is written when every role is ready, with their addresses."`
	Group string `help:"Channel of server announcements; another one keeps two systems on one machine apart." placeholder:"239.255.77.1:7701"`
	Debug bool   `help:"Log more."`
}

// Run plays every role with open rights: whoever is of the domain may find and use everything.
func (r *devCommand) Run(ctx context.Context) error {
	if r.State == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		r.State = filepath.Join(cache, "ninja-dev")
	}
	c := defaultConfig()
	c.State, c.Ready = r.State, r.Ready
	if r.Group != "" {
		c.Discovery.Group = r.Group
	}
	group, err := netip.ParseAddrPort(c.Discovery.Group)
	if err != nil {
		return fmt.Errorf("--group: %w", err)
	}
	// Services announce themselves beside the servers, so that --group keeps two systems apart altogether.
	channel := netip.AddrPortFrom(group.Addr(), group.Port()+1).String()
	if r.HTTP != "none" {
		c.HTTP = r.HTTP
	}
	if r.Debug {
		c.Log.Level = "debug"
	}
	everyone := []string{"everyone: find, use"}
	c.Roles = roles{
		CA: &caRole{Domain: "dev.ninja"}, Capability: &serviceRole{}, APC: &serviceRole{},
		SDS:   &sdsRole{Period: time.Second, Channel: channel},
		Proxy: &proxyRole{ACL: everyone},
		Base: &baseRole{Services: []serviceConfig{
			{Component: "time-of-day", Name: "clock", ACL: everyone},
		}},
		Unit: &unitRole{serviceRole: serviceRole{Name: "dev"}, HangUp: "never", ACL: []string{"everyone: find, use, listen-from, send-to"}},
	}
	if r.Map != "" {
		c.Roles.Base.Services = append(c.Roles.Base.Services, serviceConfig{
			Component: "map-directions", Name: "map", ACL: everyone, Args: map[string]string{"map": r.Map},
		})
	}
	c.fillDefaults()
	if err := c.check(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "ninjad dev: every role in one process, state in %s\nuse it with: export NINJA_HOME=%s\n", c.State, filepath.Join(c.State, "admin"))
	return c.run(ctx)
}

// example is a configuration with every key. A test loads it.
const example = `# ninjad run FILE plays the roles that are named below; leave out those that this machine does not play.
state: /var/lib/ninja          # everything the daemon keeps; one daemon a directory
host: 127.0.0.1                # where sockets are opened when a role names no address
http: 127.0.0.1:7780           # /healthz and /metrics; leave it out for none
ready: /run/ninja.ready        # written when all roles are ready, with their addresses
log:
  level: info                  # debug, info, warn, error
  format: text                 # text, json
discovery:
  group: 239.255.77.1:7701     # the well-known channel that SDS servers announce themselves on
  via: 127.0.0.1               # address of the network interface to use
join: "@/etc/ninja/token"      # join token for roles without one of their own: the token, or @FILE
roles:
  ca:                          # certificate authority; makes the administrator's home, STATE/admin
    listen: 127.0.0.1:7700     # every role may have name, listen and join
    domain: example.org
  capability:                  # who may find and use what
    listen: 127.0.0.1:7704
  sds:                         # an SDS server
    listen: 127.0.0.1:7702
    channel: 239.255.77.2:7702 # the group that services announce themselves on
    period: 8s                 # how often they do
    networks: [127.0.0.0/8]    # the server's extent: networks and kinds; leave them out for all
    kinds: [proxy, base, unit, user, apc]
    ca: 127.0.0.1:7700         # where these are, when another daemon plays them
    capability: 127.0.0.1:7704
  apc:                         # a path creator
    listen: 127.0.0.1:7706
  proxy:                       # an active proxy: hosts dynamic operators
    name: p1
    region: ""
    cores: 1                   # what paths may use
    memory: 1073741824
    without: [text-upper]      # built-in operators that it does not offer
    acl: ["everyone: find, use"]
  base:                        # a base node: long-lived services
    name: b1
    region: ""
    services:
      - component: time-of-day
        name: clock
        args: {}
        acl: ["everyone: find, use"]
  unit:                        # an end device
    kind: phone
    name: lobby
    microphone: ""             # a WAV file that it says; none is silence
    speaker: ""                # a WAV file that what it hears is written to
    hang-up: after-answer      # never, after-answer, at-first-sample
    # kind: browser serves a page instead: STATE/browser-link holds the link to open. It has, in place of the three above,
    page: 127.0.0.1:7790       # where the page is served; a page for other machines wants the certificate and the key
    certificate: ""            # PEM files
    key: ""
    call: "?map-directions"    # what is asked when the user talks; without it, paths are made by others
    position: {lat: 39.16, lon: -75.52}
    acl: ["spiffe://example.org/user/ann: find, use, listen-from, send-to"]
`

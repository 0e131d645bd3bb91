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
	State    string   `help:"State directory; the default is one in the user's cache." type:"path"`
	HTTP     string   `default:"127.0.0.1:7780" help:"Where /healthz and /metrics are served; none for nowhere."`
	Map      string   `type:"existingfile" help:"Also run the map service, on this OpenStreetMap extract (.osm.pbf)."`
	Ready    string   `type:"path" help:"File that is written when every role is ready, with their addresses."`
	Programs []string `help:"A list of programs that operators may name, as ninjactl operator init writes it (program.yaml); may be repeated." type:"existingfile" placeholder:"FILE"`
	Samples  string   `help:"Folder of samples that operators are examined with." type:"existingdir" placeholder:"DIR"`
	Group    string   `help:"Channel of server announcements; another one keeps two systems on one machine apart." placeholder:"239.255.77.1:7701"`
	Debug    bool     `help:"Log more."`
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
		Proxy: &proxyRole{ACL: everyone, guestConfig: guestConfig{Publishers: []string{"everyone"}, Samples: r.Samples, ProgramFiles: r.Programs}},
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
#transports: [tcp, webrtc]      # how hops reach this node, where that is not all of tcp, udp, rtp and webrtc: here by ICE alone
http: 127.0.0.1:7780           # /healthz and /metrics; leave it out for none
ready: /run/ninja.ready        # written when all roles are ready, with their addresses
log:
  level: info                  # debug, info, warn, error
  format: text                 # text, json
discovery:
  group: 239.255.77.1:7701     # the well-known channel that SDS servers announce themselves on
  via: 127.0.0.1               # address of the network interface to use
  server: ""                   # where there is no multicast (group: none): roles.sds.udp of the server to ask
join: "@/etc/ninja/token"      # join token for roles without one of their own: the token, or @FILE
roles:
  ca:                          # certificate authority; makes the administrator's home, STATE/admin
    listen: 127.0.0.1:7700     # every role may have name, listen and join
    domain: example.org
    life: 1h                   # of certificates; a change of the root (ninjactl ca rotate) takes a little over twice that
  capability:                  # who may find and use what
    listen: 127.0.0.1:7704
  sds:                         # an SDS server
    listen: 127.0.0.1:7702
    channel: 239.255.77.2:7702 # the group that services announce themselves on
    udp: 127.0.0.1:7703        # where they are also taken by unicast, for networks without multicast; leave it out for nowhere
    period: 8s                 # how often they do; longer while all together take more than the budget, bytes a second
    budget: 125000             # -1 keeps the period as it is
    max-period: 65536ms
    networks: [127.0.0.0/8]    # the server's extent: networks, kinds and owners; leave them out for all
    kinds: [proxy, base, unit, user, apc]
    owners: ""                 # binary digits, such as 01: whose ID's SHA-256 begins with them; servers share a load so
    ca: 127.0.0.1:7700         # where these are, when another daemon plays them
    capability: 127.0.0.1:7704
    schemas: []                # NAME-VERSION.dtd files, or directories of them, that descriptions may claim
    registrars: []             # IDs of who, beside the administrator, may register more (ninjactl schema register)
    parents:                   # where it joins hierarchies of SDS servers; leave them out for none
      - hierarchy: world
        addresses: [127.0.0.1:7712] # of those that can be the parent, tried in order
        domain: example.org    # theirs; another than the server's own must be trusted here (ninjactl ca trust)
    children:                  # who may join below it; in hierarchies that are not named, servers of its own domain
      - hierarchy: world
        allow: [example.org, "spiffe://example.com/sds/main"]
    spawn:                     # start another server here to share the load, and take it back; leave it out for never
      services: 100000         # past so many that it keeps, or
      queries: 0               # so many a second that it answers; 0 is no limit
      most: 4
  apc:                         # a path creator
    listen: 127.0.0.1:7706
  proxy:                       # an active proxy: hosts dynamic operators
    name: p1
    region: ""
    cores: 1                   # what paths may use
    memory: 1073741824
    without: [text-upper]      # built-in operators that it does not offer
    external: ["192.0.2.0/24:5004-5100"]  # addresses outside the system that paths may end at, through this proxy, once they
                               # have answered STUN; or by the words behind: rtcp, cname=NAME, consent=PORT key=SECRET
    acl: ["everyone: find, use"]
    programs:                  # programs that descriptions of operators may name, by key; nothing else is ever started
      sort:
        command: [/usr/bin/sort, -u]   # an absolute path and arguments; ./ is beside this file; no shell
        mode: document         # document: one process a request; lines, framed: one process for all
        memory: 67108864       # bounds: bytes of memory and of each file written, processor time, processes, open files
        file-size: 1048576
        cpu: 5s
        processes: 4
        files: 32
        network: false         # without it, it has no network at all
        user: 65534            # who it runs as when the daemon is root
    reach: [10.1.0.0/16]       # addresses that wrapped services may have, beside public ones
    operators: ""              # folder of descriptions (*.xml) of operators that wrap, published by this proxy
    samples: ""                # folder of samples (*.xml) that operators are examined with, before and in service
    publishers: ["spiffe://example.org/user/ann"] # who may offer operators (ninjactl operator publish), or everyone
    examine: 10m               # mean time between examinations in service
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
    voice: pcmu                # pcmu, or opus: more of the voice, for a little more work
    call: "?map-directions"    # what is asked when the user talks; without it, paths are made by others
    position: {lat: 39.16, lon: -75.52}
    acl: ["spiffe://example.org/user/ann: find, use, listen-from, send-to"]
  dnssd:                       # a door to multicast DNS (Bonjour, Avahi) on one link
    name: dnssd                # it publishes and finds as spiffe://DOMAIN/base/NAME: grant that what it may show
    via: 127.0.0.1             # address of the interface on the link; the default is discovery.via
    import:                    # what is on the link is published, in the door's name
      - type: _ipp._tcp
        kind: printer          # the default is the type's name: ipp
    acl: ["everyone: find"]    # who finds it; this is the default, [] is nobody else
    export:                    # services that are shown on the link
      - type: _http._tcp
        find: [kind=web]       # as sdsquery takes them; or xpath: EXPRESSION, by: OWNER-ID
        address: http/@address # the place in a description that holds IPv4:PORT
  httpsd:                      # a door for Prometheus (http_sd_configs)
    listen: 127.0.0.1:7781     # whoever reaches it sees what spiffe://DOMAIN/base/NAME may find
    name: prometheus
    find: [metrics]            # which services; all that have an address is the default
    address: metrics/@address  # the place that holds IP:PORT
    path: metrics/@path        # the place that holds the path, where it is not /metrics
    allow: [127.0.0.0/8]       # networks that targets may be in; the default is loopback and the private ones
`

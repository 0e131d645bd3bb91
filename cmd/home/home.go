// Package home is where the command-line tools find who their user is and where the servers are: a directory with an
// identity, made by `ninjactl join`, and a line of settings. The SDS server is found by listening, all else through it.
package home

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"ninja/apc"
	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/sds"
	"ninja/sds/announce"
)

// Settings say how the user's servers are found.
type Settings struct {
	// Group is the well-known channel of server announcements, Via the address of the interface to listen on; empty are
	// the defaults.
	Group string `json:"group,omitempty"`
	Via   string `json:"via,omitempty"`
	// Server is the UDP address of a server that is asked instead, where there is no multicast (roles.sds.udp of ninjad).
	Server string `json:"server,omitempty"`
}

// Home is an opened directory.
type Home struct {
	Dir      string
	Identity *ca.Identity
	World    world.World
	Settings Settings

	servers *Servers
	rights  *capability.Client
}

// Default is the directory to use: dir itself, NINJA_HOME, or ~/.ninja.
func Default(dir string) (string, error) {
	if dir == "" {
		dir = os.Getenv("NINJA_HOME")
	}
	if dir != "" {
		return dir, nil
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(user, ".ninja"), nil
}

// settingsFile is the name of the settings within the directory.
const settingsFile = "settings.json"

// Save writes the settings beside the identity.
func (s Settings) Save(dir string) error {
	if _, err := s.channel(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, settingsFile), append(b, '\n'), 0o600)
}

// channel is where servers are heard: the parsed settings, zero where they are empty.
type channel struct {
	group, server netip.AddrPort
	via           netip.Addr
}

func (s Settings) channel() (c channel, err error) {
	if s.Group != "" {
		if c.group, err = netip.ParseAddrPort(s.Group); err != nil || !c.group.Addr().IsMulticast() {
			return c, fmt.Errorf("group %q is not a multicast address with a port, such as 239.255.77.1:7701", s.Group)
		}
	}
	if s.Via != "" {
		if c.via, err = netip.ParseAddr(s.Via); err != nil {
			return c, fmt.Errorf("via %q is not the address of a network interface", s.Via)
		}
	}
	if s.Server != "" {
		if c.server, err = netip.ParseAddrPort(s.Server); err != nil {
			return c, fmt.Errorf("server %q is not the UDP address of a server, such as 10.0.0.5:7703", s.Server)
		}
	}
	return c, nil
}

// Open loads the identity and the settings of a directory, and renews the identity when it is near its end.
func Open(ctx context.Context, dir string) (*Home, error) {
	dir, err := Default(dir)
	if err != nil {
		return nil, err
	}
	h := &Home{Dir: dir, World: world.Real()}
	h.Identity, err = ca.Load(dir, h.World)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no identity in %s: get a token from whoever runs the servers and run `ninjactl join TOKEN`, or set NINJA_HOME", dir)
	}
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, settingsFile))
	if err == nil {
		err = json.Unmarshal(b, &h.Settings)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("settings in %s: %w", dir, err)
	}
	return h, h.refresh(ctx)
}

// refresh renews an identity whose certificate is in the last third of its life. While the certificate still holds, an
// authority that is away is not missed.
func (h *Home) refresh(ctx context.Context) error {
	r, err := h.renewer()
	if err != nil || !r.Due() {
		return err
	}
	if err := r.Renew(ctx); err != nil && !h.World.Now().Before(h.Identity.Expires()) {
		return fmt.Errorf("the identity in %s has expired and could not be renewed: %w", h.Dir, err)
	}
	return nil
}

func (h *Home) renewer() (*ca.Renewer, error) {
	return ca.NewRenewer(ca.RenewerConfig{World: h.World, Identity: h.Identity, Source: ca.NewClient(h.World, h.Identity), Dir: h.Dir})
}

// Update asks the authority once whom to trust: other domains, mostly, which a home that was made before does not know.
func (h *Home) Update(ctx context.Context) error {
	s, err := ca.NewClient(h.World, h.Identity).State(ctx)
	if err == nil {
		err = h.Identity.Adopt(s)
	}
	if err == nil {
		err = h.Identity.Save(h.Dir)
	}
	return err
}

// Stay keeps the identity fresh and in step with its authority from now on until ctx ends: for commands that run for
// long. Others need no more than Open does.
func (h *Home) Stay(ctx context.Context) error {
	r, err := h.renewer()
	if err != nil {
		return err
	}
	f, err := ca.NewFollower(ca.FollowerConfig{World: h.World, Identity: h.Identity, Guide: ca.NewClient(h.World, h.Identity), Dir: h.Dir})
	if err != nil {
		return err
	}
	go r.Run(ctx)
	go f.Run(ctx)
	return nil
}

// listenTime is how long to wait for a server to be heard. Servers announce themselves every second or so, and their
// certificates every few seconds.
const listenTime = 15 * time.Second

// Servers are the addresses of the user's SDS server and of its capability manager.
type Servers struct {
	ID         ca.ID  `json:"id"`
	SDS        string `json:"sds"`
	Capability string `json:"capability"`
}

// Server finds the SDS server: the one that was heard last if it still answers, else by listening. Either way the
// connection proves who it is.
func (h *Home) Server(ctx context.Context) (Servers, error) {
	if h.servers != nil {
		return *h.servers, nil
	}
	if s, ok := h.remembered(ctx); ok {
		h.servers = &s
		return s, nil
	}
	at, err := h.Settings.channel()
	if err != nil {
		return Servers{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, listenTime)
	defer cancel()
	info, err := announce.Listen(ctx, announce.ListenConfig{Identity: h.Identity, World: h.World, Servers: at.group, Via: at.via, Server: at.server})
	if err != nil {
		return Servers{}, fmt.Errorf("no SDS server was heard for %v (is ninjad running, and are group, via and server in %s right?): %w",
			listenTime, filepath.Join(h.Dir, settingsFile), err)
	}
	if len(info.Capability) == 0 {
		return Servers{}, fmt.Errorf("SDS server %s names no capability manager", info.ID)
	}
	h.servers = &Servers{ID: info.ID, SDS: info.Addresses[0], Capability: info.Capability[0]}
	return *h.servers, h.remember()
}

// serversFile keeps what was heard last, so that a tool need not listen every time.
const serversFile = "servers.json"

// remembered returns the servers that were heard last, if the SDS server still takes connections.
func (h *Home) remembered(ctx context.Context) (s Servers, ok bool) {
	b, err := os.ReadFile(filepath.Join(h.Dir, serversFile))
	if err != nil || json.Unmarshal(b, &s) != nil {
		return s, false
	}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	conn, err := h.World.Net.Dial(ctx, "tcp", s.SDS)
	if err != nil {
		return s, false
	}
	return s, conn.Close() == nil
}

// remember replaces the file whole: tools run side by side.
func (h *Home) remember() error {
	b, err := json.Marshal(h.servers)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(h.Dir, serversFile+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(h.Dir, serversFile))
	}
	return err
}

// Rights is the client of the capability manager.
func (h *Home) Rights(ctx context.Context) (*capability.Client, error) {
	if h.rights != nil {
		return h.rights, nil
	}
	servers, err := h.Server(ctx)
	if err != nil {
		return nil, err
	}
	h.rights, err = capability.NewClient(capability.ClientConfig{World: h.World, Identity: h.Identity, Address: servers.Capability})
	return h.rights, err
}

// SDS is a client of the SDS server, with the user's capability.
func (h *Home) SDS(ctx context.Context) (*sds.Client, error) {
	rights, err := h.Rights(ctx)
	if err != nil {
		return nil, err
	}
	return sds.Dial(sds.ClientConfig{
		Identity: h.Identity, World: h.World, Address: h.servers.SDS, Capability: rights.Capability,
	})
}

// Creator is a client of a path creator, found in the SDS.
func (h *Home) Creator(ctx context.Context) (*apc.Client, error) {
	found, err := h.Find(ctx, apc.Kind, "")
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errors.New("no path creator is published that you may find")
	}
	return apc.NewClient(h.Identity, found[0].Node.Control, h.rights.Capability)
}

// Find returns the descriptions of a kind and, unless name is "", of that name, that say where they run.
func (h *Home) Find(ctx context.Context, kind, name string) ([]*operators.Description, error) {
	client, err := h.SDS(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	found, err := client.Query(ctx, sds.Query{Template: apc.Template(kind, name)})
	if err != nil {
		return nil, err
	}
	var all []*operators.Description
	for _, f := range found {
		if d, err := operators.ParseDescription(f.Description); err == nil && d.Node != nil {
			all = append(all, d)
		}
	}
	return all, nil
}

// Announcing is how the user announces services: by datagrams, and through the client what does not fit into one.
func (h *Home) Announcing(client *sds.Client) (announce.Config, error) {
	at, err := h.Settings.channel()
	return announce.Config{
		Identity: h.Identity, World: h.World, Servers: at.group, Via: at.via, Server: at.server, NoMulticast: at.server.IsValid(), Stream: client,
	}, err
}

// Package python_test drives the Python client against real servers.
package python_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"ninja/base/dds"
	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/announce"
	"ninja/sds/sdspb"
)

// interpreter is Debian's: its packages are there, and not where another python3 on the PATH looks.
const interpreter = "/usr/bin/python3"

// town is a domain with an SDS server and a capability manager, as a daemon has them.
type town struct {
	t       *testing.T
	ca      *ca.Authority
	server  *sds.Server
	sds     string
	manager string
	rights  map[ca.ID]*capability.Client
}

func newTown(t *testing.T) *town {
	a, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, ca: a, rights: map[ca.ID]*capability.Client{}}
	store, err := dds.Open(filepath.Join(t.TempDir(), "rights.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	quiet := slog.New(slog.DiscardHandler)
	managerID, serverID := w.identity(ca.KindCapability, "manager"), w.identity(ca.KindSDS, "s")
	manager, err := capability.NewManager(t.Context(), capability.ManagerConfig{Identity: managerID, Store: store, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	w.manager, _ = w.serve(managerID, func(g grpc.ServiceRegistrar) { manager.Register(g.(*grpc.Server)) })
	f, err := capability.NewFollower(capability.FollowerConfig{World: world.Real(), Identity: serverID, Address: w.manager, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	w.server, err = sds.NewServer(sds.Config{
		Identity: serverID, World: world.Real(), ACLs: f, Verifier: capability.NewVerifier(serverID, nil).WithRevocations(f), Lifetime: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.run(f.Run)
	w.run(w.server.Run)
	w.sds, _ = w.serve(serverID, w.server.Register)
	return w
}

func (w *town) run(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { defer close(ran); run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-ran })
}

// serve runs a gRPC server until the test ends or it is stopped.
func (w *town) serve(id *ca.Identity, register func(grpc.ServiceRegistrar)) (address string, stop func()) {
	w.t.Helper()
	return w.serveAt("127.0.0.1:0", id, register)
}

func (w *town) serveAt(address string, id *ca.Identity, register func(grpc.ServiceRegistrar)) (string, func()) {
	w.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	g := grpc.NewServer(append(sds.ServerOptions(), grpc.Creds(ca.ServerCredentials(id, nil)))...)
	register(g)
	ran := make(chan struct{})
	go func() { defer close(ran); g.Serve(l) }()
	stop := sync.OnceFunc(func() { g.Stop(); <-ran })
	w.t.Cleanup(stop)
	return l.Addr().String(), stop
}

func (w *town) identity(kind, name string) *ca.Identity {
	w.t.Helper()
	id, err := w.ca.NewIdentity(kind, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// home saves an identity as ninjactl join does.
func (w *town) home(id *ca.Identity) string {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := id.RenewedBy("127.0.0.1:1").Save(dir); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

func (w *town) publish(owner *ca.Identity, name, description string, who ...capability.Who) {
	w.t.Helper()
	if err := w.server.Put(announce.Sign(owner, name, 7, []byte(description))); err != nil {
		w.t.Fatal(err)
	}
	c, ok := w.rights[owner.ID()]
	if !ok {
		var err error
		if c, err = capability.NewClient(capability.ClientConfig{World: world.Real(), Identity: owner, Address: w.manager}); err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { c.Close() })
		w.rights[owner.ID()] = c
	}
	for _, one := range who {
		if _, err := c.Grant(w.t.Context(), capability.ServiceID(owner.ID(), name), one, capability.Find); err != nil {
			w.t.Fatal(err)
		}
	}
}

func command(t *testing.T, home string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), interpreter, args...)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir, "NINJA_HOME="+home, "PYTHONDONTWRITEBYTECODE=1")
	cmd.WaitDelay = time.Second
	return cmd
}

// found is a line that the command prints.
type found struct {
	ID          string             `json:"id"`
	Version     uint64             `json:"version"`
	Description string             `json:"description"`
	Numbers     map[string]float64 `json:"numbers"`
}

// query runs the command and returns what it found.
func query(t *testing.T, home string, args ...string) (out []found, stderr string, err error) {
	t.Helper()
	cmd := command(t, home, append([]string{"-m", "ninja_sds"}, args...)...)
	var text, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &complaints
	err = cmd.Run()
	if strings.Contains(complaints.String(), "ModuleNotFoundError") {
		t.Fatalf("install python3-h2, python3-protobuf and python3-cryptography (make setup does): %s", complaints.String())
	}
	for line := range strings.Lines(text.String()) {
		var f found
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, f)
	}
	return out, complaints.String(), err
}

func names(all []found) string {
	var out []string
	for _, f := range all {
		out = append(out, f.ID[strings.Index(f.ID, "#")+1:])
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// The Python client finds what its user may find, by the user's own capability, and nothing else.
func TestQuery(t *testing.T) {
	w := newTown(t)
	owner, ann, bob := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "ann"), w.identity(ca.KindUser, "bob")
	const description = `<service kind="printer"><floor>3</floor><note>ünïcode "&amp;" </note></service>`
	w.publish(owner, "open", description, capability.Everyone)
	w.publish(owner, "anns", description, capability.Who(ann.ID()))
	w.publish(owner, "hidden", description)
	w.publish(ann, "own", `<service kind="camera"/>`)
	at := []string{"--sds", w.sds, "--manager", w.manager}
	ask := func(id *ca.Identity, want string, args ...string) []found {
		t.Helper()
		home := w.home(id)
		deadline := time.Now().Add(10 * time.Second)
		for {
			out, stderr, err := query(t, home, append(at, args...)...)
			if err == nil && stderr == "" && names(out) == want {
				return out
			}
			if time.Now().After(deadline) { // the server hears of ACLs a moment later
				t.Fatalf("%s finds %q (%v %s), want %q", id.ID(), names(out), err, stderr, want)
			}
		}
	}
	ask(ann, "anns open own")
	ask(bob, "open")
	out := ask(ann, "anns open", `<service kind="printer"><floor>3</floor></service>`)
	if out[0].Description != description || out[0].Version != 7 || !strings.HasPrefix(out[0].ID, string(owner.ID())) {
		t.Errorf("%+v", out[0])
	}
	ask(ann, "own", "--by", string(ann.ID()))
	ask(ann, "own", "--xpath", `/service[@kind="camera"]`)
	ask(ann, "", `<service kind="nothing"/>`)
	if out, _, _ := query(t, w.home(bob), "--sds", w.sds, "--manager", ""); names(out) != "open" {
		t.Errorf("without capability: %s", names(out))
	}
	if _, stderr, err := query(t, w.home(bob), append(at, "--xpath", "][")...); err == nil || !strings.Contains(stderr, "ninja_sds: ") || strings.Contains(stderr, "Traceback") {
		t.Errorf("a bad expression: %v %s", err, stderr)
	}
}

// Whoever answers at the address must be an SDS server of the caller's own domain.
func TestTheServerIsChecked(t *testing.T) {
	w, other := newTown(t), newTown(t)
	user := w.home(w.identity(ca.KindUser, "u"))
	impostor, _ := w.serve(w.identity(ca.KindAPC, "a"), w.server.Register)
	for what, tc := range map[string]struct{ address, words string }{
		"another kind": {impostor, "wanted the kind sds"}, "another root": {other.sds, "certificate verify failed"}, "nobody": {"127.0.0.1:1", "refused"},
	} {
		out, stderr, err := query(t, user, "--sds", tc.address, "--manager", "")
		if err == nil || len(out) != 0 || !strings.Contains(stderr, tc.words) || strings.Contains(stderr, "Traceback") {
			t.Errorf("%s: %v %v %s", what, out, err, stderr)
		}
	}
}

// liar is an SDS server that answers whatever it likes.
type liar struct {
	sdspb.UnimplementedDiscoveryServer
	answer *sdspb.QueryResponse
}

func (l *liar) Query(context.Context, *sdspb.QueryRequest) (*sdspb.QueryResponse, error) {
	return l.answer, nil
}

func foundOf(b announce.Body) *sdspb.Found {
	return &sdspb.Found{Owner: string(b.Owner), Name: b.Name, Version: b.Version, Description: b.Description, Signature: b.Signature, Chain: b.Chain}
}

// What a lying server changes, makes up or signs with another's key is left out: of all these only the true ones remain.
func TestForgedDescriptions(t *testing.T) {
	w, other := newTown(t), newTown(t)
	owner, mallory, foreign := w.identity(ca.KindBase, "b"), w.identity(ca.KindBase, "mallory"), other.identity(ca.KindBase, "b")
	const text = `<service kind="printer"/>`
	made := func(id *ca.Identity, name string, change func(*sdspb.Found)) *sdspb.Found {
		f := foundOf(announce.Sign(id, name, 1, []byte(text)))
		change(f)
		return f
	}
	nothing := func(*sdspb.Found) {}
	expired, err := w.ca.Issue(owner.ID(), owner.Public(), -time.Second)
	if err != nil {
		t.Fatal(err)
	}
	all := []*sdspb.Found{
		made(owner, "true1", nothing),
		made(owner, "text", func(f *sdspb.Found) { f.Description = []byte(`<service kind="Printer"/>`) }),
		made(owner, "version", func(f *sdspb.Found) { f.Version++ }),
		made(owner, "renamed", func(f *sdspb.Found) { f.Name = "other" }),
		made(mallory, "owner", func(f *sdspb.Found) { f.Owner = string(owner.ID()) }),
		made(mallory, "chain", func(f *sdspb.Found) { f.Owner, f.Chain = string(owner.ID()), owner.Chain() }),
		made(foreign, "foreign", nothing),
		made(foreign, "spliced", func(f *sdspb.Found) { f.Chain = [][]byte{f.Chain[0], owner.Chain()[1]} }),
		made(owner, "expired", func(f *sdspb.Found) { f.Chain = expired }),
		made(owner, "short", func(f *sdspb.Found) { f.Chain = f.Chain[:1] }),
		made(owner, "none", func(f *sdspb.Found) { f.Chain = nil }),
		made(owner, "authority", func(f *sdspb.Found) { f.Chain = [][]byte{f.Chain[1], f.Chain[1]} }),
		made(owner, "unsigned", func(f *sdspb.Found) { f.Signature = nil }),
		made(owner, "true2", nothing),
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		all = append(all, made(owner, fmt.Sprint("bent", i), func(f *sdspb.Found) {
			c := i % 2
			f.Chain = slices.Clone(f.Chain)
			f.Chain[c] = bytes.Clone(f.Chain[c])
			f.Chain[c][random.IntN(len(f.Chain[c]))] ^= 1 << random.IntN(8)
		}))
	}
	address, _ := w.serve(w.identity(ca.KindSDS, "liar"), func(g grpc.ServiceRegistrar) {
		sdspb.RegisterDiscoveryServer(g, &liar{answer: &sdspb.QueryResponse{Found: all}})
	})
	out, stderr, err := query(t, w.home(w.identity(ca.KindUser, "u")), "--sds", address, "--manager", "")
	if err != nil || names(out) != "true1 true2" {
		t.Errorf("%v: %s", err, names(out))
	}
	if n := strings.Count(stderr, "left out"); n != len(all)-2 || strings.Contains(stderr, "Traceback") {
		t.Errorf("%d of %d are said to be left out: %s", n, len(all)-2, stderr[max(0, len(stderr)-1500):])
	}
	t.Logf("%d forged, %d accepted", len(all)-2, len(out)-2)
}

// A connection that the server ended, as happens when certificates expire, is not noticed by the caller; large questions
// and answers pass.
func TestReconnectAndLargeMessages(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	large := `<service kind="large">` + strings.Repeat("<part>"+strings.Repeat("x", 1000)+"</part>", 40) + `</service>`
	for i := range 12 {
		w.publish(owner, fmt.Sprint("s", i), large)
	}
	id := w.identity(ca.KindSDS, "front")
	address, stop := w.serve(id, w.server.Register)
	cmd := command(t, w.home(owner), "-c", `
import sys, ninja_sds
client = ninja_sds.Client(sds=sys.argv[1], manager=sys.argv[2])
for line in sys.stdin:
    found = client.query(line.strip())
    print(len(found), sum(len(f.description) for f in found), flush=True)
`, address, w.manager)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	ask := func(template string) {
		t.Helper()
		if _, err := io.WriteString(in, template+"\n"); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint(12, " ", 12*len(large)); !lines.Scan() || lines.Text() != want {
			t.Errorf("got %q, want %q", lines.Text(), want)
		}
	}
	ask(`<service kind="large"/>`)
	ask(`<service kind="large"/>`)
	stop()
	w.serveAt(address, id, w.server.Register)
	ask(`<service kind="large"/>`)
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

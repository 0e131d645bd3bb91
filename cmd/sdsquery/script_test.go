package main

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"

	"ninja/ca"
	"ninja/capability"
	"ninja/cmd/home"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/announce"
)

// The real binary is driven by the scripts in testdata, against a server in this process.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sdsquery": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: func(e *testscript.Env) error { return newDomain(t, e) },
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"publish": publish},
	})
}

// domain is one SDS server and the user of the script, who finds what they publish themselves.
type domain struct {
	server *sds.Server
	user   *ca.Identity
}

// publish NAME VERSION FILE puts a description in.
func publish(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: publish NAME VERSION FILE")
	}
	d := ts.Value("domain").(*domain)
	version, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	ts.Check(d.server.Put(announce.Sign(d.user, args[0], version, []byte(ts.ReadFile(args[2])))))
}

type noStore struct{}

func (noStore) List(context.Context, string, string, func(string, []byte, uint64) error) error {
	return nil
}
func (noStore) Put(context.Context, string, string, []byte) (uint64, error) { return 1, nil }
func (noStore) Delete(context.Context, string, string) error                { return nil }

func newDomain(t *testing.T, e *testscript.Env) error {
	real := world.Real()
	authority, err := ca.NewAuthority(real, "test")
	if err != nil {
		return err
	}
	made := map[string]*ca.Identity{}
	for kind, name := range map[string]string{ca.KindSDS: "s", ca.KindCapability: "m", ca.KindUser: "u"} {
		if made[kind], err = authority.NewIdentity(kind, name); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	e.Defer(func() { cancel(); all.Wait() })
	manager, err := capability.NewManager(ctx, capability.ManagerConfig{Identity: made[ca.KindCapability], Store: noStore{}})
	if err != nil {
		return err
	}
	server, err := sds.NewServer(sds.Config{Identity: made[ca.KindSDS], World: real, Verifier: capability.NewVerifier(made[ca.KindSDS], nil)})
	if err != nil {
		return err
	}
	all.Go(func() { _ = server.Run(ctx) })
	serve := func(id *ca.Identity, register func(*grpc.Server)) (string, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		g := grpc.NewServer(append(sds.ServerOptions(), grpc.Creds(ca.ServerCredentials(id, nil)))...)
		register(g)
		all.Go(func() { _ = g.Serve(l) })
		e.Defer(g.Stop)
		return l.Addr().String(), nil
	}
	servers := home.Servers{ID: made[ca.KindSDS].ID()}
	if servers.SDS, err = serve(made[ca.KindSDS], func(r *grpc.Server) { server.Register(r) }); err != nil {
		return err
	}
	if servers.Capability, err = serve(made[ca.KindCapability], func(r *grpc.Server) { manager.Register(r) }); err != nil {
		return err
	}
	dir := filepath.Join(e.WorkDir, "home")
	if err := made[ca.KindUser].Save(dir); err != nil {
		return err
	}
	b, err := json.Marshal(servers)
	if err != nil {
		return err
	}
	e.Setenv("NINJA_HOME", dir)
	e.Values["domain"] = &domain{server, made[ca.KindUser]}
	return os.WriteFile(filepath.Join(dir, "servers.json"), b, 0o600)
}

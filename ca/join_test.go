package ca

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "ninja/ca/capb"
	"ninja/internal/world"
)

// memory is a Store for tests.
type memory struct {
	mu       sync.Mutex
	values   map[string][]byte
	revision map[string]uint64
	last     uint64
}

func newMemory() *memory {
	return &memory{values: map[string][]byte{}, revision: map[string]uint64{}}
}

func (m *memory) Get(_ context.Context, table, key string) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[table+"/"+key], m.revision[table+"/"+key], nil
}

func (m *memory) CompareAndSet(_ context.Context, table, key string, value []byte, expect uint64) (uint64, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := table + "/" + key
	if m.revision[k] != expect {
		return m.revision[k], false, nil
	}
	m.last++
	m.values[k], m.revision[k] = value, m.last
	return m.last, true, nil
}

func (m *memory) List(_ context.Context, table, prefix string, each func(string, []byte, uint64) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(m.values)) {
		if key, ok := strings.CutPrefix(k, table+"/"); ok && strings.HasPrefix(key, prefix) {
			if err := each(key, m.values[k], m.revision[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memory) Delete(_ context.Context, table, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, table+"/"+key)
	delete(m.revision, table+"/"+key)
	return nil
}

// office is a running authority.
type office struct {
	t      *testing.T
	world  world.World
	a      *Authority
	store  *memory
	server *Server
	id     *Identity
	audit  string
	addr   string
	slept  atomic.Int64 // how far everyone's clock is ahead
}

func newOffice(t *testing.T) *office {
	t.Helper()
	dir := t.TempDir()
	o := &office{t: t, world: world.Real(), store: newMemory(), audit: filepath.Join(dir, fileAudit)}
	o.world.Now = func() time.Time { return time.Now().Add(time.Duration(o.slept.Load())) }
	var err error
	if o.a, err = OpenAuthority(o.world, "test", dir); err != nil {
		t.Fatal(err)
	}
	log, err := OpenAuditLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.addr = l.Addr().String()
	o.id = testIdentity(t, o.a, KindCA, "authority")
	o.server, err = NewServer(ServerConfig{
		Authority: o.a, Identity: o.id, Store: o.store, Addresses: []string{o.addr}, Audit: log, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(o.server.Credentials()))
	o.server.Register(g)
	ran := make(chan struct{})
	go func() { defer close(ran); g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-ran })
	return o
}

func (o *office) token(id ID) Token {
	o.t.Helper()
	t, err := o.server.MakeToken(o.t.Context(), o.id.ID(), id, 0)
	if err != nil {
		o.t.Fatal(err)
	}
	return t
}

func TestJoin(t *testing.T) {
	o := newOffice(t)
	const alice ID = "spiffe://test/user/alice"
	token := o.token(alice)
	i, err := Join(t.Context(), o.world, token.Text())
	if err != nil {
		t.Fatal(err)
	}
	if i.ID() != alice || !slices.Equal(i.Authorities(), []string{o.addr}) {
		t.Errorf("joined as %s of %v", i.ID(), i.Authorities())
	}
	if _, err := o.id.Verify(i.Chain()); err != nil {
		t.Error(err)
	}
	if _, err := Join(t.Context(), o.world, token.Text()); status.Code(err) != codes.PermissionDenied {
		t.Errorf("joined twice: %v", err)
	}
	for _, values := range o.store.values {
		if bytes.Contains(values, token.secret[:]) {
			t.Error("the secret is stored")
		}
	}
	audit, err := os.ReadFile(o.audit)
	if err != nil {
		t.Fatal(err)
	}
	var events []string
	for line := range bytes.Lines(audit) {
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		events = append(events, fmt.Sprintf("%s %s %v", r.Event, r.ID.Name(), r.Denied != ""))
	}
	if want := []string{"token alice false", "join alice false", "join alice true"}; !slices.Equal(events, want) {
		t.Errorf("audit: %q, want %q", events, want)
	}
}

// A token is for one key, however many try it at once.
func TestATokenIsForOneKey(t *testing.T) {
	o := newOffice(t)
	text := o.token("spiffe://test/user/alice").Text()
	results := make(chan error)
	const tries = 8
	for range tries {
		go func() { _, err := Join(t.Context(), o.world, text); results <- err }()
	}
	joined := 0
	for range tries {
		if err := <-results; err == nil {
			joined++
		}
	}
	if joined != 1 {
		t.Errorf("%d joined", joined)
	}
}

// The authority's answer may be lost: the same key can ask again.
func TestTheSameKeyMayRedeemAgain(t *testing.T) {
	o := newOffice(t)
	token := o.token("spiffe://test/user/alice")
	key := []byte(o.id.Public())
	for range 2 {
		if id, err := o.server.redeem(t.Context(), token.secret[:], key); err != nil || id != "spiffe://test/user/alice" {
			t.Error(id, err)
		}
	}
	if _, err := o.server.redeem(t.Context(), token.secret[:], make([]byte, len(key))); !errors.Is(err, errToken) {
		t.Error(err)
	}
}

// A newcomer that is cut off after the token was used tries again with the same one.
func TestJoinAfterACrash(t *testing.T) {
	o, dir := newOffice(t), t.TempDir()
	text := o.token("spiffe://test/user/alice").Text()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := JoinIn(ctx, o.world, text, dir); err == nil {
		t.Fatal("joined without a network")
	}
	b, err := readBundle(dir, fileJoining)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := join(t.Context(), o.world, text, b.key); err != nil { // the answer is lost
		t.Fatal(err)
	}
	i, err := JoinIn(t.Context(), o.world, text, dir)
	if err != nil {
		t.Fatal(err)
	}
	if saved, err := Load(dir, o.world); err != nil || saved.ID() != i.ID() {
		t.Error(saved, err)
	}
	if _, err := os.Stat(filepath.Join(dir, fileJoining)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := JoinIn(t.Context(), o.world, text, t.TempDir()); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
}

func TestJoinRefused(t *testing.T) {
	o, other := newOffice(t), newOffice(t)
	mixed := o.token("spiffe://test/user/alice")
	mixed.Addresses = []string{other.addr}
	forged := o.token("spiffe://test/user/alice")
	forged.secret[0] ^= 1
	expired, err := o.server.MakeToken(t.Context(), "", "spiffe://test/user/alice", time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]Token{"another authority": mixed, "unknown": forged, "expired": expired} {
		if i, err := Join(t.Context(), o.world, token.Text()); err == nil {
			t.Errorf("%s: joined as %s", name, i.ID())
		} else if strings.Contains(err.Error(), token.Text()[20:60]) {
			t.Errorf("%s: the error quotes the token", name)
		}
	}
	if _, err := o.server.MakeToken(t.Context(), "", "spiffe://elsewhere/user/alice", 0); err == nil {
		t.Error("a token for another domain")
	}
}

func TestTokenText(t *testing.T) {
	o := newOffice(t)
	token := o.token("spiffe://test/user/alice")
	back, err := ParseToken(" " + token.Text() + "\n")
	if err != nil || back.secret != token.secret || back.Root != token.Root || !slices.Equal(back.Addresses, token.Addresses) {
		t.Error(back, err)
	}
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(form, token); strings.Contains(s, fmt.Sprint(token.secret[0], " ", token.secret[1])) || strings.Contains(s, tokenPrefix) {
			t.Errorf("%s shows the secret: %s", form, s)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	token, _ := newToken(world.Real(), []byte("root"), []string{"127.0.0.1:7700", "[::1]:7700"})
	f.Add(token.Text())
	f.Add(tokenPrefix)
	f.Fuzz(func(t *testing.T, text string) {
		if token, err := ParseToken(text); err == nil && token.Text() != strings.TrimSpace(text) {
			t.Errorf("%q is also %q", text, token.Text())
		}
	})
}

func TestOnlyAdminsMakeTokens(t *testing.T) {
	o := newOffice(t)
	admin, user := testIdentity(t, o.a, KindUser, "admin"), testIdentity(t, o.a, KindUser, "bob")
	text, err := NewClient(o.world, admin, o.addr).MakeToken(t.Context(), "spiffe://test/sds/s1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if i, err := Join(t.Context(), o.world, text); err != nil || i.ID() != "spiffe://test/sds/s1" {
		t.Error(err)
	}
	if _, err := NewClient(o.world, user, o.addr).MakeToken(t.Context(), "spiffe://test/sds/s1", 0); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
	if _, err := NewClient(o.world, user, o.addr).Audit(t.Context(), 0); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
	lines, err := NewClient(o.world, admin, o.addr).Audit(t.Context(), 2)
	if err != nil || len(lines) != 2 || !strings.Contains(lines[1], "only spiffe://test/user/admin") {
		t.Error(lines, err)
	}
	// Without a certificate one can join, and nothing else.
	creds := &transport{id: admin, accept: KindIs(KindCA), silent: true}
	err = call(t.Context(), o.world, []string{o.addr}, creds, func(ctx context.Context, c pb.AuthorityClient) error {
		_, err := c.MakeToken(ctx, &pb.MakeTokenRequest{Id: "spiffe://test/sds/s1"})
		return err
	})
	if status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
}

func TestRenewOverTheSameKey(t *testing.T) {
	o := newOffice(t)
	i, err := Join(t.Context(), o.world, o.token("spiffe://test/user/alice").Text())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r, err := NewRenewer(RenewerConfig{World: o.world, Identity: i, Source: NewClient(o.world, i), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	before, key := i.Chain()[0], i.Public()
	if err := r.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(before, i.Chain()[0]) || !key.Equal(i.Public()) {
		t.Error("not renewed")
	}
	saved, err := Load(dir, o.world)
	if err != nil || saved.ID() != i.ID() || !slices.Equal(saved.Authorities(), i.Authorities()) || !bytes.Equal(saved.Chain()[0], i.Chain()[0]) {
		t.Errorf("%v", err)
	}
}

// A laptop that slept: its certificate has expired, its key has not been forgotten.
func TestAnExpiredCertificateRenewsWithinTheGrace(t *testing.T) {
	for _, tc := range []struct {
		slept time.Duration
		ok    bool
	}{{2 * LeafLife, true}, {IssuingLife * 5 / 6, true}, {RenewGrace + 2*LeafLife, false}} {
		o := newOffice(t)
		i, err := Join(t.Context(), o.world, o.token("spiffe://test/user/sleeper").Text())
		if err != nil {
			t.Fatal(err)
		}
		// Everyone's clock goes on; the authority's own identity is kept fresh.
		o.slept.Store(int64(tc.slept))
		chain, roots, err := o.a.RenewIdentity(t.Context(), o.id)
		if err == nil {
			err = o.id.Renew(chain, roots)
		}
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewRenewer(RenewerConfig{World: o.world, Identity: i, Source: NewClient(o.world, i)})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Renew(t.Context()); (err == nil) != tc.ok {
			t.Errorf("slept %v: %v", tc.slept, err)
		} else if tc.ok && !o.world.Now().Before(i.Expires()) {
			t.Errorf("slept %v: not renewed", tc.slept)
		}
	}
}

func TestTheBannedGetNoCertificate(t *testing.T) {
	o := newOffice(t)
	const eve ID = "spiffe://test/user/eve"
	i, err := Join(t.Context(), o.world, o.token(eve).Text())
	if err != nil {
		t.Fatal(err)
	}
	admin := NewClient(o.world, testIdentity(t, o.a, KindUser, "admin"), o.addr)
	if err := NewClient(o.world, i).Ban(t.Context(), "spiffe://test/user/admin", false); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
	for _, lift := range []bool{false, true} {
		if err := admin.Ban(t.Context(), eve, lift); err != nil {
			t.Fatal(err)
		}
		_, _, renewed := NewClient(o.world, i).RenewIdentity(t.Context(), i)
		_, joined := Join(t.Context(), o.world, o.token(eve).Text())
		if want := map[bool]codes.Code{false: codes.PermissionDenied, true: codes.OK}[lift]; status.Code(renewed) != want || status.Code(joined) != want {
			t.Errorf("lifted %v: renewed %v, joined %v", lift, renewed, joined)
		}
	}
}

// Strangers cannot fill the disk with denials.
func TestDenialsAreBounded(t *testing.T) {
	l, err := OpenAuditLog(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	begun := time.Now().Truncate(time.Second) // so that the last denials fall late in theirs
	for i := range 3000 {
		if err := l.Write(Record{Time: begun.Add(time.Duration(i) * time.Millisecond), Event: "join", Denied: "no"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Write(Record{Time: begun, Event: "token"}); err != nil {
		t.Fatal(err)
	}
	lines, err := l.Tail(maxTailLines)
	if err != nil || len(lines) > 4*maxDenials+1 || !strings.Contains(lines[len(lines)-1], "unwritten") {
		t.Error(len(lines), err)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir, world.Real()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	i := testIdentity(t, testAuthority(t), KindUser, "u")
	if err := i.Save(dir); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, fileIdentity)
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, world.Real()); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
}

func TestAuthorityLivesInItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	w := world.Real()
	begun := time.Now()
	a, err := OpenAuthority(w, "test", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("made in %v", time.Since(begun))
	i := testIdentity(t, a, KindUser, "u")
	// The root's key is taken away.
	if err := os.Remove(filepath.Join(dir, fileRootKey)); err != nil || a.Rotation().RootKeyPresent {
		t.Fatal(err)
	}
	again, err := OpenAuthority(w, "test", dir)
	if err != nil {
		t.Fatal(err)
	}
	j := testIdentity(t, again, KindUser, "v")
	if _, err := i.Verify(j.Chain()); err != nil {
		t.Error(err)
	}
	if _, err := OpenAuthority(w, "other", dir); err == nil {
		t.Error("opened under another domain")
	}
	// Near its end the issuing certificate needs the root's key; until then it works without.
	late := w
	late.Now = func() time.Time { return time.Now().Add(IssuingLife - time.Hour) }
	again.world = late
	if _, err := again.Issue("spiffe://test/user/u", i.Public(), LeafLife); err != nil {
		t.Error(err)
	}
	late.Now = func() time.Time { return time.Now().Add(IssuingLife + time.Hour) }
	again.world = late
	if _, err := again.Issue("spiffe://test/user/u", i.Public(), LeafLife); err == nil || !strings.Contains(err.Error(), "root.key") {
		t.Error(err)
	}
}

func TestTheIssuingCertificateIsRenewedInTime(t *testing.T) {
	now := time.Now()
	w := world.Real()
	w.Now = func() time.Time { return now }
	a, err := OpenAuthority(w, "test", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	first := a.Rotation().IssuingExpires
	i := testIdentity(t, a, KindUser, "u")
	now = now.Add(IssuingLife * 3 / 4)
	j := testIdentity(t, a, KindUser, "v")
	if !a.Rotation().IssuingExpires.After(first) {
		t.Error("not renewed")
	}
	if _, err := i.Verify(j.Chain()); err != nil {
		t.Error(err)
	}
}

// outage is a Source that can be away.
type outage struct {
	*Authority
	away  atomic.Bool
	asked atomic.Int32
}

func (o *outage) RenewIdentity(ctx context.Context, i *Identity) ([][]byte, [][]byte, error) {
	o.asked.Add(1)
	if o.away.Load() {
		return nil, nil, errors.New("away")
	}
	return o.Authority.RenewIdentity(ctx, i)
}

func TestRenewerSurvivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &outage{Authority: testAuthority(t)}
		i := testIdentity(t, source.Authority, KindUser, "u")
		r, err := NewRenewer(RenewerConfig{World: world.Real(), Identity: i, Source: source, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)
		valid := func(what string) {
			t.Helper()
			if synctest.Wait(); !time.Now().Before(i.Expires()) {
				t.Errorf("%s: expired %v ago", what, time.Since(i.Expires()))
			}
		}
		time.Sleep(10 * LeafLife)
		valid("after ten lives")
		if n := source.asked.Load(); n < 13 || n > 17 {
			t.Errorf("asked %d times in ten lives", n)
		}
		source.away.Store(true)
		time.Sleep(LeafLife / 4)
		valid("after a short outage")
		time.Sleep(2 * LeafLife)
		source.away.Store(false)
		time.Sleep(2 * renewRetryMost)
		valid("after a long outage")
	})
}

package announce

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ninja/ca"
	"ninja/internal/world"
)

// rig joins the pure cores of both sides, with a clock that the test moves and no network.
type rig struct {
	t         testing.TB
	now       time.Time
	world     world.World
	domain    *ca.Authority
	server    *ca.Identity
	owner     *ca.Identity
	announcer *ServerAnnouncer
	sink      *shelf
	hearing   *hearing
	directory *directory
	sender    *sender
	// toServices and toServer are all datagrams so far, for the attacks.
	toServices, toServer [][]byte
}

var senderAt = netip.MustParseAddrPort("127.0.0.1:5000")

func newRig(t testing.TB) *rig {
	r := &rig{t: t, now: time.Now(), sink: newShelf()}
	r.world = world.Real()
	r.world.Now = func() time.Time { return r.now }
	r.domain = authority(t, r.world)
	r.server = identity(t, r.domain, ca.KindSDS, "one")
	r.owner = identity(t, r.domain, ca.KindUnit, "printer")
	r.directory = newDirectory(r.owner)
	r.sender = newSender(r.owner, r.world, time.Hour, r.now)
	r.restart()
	return r
}

// restart makes a new incarnation of the server, which knows nobody.
func (r *rig) restart() {
	var err error
	r.announcer, err = NewServerAnnouncer(ServerAnnouncerConfig{
		Identity: r.server, World: r.world, Log: quiet(), Addresses: []string{"127.0.0.1:7700"}, Period: testPeriod,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.hearing = newHearing(r.server, r.announcer, r.sink, DefaultMaxEpochs, newLane(DefaultLane, r.world.Uint64))
}

// announceServer lets the sender hear the server.
func (r *rig) announceServer() {
	datagrams, err := r.announcer.datagrams(r.now, true)
	if err != nil {
		r.t.Fatal(err)
	}
	r.toServices = append(r.toServices, datagrams...)
	for _, d := range datagrams {
		if _, err := r.directory.handle(d, r.now); err != nil {
			r.t.Fatal(err)
		}
	}
	best := r.directory.choose(senderAt.Addr(), r.owner.ID(), "", r.now)
	if err := r.sender.follow(best, r.now); err != nil {
		r.t.Fatal(err)
	}
}

// publish signs a body and gives it to the sender.
func (r *rig) publish(name string) {
	r.sender.publish(Sign(r.owner, name, uint64(r.now.UnixMilli()), []byte(document)), r.now)
}

// run lets d pass, bringing every datagram to the server and every reply back.
func (r *rig) run(d time.Duration) {
	for end := r.now.Add(d); ; {
		out, next, err := r.sender.due(r.now)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, datagram := range out {
			r.toServer = append(r.toServer, datagram)
			if err := r.give(datagram); err != nil {
				r.t.Log(err)
			}
		}
		if next.After(end) {
			r.now = end
			return
		}
		r.now = next
	}
}

// give hands a datagram to the server and its replies to the sender.
func (r *rig) give(datagram []byte) error {
	reply, waiting, err := r.hearing.handle(datagram, senderAt, r.now)
	r.back(reply, len(datagram))
	for waiting && err == nil {
		s := r.hearing.takeStranger(r.now)
		if s == nil {
			break
		}
		reply, err = r.hearing.admit(s, r.now)
		r.back(reply, len(datagram))
	}
	return err
}

func (r *rig) back(a answer, asked int) {
	if len(a.datagram) > asked {
		r.t.Errorf("%d bytes answered with %d", asked, len(a.datagram))
	}
	if len(a.datagram) > 0 {
		if _, err := r.sender.reply(a.datagram, r.now); err != nil {
			r.t.Log(err)
		}
	}
}

// state is what attacks must not change.
func (r *rig) state() string {
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	return fmt.Sprint(len(r.hearing.epochs), r.sink.puts, r.sink.bodies, r.sink.until)
}

// wantReason fails unless err is a *Refused with the reason.
func wantReason(t testing.TB, err error, reason Reason) {
	t.Helper()
	var refused *Refused
	if !errors.As(err, &refused) || refused.Reason != reason {
		t.Errorf("got %v, want a refusal for the reason %q", err, reason)
	}
}

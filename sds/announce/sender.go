package announce

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ninja/ca"
	"ninja/ca/seal"
	"ninja/internal/world"
)

// How a sender repeats itself, in periods.
const (
	blockEvery  = 3 // a key block travels every so many
	eagerBlocks = 3 // as long as nothing was heard, the first so many key blocks travel one period apart
	nextEpochIn = 4 // the next epoch is made so long before the present one ends
	nextBlocks  = 2 // and is told so often before it begins
	repeatEnds  = 3 // a withdrawal is told so often

	minEpochPeriods = 16 // an epoch lives for at least so many
)

// maxSettle is how long bodies wait behind the key block, so that the server can open it before they come.
const maxSettle = 250 * time.Millisecond

// sender is what a service's side knows and when it says what. It is pure: times, replies and servers in, datagrams out.
// All datagrams go to the one server it follows.
type sender struct {
	id        *ca.Identity
	world     world.World // for randomness only
	epochLife time.Duration
	replyTo   netip.AddrPort // where replies are heard; zero: where the datagrams are from

	started   time.Time
	asked     time.Time // when due was called last
	server    *heardServer
	contact   time.Time // when the present epoch's server was chosen
	heard     time.Time // when it last replied; zero: never
	present   *sendEpoch
	next      *sendEpoch
	blockAt   time.Time
	blocks    int // of the present epoch
	refreshAt time.Time
	toldChain [32]byte
	services  map[string]*service
	ended     []ending
	turn      string // the service whose body was repeated last
}

// sendEpoch is an epoch that this side sends under.
type sendEpoch struct {
	*epoch
	ends time.Time // by this host's monotonic clock; expires is by the server's
	seal *seal.Sealer
	open *seal.Opener
	sent int // key blocks, while it is the next
	at   time.Time
}

// service is one that is announced.
type service struct {
	body     Body
	packed   packed
	sendAt   time.Time // when the body shall travel; zero: it need not
	sent     time.Time
	large    bool   // it does not fit into a datagram
	streamed uint64 // the version that the stream brought
	refused  bool   // for good
	told     Reason // why it was refused, once that is logged
}

// ending is a withdrawal that is still being told.
type ending struct {
	pair Pair
	left int
	at   time.Time
}

func newSender(id *ca.Identity, w world.World, epochLife time.Duration, now time.Time) *sender {
	return &sender{
		id: id, world: w, epochLife: epochLife, started: now, services: map[string]*service{},
		toldChain: sha256.Sum256(appendChain(nil, id.Chain())),
	}
}

// period is the one that the server wants.
func (s *sender) period() time.Duration { return s.server.info.Period }

// random is a duration of [0, d).
func (s *sender) random(d time.Duration) time.Duration {
	return time.Duration(s.world.Uint64() % uint64(max(d, 1)))
}

// follow takes what is newest of the server to follow. With another server, or another incarnation of it, an epoch begins.
func (s *sender) follow(server *heardServer, now time.Time) error {
	before := s.server
	s.server = server
	if before != nil && before.info.ID == server.info.ID && before.info.Incarnation == server.info.Incarnation {
		return nil
	}
	epoch, err := s.newEpoch(now)
	if err != nil {
		s.server = before
		return err
	}
	// Services that have waited for a server all hear it at the same moment: they spread over a period. One that has
	// just started does not wait.
	spread := s.period()
	if before == nil && now.Sub(s.started) < spread {
		spread = min(spread/8, 50*time.Millisecond)
	}
	s.present, s.next, s.contact, s.heard, s.blocks = epoch, nil, now, time.Time{}, 0
	s.blockAt = now.Add(s.random(spread))
	bodies := s.blockAt.Add(s.settle())
	s.refreshAt = bodies.Add(s.settle() + s.random(s.period()/2))
	for _, v := range s.services {
		v.sendAt, v.refused, v.told = bodies, false, ""
	}
	return nil
}

func (s *sender) settle() time.Duration { return min(s.period()/8, maxSettle) }

// newEpoch makes an epoch. It expires by the clock of the server, which is the one that ends it: what the server said last
// and what has passed here since. A jump of this host's clock changes neither.
func (s *sender) newEpoch(now time.Time) (*sendEpoch, error) {
	var secret [secretSize]byte
	s.world.Fill(secret[:])
	life := max(s.epochLife, minEpochPeriods*s.period())
	serverNow := s.server.info.Time.Add(now.Sub(s.server.heard))
	expires := time.UnixMilli(serverNow.Add(life).UnixMilli())
	e, err := newEpoch(s.binding(), s.id.Public(), secret, expires)
	if err != nil {
		return nil, err
	}
	out := &sendEpoch{epoch: e, ends: now.Add(life)}
	if out.seal, err = seal.NewSealer(e.toServer, e.handle); err != nil {
		return nil, err
	}
	out.open, err = seal.NewOpener(e.toService, e.handle)
	return out, err
}

func (s *sender) binding() binding {
	return binding{server: s.server.info.ID, incarnation: s.server.info.Incarnation}
}

// publish takes a body to announce. One that was withdrawn a moment ago is no longer withdrawn.
func (s *sender) publish(b Body, now time.Time) {
	v := &service{body: b, packed: pack(b.Description), sendAt: now}
	v.large = len(appendBody(nil, b, v.packed, 0)) > seal.MaxPayload
	if s.present != nil && s.blocks == 0 {
		v.sendAt = s.blockAt.Add(s.settle())
	}
	s.services[b.Name] = v
	s.ended = deleteEnding(s.ended, b.Name)
}

func deleteEnding(list []ending, name string) []ending {
	kept := list[:0]
	for _, e := range list {
		if e.pair.Name != name {
			kept = append(kept, e)
		}
	}
	return kept
}

// withdraw ends a service.
func (s *sender) withdraw(name string, now time.Time) {
	v := s.services[name]
	if v == nil {
		return
	}
	delete(s.services, name)
	s.ended = append(s.ended, ending{pair: Pair{Name: name, Version: v.body.Version}, left: repeatEnds, at: now})
}

// due returns the datagrams that are due and when to ask again.
func (s *sender) due(now time.Time) ([][]byte, time.Time, error) {
	if s.present == nil {
		return nil, now.Add(time.Hour), nil
	}
	s.asked = now
	var out [][]byte
	steps := []func([][]byte, time.Time) ([][]byte, error){s.dueNext, s.dueBlock, s.dueChain, s.dueBodies, s.dueEnds, s.dueRefresh}
	for _, step := range steps {
		var err error
		if out, err = step(out, now); err != nil {
			return out, now.Add(s.period()), err
		}
	}
	return out, s.wake(), nil
}

// wake is when the next thing is due.
func (s *sender) wake() time.Time {
	at := s.blockAt
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	if quiet := s.unheardAt().Add(time.Millisecond); quiet.After(s.asked) {
		earlier(quiet) // the stream has to take over
	}
	if s.blocks > 0 {
		earlier(s.nextAt())
		earlier(s.refreshAt)
		for _, v := range s.services {
			earlier(v.sendAt)
		}
		for _, e := range s.ended {
			earlier(e.at)
		}
	}
	return at
}

// nextAt is when the next epoch is to be made, told or begun.
func (s *sender) nextAt() time.Time {
	if s.next != nil {
		return s.next.at
	}
	return s.present.ends.Add(-nextEpochIn * s.period())
}

// dueNext makes the next epoch in time, tells it twice and then begins it.
func (s *sender) dueNext(out [][]byte, now time.Time) ([][]byte, error) {
	if s.blocks == 0 || now.Before(s.nextAt()) {
		return out, nil
	}
	if s.next != nil && s.next.sent >= nextBlocks {
		s.present, s.next = s.next, nil
		s.blockAt = now.Add(blockEvery * s.period())
		return out, nil
	}
	if s.next == nil {
		next, err := s.newEpoch(now)
		if err != nil {
			return out, err
		}
		s.next = next
	}
	s.next.sent++
	s.next.at = now.Add(s.period())
	return s.block(out, s.next)
}

// block appends the key block and the certificates of an epoch.
func (s *sender) block(out [][]byte, e *sendEpoch) ([][]byte, error) {
	d, err := sealKeyBlock(s.id, e.epoch, s.binding(), s.server.key, s.present.epoch)
	if err != nil {
		return out, err
	}
	out = append(out, d)
	h, err := e.seal.Seal(nil, kindHello, hello{reply: s.replyTo, chain: s.id.Chain()}.append(nil))
	if err != nil {
		return out, refuse(ReasonMalformed, "the certificates of %s do not fit into a datagram: %v", s.id.ID(), err)
	}
	return append(out, h), nil
}

// dueBlock repeats the key block: every third period, and every period as long as the server has never replied.
func (s *sender) dueBlock(out [][]byte, now time.Time) ([][]byte, error) {
	if now.Before(s.blockAt) {
		return out, nil
	}
	s.blocks++
	every := blockEvery * s.period()
	if s.heard.IsZero() && s.blocks < eagerBlocks {
		every = s.period()
	}
	s.blockAt = now.Add(every - s.random(s.period()/8))
	return s.block(out, s.present)
}

// dueChain tells a renewed certificate at once and, with it in hand, the bodies again over one period: who finds a
// service checks its signature with the certificate that came with it.
func (s *sender) dueChain(out [][]byte, now time.Time) ([][]byte, error) {
	hash := sha256.Sum256(appendChain(nil, s.id.Chain()))
	if hash == s.toldChain || s.blocks == 0 {
		return out, nil
	}
	s.toldChain = hash
	for _, v := range s.services {
		v.body.Chain, v.streamed = s.id.Chain(), 0
		v.sendAt = now.Add(s.settle() + s.random(s.period()))
	}
	return s.block(out, s.present)
}

// dueBodies sends the bodies whose time has come. One that does not fit is left to the stream.
func (s *sender) dueBodies(out [][]byte, now time.Time) ([][]byte, error) {
	if s.blocks == 0 {
		return out, nil
	}
	for _, v := range s.services {
		if v.sendAt.IsZero() || now.Before(v.sendAt) {
			continue
		}
		out = s.bodyOf(out, v, now)
	}
	return out, nil
}

func (s *sender) bodyOf(out [][]byte, v *service, now time.Time) [][]byte {
	v.sendAt, v.sent = time.Time{}, now
	record := appendBody(nil, v.body, v.packed, periodLog(s.period()))
	d, err := s.present.seal.Seal(nil, kindRecord, record)
	v.large = err != nil
	if v.large {
		return out
	}
	return append(out, d)
}

func (s *sender) dueEnds(out [][]byte, now time.Time) ([][]byte, error) {
	var pairs []Pair
	kept := s.ended[:0]
	for _, e := range s.ended {
		if s.blocks > 0 && !now.Before(e.at) {
			pairs = append(pairs, e.pair)
			e.left, e.at = e.left-1, now.Add(s.period())
		}
		if e.left > 0 {
			kept = append(kept, e)
		}
	}
	s.ended = kept
	return s.pairs(out, recordWithdraw, pairs)
}

// dueRefresh says once a period that all services live, and repeats one body, in turn.
func (s *sender) dueRefresh(out [][]byte, now time.Time) ([][]byte, error) {
	if s.blocks == 0 || now.Before(s.refreshAt) {
		return out, nil
	}
	s.refreshAt = now.Add(s.period() - s.random(s.period()/8))
	pairs := make([]Pair, 0, len(s.services))
	first, after := "", ""
	for name, v := range s.services {
		if v.large || v.refused {
			continue
		}
		pairs = append(pairs, Pair{Name: name, Version: v.body.Version, Numbers: v.body.Numbers})
		if first == "" || name < first {
			first = name
		}
		if name > s.turn && (after == "" || name < after) {
			after = name
		}
	}
	if s.turn = after; s.turn == "" {
		s.turn = first
	}
	slices.SortFunc(pairs, func(a, b Pair) int { return strings.Compare(a.Name, b.Name) })
	if v := s.services[s.turn]; v != nil && now.Sub(v.sent) >= s.period() {
		out = s.bodyOf(out, v, now)
	}
	return s.pairs(out, recordRefresh, pairs)
}

// pairs appends as many datagrams as the pairs need.
func (s *sender) pairs(out [][]byte, record byte, pairs []Pair) ([][]byte, error) {
	for len(pairs) > 0 {
		var payload []byte
		payload, pairs = appendPairs(nil, record, periodLog(s.period()), pairs)
		d, err := s.present.seal.Seal(nil, kindRecord, payload)
		if err != nil {
			return out, err
		}
		out = append(out, d)
	}
	return out, nil
}

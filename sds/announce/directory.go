package announce

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"time"

	"ninja/ca"
)

// Bounds of a directory.
const (
	maxServers = 64 // servers and certificate chains that are remembered
	maxEarly   = 16 // datagrams that came before what they need
	// A chain costs a quarter of a millisecond to check and anyone may send one: so many a second, at most.
	chainsPerSecond = 50
	// A signature costs a twentieth of one: so many a second. Who is announced to already just goes on meanwhile.
	signaturesPerSecond = 1000
)

// directory is what a listener knows of servers. It is pure: datagrams and times in, servers out.
type directory struct {
	self    *ca.Identity
	chains  map[[32]byte]ca.Peer // checked, of the kind sds and of our domain
	servers map[ca.ID]*heardServer
	second  int64    // of the Unix clock, in which so many
	checked int      // chains
	signed  int      // and signatures were checked
	early   [][]byte // announcements and keys that came before what they need, the oldest first
}

// heardServer is a server whose announcement was authentic.
type heardServer struct {
	info  ServerInfo
	key   []byte    // the sealing key with info.KeyHash; nil until it is heard
	heard time.Time // by the listener's clock
}

func newDirectory(self *ca.Identity) *directory {
	return &directory{self: self, chains: map[[32]byte]ca.Peer{}, servers: map[ca.ID]*heardServer{}}
}

// handle takes a datagram from the server channel. It returns the server that it told something new of; every error is
// a *Refused. Datagrams overtake each other: one that needs another waits for it.
func (d *directory) handle(datagram []byte, now time.Time) (*heardServer, error) {
	chains := len(d.chains)
	server, err := d.one(datagram, now)
	if server == nil && len(d.chains) == chains {
		return nil, err
	}
	for again := true; again; {
		again = false
		early := d.early
		d.early = nil
		for _, e := range early {
			if s, _ := d.one(e, now); s != nil {
				server, again = s, true
			}
		}
	}
	return server, err
}

// wait keeps a datagram until what it needs has come. When there are too many, the oldest goes: it will come again.
func (d *directory) wait(datagram []byte) {
	if len(d.early) >= maxEarly {
		d.early = d.early[1:]
	}
	d.early = append(d.early, slices.Clone(datagram))
}

func (d *directory) one(datagram []byte, now time.Time) (*heardServer, error) {
	switch kindOf(datagram) {
	case kindServer:
		return d.announcement(datagram, now)
	case kindBlob:
		return d.blob(datagram, now)
	case kindSolicit:
		return nil, nil
	}
	return nil, refuse(ReasonMalformed, "not a datagram of the server channel")
}

// announcement holds an announcement against what is cheap to check first and its signature last.
func (d *directory) announcement(datagram []byte, now time.Time) (*heardServer, error) {
	info, err := parseAnnouncement(datagram)
	if err != nil {
		return nil, err
	}
	if info.Domain() != d.self.ID().Domain() {
		return nil, refuse(ReasonDomain, "server %s is of another domain than %s", info.ID, d.self.ID())
	}
	if info.ID.Kind() != ca.KindSDS {
		return nil, refuse(ReasonIdentity, "%s announces a server; only the kind %s may", info.ID, ca.KindSDS)
	}
	if skew := info.Time.Sub(now); skew.Abs() > MaxSkew {
		return nil, refuse(ReasonSkew, "the clock of server %s is %v from ours; allowed are %v: set the clocks of both hosts", info.ID, skew.Round(time.Second), MaxSkew)
	}
	known := d.servers[info.ID]
	if known != nil && (info.Incarnation < known.info.Incarnation ||
		info.Incarnation == known.info.Incarnation && info.Sequence <= known.info.Sequence) {
		return nil, refuse(ReasonReplay, "an announcement of server %s that is not newer than the last", info.ID)
	}
	peer, ok := d.chains[info.ChainHash]
	if !ok {
		d.wait(datagram)
		return nil, refuse(ReasonUnknown, "the certificates of server %s were not heard yet", info.ID)
	}
	if peer.ID != info.ID {
		return nil, refuse(ReasonIdentity, "%s announces itself as %s", peer.ID, info.ID)
	}
	if now.After(peer.Leaf.NotAfter) {
		return nil, refuse(ReasonIdentity, "the certificate of server %s has expired", info.ID)
	}
	if d.tick(now); d.signed >= signaturesPerSecond {
		return nil, refuse(ReasonFull, "more than %d announcements in a second", signaturesPerSecond)
	}
	d.signed++
	if !announcementSignedBy(peer.Key, datagram) {
		return nil, refuse(ReasonSignature, "an announcement of server %s without its signature", info.ID)
	}
	return d.accept(info, known, now), nil
}

func (d *directory) accept(info ServerInfo, known *heardServer, now time.Time) *heardServer {
	server := &heardServer{info: info, heard: now}
	if known != nil && known.info.KeyHash == info.KeyHash {
		server.key = known.key
	}
	if known == nil && len(d.servers) >= maxServers {
		var oldest *heardServer
		for _, s := range d.servers {
			if oldest == nil || s.heard.Before(oldest.heard) {
				oldest = s
			}
		}
		delete(d.servers, oldest.info.ID)
	}
	d.servers[info.ID] = server
	return server
}

func (d *directory) blob(datagram []byte, now time.Time) (*heardServer, error) {
	what, content, err := parseBlob(datagram)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(content)
	switch what {
	case blobKey:
		for _, s := range d.servers {
			if s.info.KeyHash == hash && s.key != nil {
				return nil, nil
			}
			if s.info.KeyHash == hash {
				with := *s
				with.key = slices.Clone(content)
				d.servers[s.info.ID] = &with
				return &with, nil
			}
		}
		d.wait(datagram)
		return nil, nil
	case blobChain:
		if _, known := d.chains[hash]; known {
			return nil, nil
		}
		return nil, d.learn(hash, content, now)
	}
	return nil, refuse(ReasonMalformed, "neither key nor certificates")
}

// tick begins the counts of a new second.
func (d *directory) tick(now time.Time) {
	if now.Unix() != d.second {
		d.second, d.checked, d.signed = now.Unix(), 0, 0
	}
}

// learn checks a chain and remembers it. Only valid chains of servers are remembered, so a forger cannot fill the memory.
func (d *directory) learn(hash [32]byte, content []byte, now time.Time) error {
	if d.tick(now); d.checked >= chainsPerSecond {
		return refuse(ReasonFull, "more than %d certificates of servers in a second", chainsPerSecond)
	}
	d.checked++
	r := reader{b: content}
	chain := r.chain()
	if r.bad || len(r.b) > 0 {
		return refuse(ReasonMalformed, "certificates that are cut off")
	}
	peer, err := d.self.Verify(chain)
	if err != nil {
		return refuse(ReasonIdentity, "certificates of a server: %v", err)
	}
	if peer.ID.Kind() != ca.KindSDS {
		return refuse(ReasonIdentity, "certificates of %s on the server channel; only the kind %s may announce a server", peer.ID, ca.KindSDS)
	}
	if peer.ID.Domain() != d.self.ID().Domain() {
		return refuse(ReasonDomain, "certificates of %s, which is of another domain", peer.ID)
	}
	if len(d.chains) >= maxServers {
		for h, p := range d.chains {
			if len(d.chains) >= maxServers || now.After(p.Leaf.NotAfter) {
				delete(d.chains, h)
			}
		}
	}
	d.chains[hash] = peer
	return nil
}

// choose returns the server that a principal at the address follows: the most specific that lives and
// whose key is known; among equals the present one, then the first by name. When none lives it is the present one.
func (d *directory) choose(at netip.Addr, owner ca.ID, present ca.ID, now time.Time) *heardServer {
	best, rank := d.servers[present], -1
	for _, s := range d.servers {
		specific, ok := s.info.Extent.Covers(at, owner)
		if !ok || s.key == nil || now.Sub(s.heard) > s.info.Lifetime {
			continue
		}
		better := specific > rank ||
			specific == rank && best.info.ID != present && (s.info.ID == present || s.info.ID < best.info.ID)
		if better {
			best, rank = s, specific
		}
	}
	return best
}

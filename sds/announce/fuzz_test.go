package announce

import (
	"bytes"
	"net/netip"
	"testing"

	"ninja/ca/seal"
)

// seeds are the datagrams of a settled rig.
func seeds(f *testing.F) *rig {
	r := settled(f)
	for _, d := range append(r.toServices, r.toServer...) {
		f.Add(d)
	}
	f.Add(makeSolicit(blobKey))
	f.Add([]byte{})
	return r
}

// FuzzToServer gives anything to the server: it must neither panic nor answer with more than it got.
func FuzzToServer(f *testing.F) {
	r := seeds(f)
	from := netip.MustParseAddrPort("127.0.0.1:9")
	f.Fuzz(func(t *testing.T, d []byte) {
		before := r.sink.puts
		reply, _, _ := r.hearing.handle(d, from, r.now)
		if len(reply.datagram) > len(d) {
			t.Fatalf("%d bytes answered with %d", len(d), len(reply.datagram))
		}
		for s := r.hearing.takeStranger(r.now); s != nil; s = r.hearing.takeStranger(r.now) {
			r.hearing.admit(s, r.now)
		}
		if r.sink.puts != before {
			t.Fatal("a body was accepted")
		}
	})
}

// FuzzToServices gives anything to a listener.
func FuzzToServices(f *testing.F) {
	r := seeds(f)
	f.Fuzz(func(t *testing.T, d []byte) {
		if server, _ := r.directory.handle(d, r.now); server != nil {
			t.Fatalf("accepted %+v", server.info)
		}
		r.sender.reply(d, r.now)
	})
}

// FuzzAnnouncement: what is read is written again as it was, but for what a later version added.
func FuzzAnnouncement(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, d []byte) {
		s, err := parseAnnouncement(d)
		if err != nil {
			return
		}
		again, err := parseAnnouncement(append(appendAnnouncement(nil, s), make([]byte, 64)...))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(appendAnnouncement(nil, s), appendAnnouncement(nil, again)) {
			t.Fatalf("%+v became %+v", s, again)
		}
	})
}

// FuzzRecord takes apart what an insider may seal: within the bounds, and written again the same.
func FuzzRecord(f *testing.F) {
	r := newRig(f)
	body := Sign(r.owner, "print", 7, []byte(document))
	body.Numbers = map[string]float64{"load": 0.5, "price": 2}
	f.Add(appendBody(nil, body, pack(body.Description), 10))
	pairs := []Pair{{Name: "a", Version: 1, Numbers: body.Numbers}, {Name: "b", Version: 2}}
	refresh, _ := appendPairs(nil, recordRefresh, 10, pairs)
	f.Add(refresh)
	withdraw, _ := appendPairs(nil, recordWithdraw, 10, pairs)
	f.Add(withdraw)
	f.Add(hello{reply: senderAt, chain: r.owner.Chain()}.append(nil))
	f.Add(reply{unknown: []string{"a"}, refused: []refusal{{"a", 1, ReasonFull, "no room"}}}.append(nil, 1000))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > seal.MaxPayload {
			return
		}
		if b, description, _, err := parseBody(p); err == nil && b.unpack(description) == nil && len(b.Description) > MaxDescription {
			t.Fatal("a body over the bounds was read")
		}
		if pairs, period, err := parsePairs(p, nil); err == nil {
			again, _ := appendPairs(nil, p[0], period, pairs)
			if p[0] == recordRefresh && !bytes.Equal(again, p) {
				t.Fatalf("%x became %x", p, again)
			}
		}
		if h, err := parseHello(p); err == nil && !bytes.Equal(h.append(nil), p) {
			t.Fatal("a hello is not written as it was read")
		}
		if r, err := parseReply(p); err == nil && len(r.append(nil, seal.MaxPayload)) > seal.MaxPayload {
			t.Fatal("a reply over its room")
		}
	})
}

// FuzzKeyBlock: whatever is in a block, opening it ends in a refusal.
func FuzzKeyBlock(f *testing.F) {
	r := seeds(f)
	f.Fuzz(func(t *testing.T, d []byte) {
		k, err := parseKeyBlock(d)
		if err != nil {
			return
		}
		other := r.announcer.binding()
		other.incarnation++
		if _, _, err := openKeyBlock(k, other, r.announcer.keys.now().private, r.announcer.keys.now().hash); err == nil {
			t.Fatal("opened for another incarnation")
		}
	})
}

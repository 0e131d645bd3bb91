package tree

import (
	"bytes"
	"context"
	"io"
	"testing"

	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/announce"
	"ninja/sds/sdspb"
	"ninja/sds/tree/treepb"
)

// dialogue is a stream whose other side says these messages, and takes what it is sent.
type dialogue struct {
	says [][]byte
	sent [][]byte
}

func (s *dialogue) SendMsg(m any) error {
	b, err := proto.Marshal(m.(proto.Message))
	s.sent = append(s.sent, b)
	return err
}

func (s *dialogue) RecvMsg(m any) error {
	if len(s.says) == 0 {
		return io.EOF
	}
	b := s.says[0]
	s.says = s.says[1:]
	return proto.Unmarshal(b, m.(proto.Message))
}

// takes notes what a question was answered.
type takes struct{ answers []*answer }

func (t *takes) answered(a *answer) { t.answers = append(t.answers, a) }
func (t *takes) lost()              {}

// TestWhatWaitsIsOneMessage: frames that wait go together to a side that has said that it understands, each on its own to
// one that has not; either way they come as they were sent, in their order.
func TestWhatWaitsIsOneMessage(t *testing.T) {
	for _, gathers := range []bool{false, true} {
		out := &dialogue{}
		s := newStream(context.Background(), ca.Peer{}, out, 4)
		s.gathers.Store(gathers)
		for i := range 3 {
			if _, err := s.question(&treepb.Ask{Question: []byte{byte(i)}}, new(takes), s.post); err != nil {
				t.Fatal(err)
			}
		}
		s.flush()
		if n := map[bool]int{false: 3, true: 1}[gathers]; len(out.sent) != n {
			t.Errorf("gathers %v: %d messages, want %d", gathers, len(out.sent), n)
		}
		var got []byte
		in := newStream(context.Background(), ca.Peer{}, &dialogue{says: out.sent}, 4)
		in.asked = func(a *treepb.Ask) error { got = append(got, a.GetQuestion()...); return nil }
		if _, err := in.recv(nil); err != io.EOF || !bytes.Equal(got, []byte{0, 1, 2}) {
			t.Errorf("gathers %v: read %v (%v)", gathers, got, err)
		}
	}
}

// FuzzMessage: whatever a message holds, it is read or refused, and no answer reaches a question that it is not for.
func FuzzMessage(f *testing.F) {
	out := &dialogue{}
	s := newStream(context.Background(), ca.Peer{}, out, 4)
	s.gathers.Store(true)
	for _, a := range asks() {
		_, _ = s.question(a, new(takes), s.post)
	}
	s.flush()
	for _, a := range answers() {
		b, _ := proto.Marshal(&treepb.Frame{Version: wireVersion, Kind: &treepb.Frame_Answer{Answer: a}})
		out.sent = append(out.sent, b)
	}
	for _, k := range []*treepb.Frame{
		{Version: 1, Kind: &treepb.Frame_Cancel{Cancel: 3}}, {Version: 2, Kind: &treepb.Frame_Credit{Credit: &treepb.Credit{Id: 1, Bytes: 1 << 40}}},
		{Version: 2, Kind: &treepb.Frame_Beat{Beat: &treepb.Beat{Sequence: 1}}}, {Kind: &treepb.Frame_Leave{Leave: true}},
	} {
		b, _ := proto.Marshal(k)
		out.sent = append(out.sent, b)
	}
	for _, b := range out.sent {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newStream(context.Background(), ca.Peer{}, &dialogue{says: [][]byte{b}}, 2)
		mine := new(takes)
		if _, err := s.question(&treepb.Ask{}, mine, s.post); err != nil {
			t.Fatal(err)
		}
		s.asked = func(a *treepb.Ask) error {
			_, err := s.open(a)
			return err
		}
		for {
			if _, err := s.recv(nil); err != nil {
				break
			}
		}
		for _, a := range mine.answers {
			if a.id != 1 {
				t.Fatalf("an answer to question %d came to question 1", a.id)
			}
		}
		if len(s.slots) > 2 || len(s.running) != len(s.slots)+len(s.stand) {
			t.Fatalf("%d questions run in %d places", len(s.running), len(s.slots)+len(s.stand))
		}
	})
}

// FuzzWatchAnswers: whatever servers tell a client of a question that stands, it knows of nothing that no server has, and
// tells of each service that it entered before it left.
func FuzzWatchAnswers(f *testing.F) {
	w := newWood(f)
	owner := w.identity(ca.KindBase, "b")
	c, err := Dial(sds.ClientConfig{Identity: w.identity(ca.KindUser, "ann"), World: world.Real(), Address: "127.0.0.1:1", Capability: func(context.Context) ([]byte, error) { return nil, nil }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { c.Close() })
	b := announce.Sign(owner, "s", 1, []byte(printer("printer", 1)))
	found := &sdspb.Found{Owner: string(b.Owner), Name: b.Name, Version: b.Version, Description: b.Description, Signature: b.Signature, Chain: b.Chain}
	for _, all := range [][]*treepb.Answer{
		{{Begun: []string{"x"}}, {Hits: []*treepb.Hit{{Found: found, Server: "x"}}}, {Synced: []string{"x"}}, {Gone: []*treepb.Gone{{Server: "x", Owner: found.Owner, Name: "s"}}}},
		{{Hits: []*treepb.Hit{{Found: found, Server: "x"}, {Found: found, Server: "y"}}}, {Begun: []string{"x", "y"}}, {Synced: []string{"y"}}, {Synced: []string{"x"}, Settled: true}},
		{{Hits: []*treepb.Hit{{Found: found, Server: "x"}}, Outcomes: []*treepb.Outcome{{Server: "x", Status: 3}}}},
	} {
		seeds := make([][]byte, 4)
		for i, m := range all {
			seeds[i], _ = proto.Marshal(m)
		}
		f.Add(seeds[0], seeds[1], seeds[2], seeds[3])
	}
	f.Fuzz(func(t *testing.T, a, b, c1, d []byte) {
		here := make(map[string]bool)
		w := &wideWatch{Client: c, known: make(map[string]*sighting), tell: func(e WatchEvent) {
			switch id := e.Found.ID; {
			case e.Kind == sds.Enter && here[id], (e.Kind == sds.Change || e.Kind == sds.Leave) && !here[id]:
				t.Fatalf("%v of %s, which is here: %v", e.Kind, id, here[id])
			case e.Kind == sds.Enter:
				here[id] = true
			case e.Kind == sds.Leave:
				delete(here, id)
			}
		}}
		for _, b := range [][]byte{a, b, c1, d} {
			m, err := (&answer{whole: b}).message()
			if err != nil {
				continue
			}
			w.take(m)
			for id, k := range w.known {
				if len(k.at) == 0 || !here[id] {
					t.Fatalf("%s is known of %d servers, told: %v", id, len(k.at), here[id])
				}
			}
		}
	})
}

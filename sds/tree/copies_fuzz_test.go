package tree

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/sds"
	"ninja/sds/announce"
	"ninja/sds/tree/treepb"
)

// FuzzCopies: whatever another server of the family tells, or hands over, nothing is taken that its owner has not signed,
// nothing lives longer than an hour by it, and what this server heard itself stays at its version.
func FuzzCopies(f *testing.F) {
	w := newWood(f)
	p := w.grow("root")
	other := w.identity(ca.KindSDS, "root-1").ID()
	feed, err := p.server.Follow(other, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(feed.Close)
	owner := w.identity(ca.KindUnit, "u")
	told := func(c sds.Copies) {
		_ = tellCopies(c, func(m *treepb.Copies) error {
			b, err := proto.Marshal(m)
			if err != nil {
				return err
			}
			f.Add(b)
			f.Add(b[:len(b)*2/3])
			return nil
		})
	}
	body := announce.Sign(owner, "one", 7, []byte(printer("printer", 1)))
	body.Lifetime, body.Numbers = time.Minute, map[string]float64{"load": 0.5}
	forged := body
	forged.Description = []byte(printer("scanner", 1))
	long := announce.Sign(owner, "two", 1, []byte(printer("printer", 2)))
	long.Lifetime = 100 * time.Hour
	told(sds.Copies{Bodies: []announce.Body{body, forged, long}, Whole: true})
	told(sds.Copies{Alive: []sds.Alive{
		{Owner: owner.ID(), Pair: announce.Pair{Name: "one", Version: 7, Numbers: body.Numbers}, Lifetime: time.Minute},
		{Owner: owner.ID(), Pair: announce.Pair{Name: "unknown", Version: 7}, Lifetime: time.Minute},
	}})
	told(sds.Copies{Withdrawn: []sds.Withdrawn{{Owner: owner.ID(), Name: "one", Version: 7}}, Lacks: []string{body.ID(), "nobody's"}})
	inParts([]announce.Body{body, forged, long}, func(m *treepb.HandOverRequest) error {
		b, err := proto.Marshal(m)
		f.Add(b)
		return err
	})
	mine := announce.Sign(owner, "mine", 9, []byte(printer("printer", 3)))
	if err := p.server.Put(mine); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m treepb.Copies
		if len(b) < messageMost && proto.Unmarshal(b, &m) == nil {
			_ = p.node.takeCopies(other, &m, feed)
		}
		var h treepb.HandOverRequest
		if len(b) < messageMost && proto.Unmarshal(b, &h) == nil {
			_ = p.node.takeOver(&h)
		}
		for _, x := range p.server.Bodies(func(ca.ID) bool { return true }) {
			if _, err := x.Verify(p.id); err != nil || x.Lifetime > time.Hour {
				t.Fatalf("%s lives for %v: %v", x.ID(), x.Lifetime, err)
			}
			if x.Name == "mine" && x.Version != 9 {
				t.Fatalf("what was heard here became version %d", x.Version)
			}
		}
	})
}

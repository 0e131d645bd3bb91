package tree

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/sds/route"
	"ninja/sds/sdspb"
	"ninja/sds/tree/treepb"
)

// asks are questions as clients and servers send them.
func asks() []*treepb.Ask {
	query := bytes.Repeat([]byte{7}, 16)
	return []*treepb.Ask{
		{Id: 1, Query: query, Question: []byte("\x08\x01\x12\x0c<a b=\"c\"/>"), Scope: 2, Fanout: 3, Capability: []byte("token"), TimeoutMs: 15000, Window: windowMost},
		{
			Id: 2, Query: query, Question: []byte("q"), Scope: 1, Want: 2, Hierarchy: "h", Domain: "test", Hops: 15, TimeoutMs: 900,
			Tokens: []uint64{1, math.MaxUint64}, Narrowed: [][]byte{[]byte("<a/>"), {}}, Window: 1,
			Proof: &treepb.Proof{Shown: []*treepb.Shown{{Handle: query, Mac: query}}},
		},
		{Id: 3, Query: query, Question: []byte("q"), Way: []string{"spiffe://test/sds/a", "spiffe://test/sds/b"}, Proof: &treepb.Proof{Sealed: []byte("sealed")}},
		{Id: 4, Query: query, Question: []byte("q"), Watch: true, Hierarchy: "h"},
		{},
	}
}

// answers are answers as servers send them.
func answers() []*treepb.Answer {
	found := &sdspb.Found{Owner: "spiffe://test/base/b", Name: "s", Version: 9, Description: []byte("<a/>"), Signature: []byte("sig"), Chain: [][]byte{[]byte("c")}, Numbers: map[string]float64{"load": 0.5}, AgeMs: 3}
	return []*treepb.Answer{
		{Id: 1, Last: true, Hits: []*treepb.Hit{{Found: found, Rank: 1, Text: "t", Server: "spiffe://test/sds/a"}, {Found: found, Value: math.Inf(-1), Server: "x"}}, Outcomes: []*treepb.Outcome{
			{Server: "spiffe://test/sds/a", Via: "spiffe://test/sds/a", Hierarchy: "h", Status: 1, Found: 2, TookUs: 55},
			{Server: "spiffe://test/sds/b", Via: "spiffe://test/sds/a", Up: true, Status: 9, Stale: true, AgeMs: 7, Detail: "why", Hidden: &treepb.Hidden{Key: []byte("k"), Way: []string{"a"}}},
		}},
		{Id: 2, Last: true, Code: 4, Error: "late"},
		{Id: 3, Sealed: []*treepb.Sealed{{Server: "spiffe://test/sds/a", Box: []byte("box")}}},
		{Id: 4, Gone: []*treepb.Gone{{Server: "s", Owner: "o", Name: "n"}}, Synced: []string{"s"}, Begun: []string{"s"}, Settled: true},
		{},
	}
}

// TestFramesAreWhatTheSchemaSays: what is packed by hand is read by generated code as the same, and the other way round.
func TestFramesAreWhatTheSchemaSays(t *testing.T) {
	for _, want := range asks() {
		packed, err := appendAsk(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		got := new(treepb.Ask)
		if err := proto.Unmarshal(packed, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("packed by hand: %v, want %v (%v)", got, want, err)
		}
		b, _ := proto.Marshal(want)
		if got, err := parseAsk(b, make(words)); err != nil || !proto.Equal(got, want) {
			t.Errorf("read by hand: %v, want %v (%v)", got, want, err)
		}
	}
	for _, want := range answers() {
		b, _ := proto.Marshal(want)
		a, err := parseAnswer(b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.message()
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("as it came: %v, want %v (%v)", got, want, err)
		}
		again := new(treepb.Answer)
		if err := proto.Unmarshal(appendAnswer(nil, a), again); err != nil {
			t.Fatal(err)
		}
		want.Gone, want.Synced, want.Begun, want.Settled = nil, nil, nil, false // of a watch, which is passed on otherwise
		if !proto.Equal(again, want) {
			t.Errorf("passed on: %v, want %v", again, want)
		}
		for i, o := range a.outcomes {
			got, hidden, err := parseOutcome(o, make(words))
			if want := outcomeFrom(want.GetOutcomes()[i]); err != nil || hidden != want.Hidden {
				t.Errorf("outcome: hidden %v, want %v (%v)", hidden, want.Hidden, err)
			} else if want.Hidden = false; got != want {
				t.Errorf("outcome: %+v, want %+v", got, want)
			}
		}
		for i, h := range a.hits {
			got, err := parseHit(h)
			want := want.GetHits()[i]
			found, _ := proto.Marshal(want.GetFound())
			at := route.Place{Rank: int(want.GetRank()), Value: want.GetValue(), Text: want.GetText()}
			f := new(sdspb.Found)
			if err != nil || got.server != want.GetServer() || got.place != at || proto.Unmarshal(got.found, f) != nil || !proto.Equal(f, want.GetFound()) {
				t.Errorf("hit: %+v, want %v of %x (%v)", got, want, found, err)
			}
			s, err := parseSighted(h)
			if err != nil || string(s.owner) != want.GetFound().GetOwner() || string(s.name) != want.GetFound().GetName() || s.version != want.GetFound().GetVersion() || s.place != at {
				t.Errorf("sighted: %+v, want %v (%v)", s, want, err)
			}
		}
	}
}

// TestAnOutcomeIsAttributed: what a server says of itself gets the way that it was reached by, all else stays.
func TestAnOutcomeIsAttributed(t *testing.T) {
	o := route.Outcome{Server: "spiffe://test/sds/a", Via: "spiffe://test/sds/a", Hierarchy: "x", Up: true, Status: route.Searched, Found: 3, Took: time.Millisecond, Age: time.Hour}
	got, _, err := parseOutcome(reached(packOutcome(o), "spiffe://test/sds/b", "h", false, 5), make(words))
	o.Via, o.Hierarchy, o.Up, o.Age = ca.ID("spiffe://test/sds/b"), "h", false, 5*time.Millisecond
	if err != nil || got != o {
		t.Errorf("%+v, want %+v (%v)", got, o, err)
	}
}

// FuzzAsk: what is no question is refused; what is one, is bounded and means what generated code takes it for.
func FuzzAsk(f *testing.F) {
	for _, a := range asks() {
		b, err := proto.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAsk(bytes.Clone(b), make(words))
		if err != nil {
			return
		}
		if len(a.Tokens) > tokensMost || len(a.Way) > route.HopsMost || len(a.Narrowed) > narrowedMost {
			t.Fatalf("beyond the bounds: %d tokens, %d on the way, %d templates", len(a.Tokens), len(a.Way), len(a.Narrowed))
		}
		packed, err := appendAsk(nil, a)
		if err != nil {
			return
		}
		again, err := parseAsk(packed, make(words))
		if err != nil || !proto.Equal(a, again) {
			t.Fatalf("packed and read again: %v, want %v (%v)", again, a, err)
		}
		m := new(treepb.Ask)
		if proto.Unmarshal(b, m) == nil && len(m.ProtoReflect().GetUnknown()) == 0 && !proto.Equal(m, a) {
			t.Fatalf("by hand %v, by generated code %v", a, m)
		}
	})
}

// FuzzAnswer: as FuzzAsk, for answers with all that is read of their parts on the way.
func FuzzAnswer(f *testing.F) {
	for _, a := range answers() {
		b, err := proto.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(bytes.Clone(b))
		if err != nil {
			return
		}
		if len(a.hits)+len(a.sealed) > hitsMost || len(a.outcomes) > outcomesEach {
			t.Fatalf("beyond the bounds: %d hits, %d outcomes", len(a.hits), len(a.outcomes))
		}
		again, err := parseAnswer(appendAnswer(nil, a))
		if err != nil || !slices.EqualFunc(again.hits, a.hits, bytes.Equal) || !slices.EqualFunc(again.outcomes, a.outcomes, bytes.Equal) ||
			!slices.EqualFunc(again.sealed, a.sealed, bytes.Equal) || again.last != a.last || again.code != a.code {
			t.Fatalf("packed and read again: %+v, want %+v (%v)", again, a, err)
		}
		for _, h := range a.hits {
			if got, err := parseHit(h); err == nil {
				fuzzHit(t, h, got)
			}
			_, _ = parseSighted(h)
		}
		for _, o := range a.outcomes {
			got, hidden, err := parseOutcome(o, make(words))
			if err == nil {
				fuzzOutcome(t, o, got, hidden)
			}
		}
	})
}

// fuzzHit holds a hit against generated code.
func fuzzHit(t *testing.T, b []byte, got hit) {
	m := new(treepb.Hit)
	if proto.Unmarshal(b, m) == nil && len(m.ProtoReflect().GetUnknown()) == 0 && (m.GetServer() != got.server || int(m.GetRank()) != got.place.Rank || m.GetText() != got.place.Text) {
		t.Fatalf("by hand %+v, by generated code %v", got, m)
	}
}

// fuzzOutcome holds an outcome against generated code, and what is passed on of it too.
func fuzzOutcome(t *testing.T, b []byte, got route.Outcome, hidden bool) {
	m := new(treepb.Outcome)
	if proto.Unmarshal(b, m) != nil || len(m.ProtoReflect().GetUnknown()) > 0 {
		return
	}
	want := outcomeFrom(m)
	want.Hidden = false
	if got != want || hidden != (m.GetHidden() != nil) {
		t.Fatalf("by hand %+v, by generated code %+v", got, want)
	}
	if told, err := parseTold(b); err != nil || string(told.server) != m.GetServer() || string(told.via) != m.GetVia() || told.hidden != hidden {
		t.Fatalf("told %+v of %v (%v)", told, m, err)
	}
	on, _, err := parseOutcome(reached(b, "via", "h", true, 9), make(words))
	want.Via, want.Hierarchy, want.Up, want.Age = "via", "h", true, 9*time.Millisecond
	if err != nil || on != want {
		t.Fatalf("passed on %+v, want %+v (%v)", on, want, err)
	}
}

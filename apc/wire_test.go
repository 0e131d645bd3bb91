package apc

import (
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"ninja/apc/apcpb"
	"ninja/apc/plan"
)

// Whoever is one version behind or ahead is understood: what a peer does not know is left out, and nothing else changes.
func TestOneVersionApart(t *testing.T) {
	e := Explanation{Request: "a:b ! c:d", Refusal: &Refusal{
		Reason: plan.NoTypes, Text: "nothing makes it", Misses: []plan.Miss{{From: "a", To: "b", Why: "lang"}}, Conflict: []string{"?x", "order"},
		Causes:  []plan.Cause{{Kind: plan.CauseRequirement, Name: "?x"}, {Kind: plan.CauseBound, Name: "latency", Asked: "1s", Needed: "2s"}},
		Missing: &plan.Conversion{From: "a", Offers: "text/a", To: "b", Wants: "text/b"}, Nearest: "a:b ! c:d latency<2s",
	}}
	b, err := proto.Marshal(explanationToWire(e))
	if err != nil {
		t.Fatal(err)
	}
	read := func(b []byte) Explanation {
		var w apcpb.Explanation
		if err := proto.Unmarshal(b, &w); err != nil {
			t.Fatal(err)
		}
		return explanationFromWire(&w)
	}
	if got := read(b); !reflect.DeepEqual(got, e) {
		t.Errorf("of one version: %+v", got.Refusal)
	}
	// From a newer peer: fields that this version does not know.
	newer := protowire.AppendString(protowire.AppendTag(b, 99, protowire.BytesType), "later")
	if got := read(newer); !reflect.DeepEqual(got, e) {
		t.Errorf("of the next version: %+v", got.Refusal)
	}
	// From an older one, which tells neither conflict, missing conversion nor causes; and what it reads of ours.
	w := explanationToWire(e)
	w.Refusal.Conflict, w.Refusal.Missing, w.Refusal.Causes = nil, nil, nil
	old, err := proto.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	want := *e.Refusal
	want.Conflict, want.Missing, want.Causes = nil, nil, nil
	got := read(old)
	if !reflect.DeepEqual(*got.Refusal, want) {
		t.Errorf("of the last version: %+v", got.Refusal)
	}
	for _, form := range []string{Text, JSON, DOT, Mermaid} {
		if _, err := got.Render(form); err != nil {
			t.Error(err)
		}
	}
}

// A path with all that there is to tell of it survives the wire; an older creator's lacks moves, and is shown without.
func TestPathsOverTheWire(t *testing.T) {
	at := time.UnixMilli(1_800_000_000_000)
	i := Info{
		Path: id, State: Repairing, Why: "p1 is gone", Created: at, Expires: at.Add(time.Hour), Epoch: 3, Score: 0.5, Spares: 1, Repairs: 1, Moved: 1,
		Moves: []Move{
			{Time: at, Epoch: 2, Cause: CauseBetter, Why: "gains", Before: 0.9, After: 0.4, Gap: time.Millisecond, Steps: "a@b"},
			{Time: at, Epoch: 3, Cause: CauseRepair, Why: "p1 is gone", Before: -1, After: 0.5, Gap: time.Second, Steps: "a@c"},
		},
		Outlook: &Outlook{Time: at, Now: 0.5, Best: 0.5, Text: "the running plan is still the best"},
	}
	if got := fromWire(toWire(i)); !reflect.DeepEqual(got, i) {
		t.Errorf("%+v", got)
	}
	w := toWire(i)
	w.Moves, w.Outlook, w.ExpiresUnixMs, w.Repairs, w.Moved, w.Score = nil, nil, 0, 0, 0, 0
	if got := fromWire(w); got.Moves != nil || got.Outlook != nil || !got.Expires.IsZero() || got.State != Repairing {
		t.Errorf("%+v", got)
	}
}

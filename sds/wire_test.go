package sds

import (
	"maps"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"ninja/sds/sdspb"
)

// FuzzSessionMessages: what is read by hand is what generated code reads, and nothing from outside does harm.
func FuzzSessionMessages(f *testing.F) {
	add := func(m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(&sdspb.Ask{Id: 7, Question: &sdspb.Question{Version: 1, Template: []byte("<a/>")}, TimeoutMs: 15000, Capability: []byte("c")})
	found := &sdspb.Found{
		Owner: "spiffe://test/base/b", Name: "p", Version: 3, Description: []byte("<a/>"), Signature: []byte("s"), Chain: [][]byte{{1}, {2, 3}},
		Numbers: map[string]float64{"load": 0.5, "queue": -1}, AgeMs: 12, Handle: 4, ChainHandle: 1,
	}
	add(found)
	add(&sdspb.Found{Name: "p", Values: []*sdspb.Values{{Value: []string{"1", ""}}, {}}})
	add(&sdspb.SessionResponse{Id: 1, Found: []*sdspb.Found{found, {Handle: 4}}, Last: true, Count: 2, More: true, Cursor: []byte("x"), Explain: &sdspb.Explanation{Classes: 1}})
	add(&sdspb.SessionResponse{Id: 1, Last: true, Code: 3, Error: "no"})
	f.Add([]byte{0x0b, 0x0c}) // a group
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseAsk(b)
		if x, err := parseFound(b); err == nil {
			var k kept
			_, _ = k.item(x, keepMost)
		}
		_, _ = parseAnswer(b)
		var a sdspb.Ask
		if again(b, &a) {
			checkAsk(t, &a)
		}
		var x sdspb.Found
		if again(b, &x) {
			checkFound(t, &x)
		}
		var r sdspb.SessionResponse
		if again(b, &r) {
			checkAnswer(t, &r)
		}
	})
}

// again reports whether the bytes are such a message.
func again(b []byte, m proto.Message) bool {
	return proto.Unmarshal(b, m) == nil
}

func packedForm(t *testing.T, m proto.Message) []byte {
	m.ProtoReflect().SetUnknown(nil)
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checkAsk(t *testing.T, m *sdspb.Ask) {
	a, err := parseAsk(packedForm(t, m))
	var q sdspb.Question
	if err != nil || proto.Unmarshal(a.question, &q) != nil {
		t.Fatal(err)
	}
	if a.id != m.Id || a.timeout != uint64(m.TimeoutMs) || string(a.capability) != string(m.Capability) || !proto.Equal(&q, orEmpty(m.Question)) {
		t.Fatalf("%v read as %+v", m, a)
	}
	var back sdspb.Ask
	if err := proto.Unmarshal(appendAsk(nil, a), &back); err != nil || back.Id != m.Id || !proto.Equal(back.Question, orEmpty(m.Question)) {
		t.Fatalf("%v packed as %v, %v", m, &back, err)
	}
}

func orEmpty(q *sdspb.Question) *sdspb.Question {
	if q == nil {
		return new(sdspb.Question)
	}
	return q
}

func checkFound(t *testing.T, m *sdspb.Found) {
	f, err := parseFound(packedForm(t, m))
	if err != nil {
		t.Fatal(err)
	}
	same := f.owner == m.Owner && f.name == m.Name && f.version == m.Version && string(f.description) == string(m.Description) &&
		string(f.signature) == string(m.Signature) && f.age == m.AgeMs && f.handle == uint64(m.Handle) && f.chainHandle == uint64(m.ChainHandle) &&
		len(f.chain) == len(m.Chain) && len(f.values) == len(m.Values) &&
		maps.EqualFunc(f.numbers, m.Numbers, func(a, b float64) bool { return a == b || a != a && b != b })
	for i := range m.Values {
		same = same && (len(f.values[i]) == 0 && len(m.Values[i].Value) == 0 || reflect.DeepEqual(f.values[i], m.Values[i].Value))
	}
	if !same {
		t.Fatalf("%v read as %+v", m, f)
	}
	var back sdspb.Found
	if err := proto.Unmarshal(appendChain(appendNumbers(nil, f.numbers), f.chain), &back); err != nil || !reflect.DeepEqual(len(back.Chain), len(m.Chain)) || len(back.Numbers) != len(m.Numbers) {
		t.Fatalf("%v packed as %v, %v", m, &back, err)
	}
}

func checkAnswer(t *testing.T, m *sdspb.SessionResponse) {
	a, err := parseAnswer(packedForm(t, m))
	if err != nil {
		t.Fatal(err)
	}
	if a.id != m.Id || a.last != m.Last || a.count != m.Count || a.more != m.More || a.code != uint64(m.Code) || a.problem != m.Error ||
		string(a.cursor) != string(m.Cursor) || len(a.found) != len(m.Found) {
		t.Fatalf("%v read as %+v", m, a)
	}
}

package timeofday

import (
	"context"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ninja/connectors"
	"ninja/operators"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func clock() time.Time { return time.Date(2026, 11, 21, 23, 5, 0, 0, time.UTC) }

func service(t *testing.T) *Service {
	s, err := New(Config{Service: "spiffe://home/base/b1#time", Now: clock, Zone: "America/New_York"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnswers(t *testing.T) {
	s := service(t)
	for _, c := range []struct{ heard, status, say string }{
		{"what time is it", "found", "It is 6:05 PM."},
		{"what is the time in tokyo", "found", "It is 8:05 AM in Tokyo."},
		{"What day is it in hong kong?", "found", "It is Sunday, November 22 in Hong Kong."},
		{"what day is it", "found", "It is Saturday, November 21."},
		{"what time is it in atlantis", "unknown", "I don't know the time in Atlantis."},
		{"", "unheard", "I did not understand that. Ask: what time is it in London?"},
		{strings.Repeat("what ", 1000), "unheard", "I did not understand that. Ask: what time is it in London?"},
	} {
		if a := s.Answer(c.heard); a.Status != c.status || strings.Join(a.Say, " ") != c.say {
			t.Errorf("%q: %s, %q", c.heard, a.Status, a.Say)
		}
	}
}

// Every city of the list can be asked for in the words of the grammar.
func TestGrammarKnowsTheCities(t *testing.T) {
	s := service(t)
	for _, c := range Cities() {
		if !strings.Contains(string(s.Data()[0].Bytes), c.Spoken) || s.Answer("what time is it in "+c.Spoken).Status != "found" {
			t.Errorf("%s cannot be asked for", c.Spoken)
		}
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	for _, cfg := range []Config{{}, {Service: "x"}, {Service: "x", Now: clock, Zone: "Nowhere/Land"},
		{Service: "x", Now: clock, Cities: []City{{"Bad;Name", "UTC"}}}, {Service: "x", Now: clock, Cities: []City{{"good", "Nowhere"}}}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func TestDescriptionNamesItsGrammar(t *testing.T) {
	s := service(t)
	d := s.Description("time")
	d.Node = &operators.Node{Control: "127.0.0.1:1", Data: "127.0.0.1:2"}
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := operators.ParseDescription(b)
	if err != nil {
		t.Fatal(err)
	}
	ref, ok := operators.ParseRef(back.Operators[0].In.Param("grammar"))
	if !ok || ref != s.Data()[0].Ref || back.Data[0].SHA256 != ref.SHA256 {
		t.Errorf("the input type refers to %v, the data is %v", ref, back.Data)
	}
}

func TestOperator(t *testing.T) {
	op, err := service(t).Factory()(context.Background(), operators.Env{})
	if err != nil {
		t.Fatal(err)
	}
	hop := &pipe{in: []string{"what time is it in london"}}
	if err := op.Run(context.Background(), hop, hop); err != nil {
		t.Fatal(err)
	}
	var a Answer
	if err := xml.Unmarshal(hop.out[0].Payload, &a); err != nil || a.Time.At != "2026-11-21T23:05:00Z" || hop.out[0].Mark != connectors.EndOfDocument {
		t.Errorf("%v %s", err, hop.out[0].Payload)
	}
}

// pipe is both ends of an operator.
type pipe struct {
	in  []string
	out []connectors.ADU
}

func (p *pipe) Read(context.Context) (connectors.ADU, error) {
	if len(p.in) == 0 {
		return connectors.ADU{}, io.EOF
	}
	a := connectors.ADU{Payload: []byte(p.in[0]), Mark: connectors.EndOfUtterance}
	p.in = p.in[1:]
	return a, nil
}
func (p *pipe) Write(_ context.Context, a connectors.ADU) error { p.out = append(p.out, a); return nil }
func (p *pipe) Signal(connectors.Event) error                   { return nil }
func (p *pipe) Events() <-chan connectors.Event                 { return nil }
func (p *pipe) Close() error                                    { return nil }

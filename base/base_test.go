package base

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"ninja/connectors"
	"ninja/internal/world"
	"ninja/operators"
)

// diary is a publisher and a data server that notes what it is told.
type diary struct {
	published map[string][]byte
	data      [][]byte
	refuse    error
}

func (d *diary) Publish(name string, description []byte) error {
	if d.refuse == nil {
		d.published[name] = description
	}
	return d.refuse
}
func (d *diary) SetNumbers(string, map[string]float64) {}
func (d *diary) Withdraw(name string)                  { delete(d.published, name) }
func (d *diary) ServeData(b []byte) string {
	d.data = append(d.data, b)
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// echo is a component that answers with what it hears, in the tone of its argument.
func echo(_ context.Context, site Site) (*Service, error) {
	if site.Args["tone"] == "" {
		return nil, errors.New("the argument tone is missing")
	}
	return &Service{
		Kind: "echo", Summary: "says it again", Data: map[string][]byte{"grammar": []byte("x")},
		Operators: []operators.Spec{{
			Name: "echo", Program: "say", In: operators.MustPattern("text/plain;for=" + site.ID), Out: operators.MustPattern("text/plain"),
		}},
		Programs: map[string]operators.Factory{"say": func(context.Context, operators.Env) (operators.Operator, error) {
			return operators.Each(func(a connectors.ADU) (connectors.ADU, error) { return a, nil }), nil
		}},
	}, nil
}

func newNode(t *testing.T) (*Node, *diary, *operators.Registry) {
	d, r := &diary{published: make(map[string][]byte)}, new(operators.Registry)
	n, err := New(Config{
		World: world.Real(), Log: slog.New(slog.DiscardHandler), Owner: "spiffe://test/base/b", Components: map[string]Component{"echo": echo},
		Node: operators.Node{Control: "c:1", Data: "d:1"}, Registry: r, Publisher: d, Data: d, State: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, d, r
}

// A component is pushed into a running node, found by what it publishes, listed, and stopped (multispace-base, 2).
func TestPushListStop(t *testing.T) {
	n, d, r := newNode(t)
	if err := n.Start(t.Context(), "echo", "hall", map[string]string{"tone": "low"}); err != nil {
		t.Fatal(err)
	}
	description, err := operators.ParseDescription(d.published["hall"])
	if err != nil {
		t.Fatal(err)
	}
	if description.Kind != "echo" || description.Operators[0].Program != "hall/say" || description.Node.Control != "c:1" {
		t.Errorf("published:\n%s", d.published["hall"])
	}
	if got := description.Operators[0].In.Param("for"); got != "spiffe://test/base/b#hall" {
		t.Errorf("the component was told the id %s", got)
	}
	hash := sha256.Sum256([]byte("x"))
	if len(d.data) != 1 || description.Data[0].SHA256 != hex.EncodeToString(hash[:]) || description.Data[0].Name != "grammar" {
		t.Errorf("data served %d, described %+v", len(d.data), description.Data)
	}
	if _, err := r.Make(t.Context(), "hall/say", operators.Env{}); err != nil {
		t.Errorf("the program: %v", err)
	}
	if l := n.List(); len(l) != 1 || l[0].Name != "hall" || l[0].State != "running" {
		t.Errorf("listed: %+v", l)
	}
	if err := n.Start(t.Context(), "echo", "hall", map[string]string{"tone": "low"}); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a second service of the name: %v", err)
	}
	if err := n.Stop("hall"); err != nil {
		t.Fatal(err)
	}
	if len(d.published) != 0 || len(r.Keys()) != 0 || len(n.List()) != 0 {
		t.Errorf("left behind: %v %v %v", d.published, r.Keys(), n.List())
	}
	if err := n.Stop("hall"); err == nil {
		t.Error("stopped twice")
	}
}

// What cannot start leaves nothing behind, and the error says what is missing.
func TestWhatCannotStart(t *testing.T) {
	n, d, r := newNode(t)
	for _, tc := range []struct{ component, want string }{
		{"echo", "the argument tone is missing"},
		{"ehco", "this node has [echo]"},
	} {
		if err := n.Start(t.Context(), tc.component, "x", nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.component, err)
		}
	}
	d.refuse = errors.New("over a budget")
	if err := n.Start(t.Context(), "echo", "x", map[string]string{"tone": "low"}); err == nil || !strings.Contains(err.Error(), "over a budget") {
		t.Errorf("refused by the publisher: %v", err)
	}
	if !slices.Equal(r.Keys(), nil) || len(n.List()) != 0 {
		t.Errorf("left behind: %v %v", r.Keys(), n.List())
	}
}

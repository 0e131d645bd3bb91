package apc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/capability"
	"ninja/capability/capabilitypb"
	"ninja/operators"
)

// proveScale multiplies the small counts of a test run (NINJA_PROVE_SCALE).
func proveScale() int {
	n, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// TestHiddenIsAbsent is row 8 of the threats, for what is computed of what was found: in a world with hidden proxies,
// operators, services and units, and in one without them, every plan, refusal, explanation, graph and catalogue is the
// same, byte for byte, whether it comes of queries or of a watch that saw the hidden come and go.
func TestHiddenIsAbsent(t *testing.T) {
	const seed = 11
	random := rand.New(rand.NewPCG(seed, seed))
	cases, answers, plans, refusals, looks, moves := 15*proveScale(), 0, 0, 0, 0, 0
	for n := range cases {
		one := random.Uint64()
		var told [2][]string
		for hidden := range told {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer synctest.Wait()
				defer cancel()
				told[hidden] = tellAll(ctx, t, one, hidden == 1)
			})
		}
		if len(told[0]) != len(told[1]) {
			t.Fatalf("seed %d, case %d: %d and %d answers", seed, n, len(told[0]), len(told[1]))
		}
		for i := range told[0] {
			if told[0][i] != told[1][i] {
				t.Fatalf("seed %d, case %d, answer %d\nabsent: %s\nhidden: %s", seed, n, i, told[0][i], told[1][i])
			}
			if answers++; bytes.Contains([]byte(told[0][i]), []byte(`"refusal"`)) {
				refusals++
			} else if bytes.Contains([]byte(told[0][i]), []byte(`"rivals"`)) {
				plans++
			} else if bytes.Contains([]byte(told[0][i]), []byte(`"outlook"`)) {
				looks++
			}
			if bytes.Contains([]byte(told[0][i]), []byte(`"moves"`)) {
				moves++
			}
		}
	}
	t.Logf("seed %d: %d answers in %d pairs of worlds are identical; %d plans with rivals, %d refusals, %d looks for better plans and %d moved paths among them",
		seed, answers, cases, plans, refusals, looks, moves)
	if plans == 0 || refusals == 0 || looks == 0 || moves == 0 {
		t.Error("nothing was planned, refused, looked for or moved: the test tests nothing")
	}
}

// tellAll makes a world of a seed, with what is hidden in it or without, and collects all that an asker is told.
func tellAll(ctx context.Context, t *testing.T, seed uint64, hidden bool) (all []string) {
	town := newTown()
	d := newDomain(ctx, t, func(c *Config) {
		c.Open = town.open
		c.World.Rand = even{} // when the creator looks must not differ between the worlds
	})
	admin, user := d.id(ca.KindUser, "admin"), d.id(ca.KindUser, "ann")
	if _, err := d.manager.SetGroup(callFrom(ctx, admin), &capabilitypb.SetGroupRequest{Version: 1, Name: "staff", Members: []string{string(user.ID())}}); err != nil {
		t.Fatal(err)
	}
	// Eve sees what is hidden from Ann, and asks the same creator the same before her.
	eve := d.id(ca.KindUser, "eve")
	if _, err := d.manager.SetGroup(callFrom(ctx, admin), &capabilitypb.SetGroupRequest{Version: 1, Name: "others", Members: []string{string(eve.ID())}}); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seed, 1))
	for n := range 3 {
		who := []capability.Who{capability.Everyone, "group:staff", capability.Who(user.ID())}[n]
		d.publish(d.id(ca.KindProxy, fmt.Sprint("p", n)), operators.Description{Kind: operators.KindProxy, Name: "proxy", Node: &operators.Node{Control: "c", Cores: 2}}, nil, who)
	}
	for range 20 + random.IntN(20) {
		d.grow(random, user, hidden)
	}
	token, other := d.token(ctx, user, capability.Narrowing{}), d.token(ctx, eve, capability.Narrowing{})
	_, err := d.creator.Create(ctx, asPeer(user), Request{Path: id, Line: "phone:lobby ! phone:hall", Capability: d.token(ctx, user, capability.Narrowing{Path: id})})
	all = append(all, fmt.Sprint(err))
	for range 3 {
		for _, line := range []string{
			"phone:lobby ! phone:hall", "phone:lobby ! ?oracle ! phone:hall", "phone:lobby ! ?oracle & ?printer ! phone:lobby",
			"phone:lobby ! ?oracle ! phone:hall latency<3ms", "phone:lobby ! phone:hall quality>0.9 cpu<0.3", "phone:attic ! ?phone ! phone:hall",
			"spiffe://test/unit/u0#lobby ! operator:operator.x1 ! phone:hall",
			"rtp://10.0.0.7:5004/audio/PCMU ! rtp://10.0.1.7:5004/audio/PCMU", "rtp://10.0.1.7:5004/audio/PCMU ! rtp://10.0.0.7:5004/audio/PCMU",
		} {
			d.tell(ctx, eve, other, line)
			all = append(all, d.tell(ctx, user, token, line)...)
		}
		c, err := d.creator.Catalogue(ctx, asPeer(user), token)
		b, _ := json.Marshal(c)
		all = append(all, fmt.Sprintf("%s %v", b, err))
		// Then the world changes, in what is hidden and in what is not, and the watch hears of it.
		for range 4 {
			d.grow(random, user, hidden)
		}
		time.Sleep(40 * time.Second)
		all = append(all, d.shown(user))
	}
	if d.streams != 2 {
		t.Fatalf("%d watches for two askers", d.streams)
	}
	return all
}

// even is randomness that is always the same.
type even struct{}

func (even) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// shown is everything that an asker is told of a running path: where it runs, how often it was moved and why, and what the
// creator saw when it last looked for something better.
func (d *domain) shown(user *ca.Identity) string {
	info, err := d.creator.Show(user.ID(), id)
	if err != nil {
		return err.Error()
	}
	info.PlanTime, info.Search, info.SetUp = 0, 0, 0
	b, err := json.Marshal(info)
	wire, werr := proto.MarshalOptions{Deterministic: true}.Marshal(toWire(info))
	return fmt.Sprintf("%s %v %x %v", b, err, wire, werr)
}

// tell is everything that an asker is told of one request.
func (d *domain) tell(ctx context.Context, user *ca.Identity, token []byte, line string) (all []string) {
	r := Request{Line: line, Capability: token}
	info, err := d.creator.Plan(ctx, asPeer(user), r)
	info.PlanTime, info.Search = 0, 0
	b, merr := json.Marshal(info)
	all = append(all, fmt.Sprint(string(b), merr, err))
	e, err := d.creator.Explain(ctx, asPeer(user), r)
	if err != nil {
		return append(all, err.Error())
	}
	for _, form := range []string{Text, JSON, DOT, Mermaid} {
		text, err := e.Render(form)
		all = append(all, fmt.Sprint(text, err))
	}
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(explanationToWire(e))
	return append(all, fmt.Sprintf("%x %v", wire, err))
}

// grow publishes, changes or hides one thing. All random numbers are drawn whether the thing is hidden or not.
func (d *domain) grow(random *rand.Rand, user *ca.Identity, withHidden bool) {
	kind, n, sees := random.IntN(5), random.IntN(3), random.IntN(5)
	in, out := random.IntN(4), random.IntN(4)
	cost := operators.Cost{CPU: 0.01 + random.Float64()/4, Latency: operators.Latency(1e5 + random.IntN(2e6)), Memory: int64(random.IntN(1 << 24)), Quality: 0.8 + 0.2*random.Float64()}
	numbers := map[string]float64{"load": random.Float64(), "rtt.eu": random.Float64() / 50}
	hidden := sees == 4 || kind == 0 && sees > 1
	who := [][]capability.Who{{capability.Everyone}, {"group:staff"}, {capability.Who(user.ID())}, {"group:staff", "group:others"}, {"group:others"}}[sees]
	if hidden {
		who = who[:0]
		if !withHidden {
			return
		}
		if random := rand.New(rand.NewPCG(uint64(n), uint64(in))); random.IntN(2) == 0 {
			who = []capability.Who{"group:others"}
		}
	}
	at := &operators.Node{Control: "c", Data: "d", Cores: float64(1 + n), Region: []string{"eu", "us", ""}[n]}
	spec := operators.Spec{Program: "p", Cost: cost, In: operators.MustPattern(fmt.Sprint("text/t", in)), Out: operators.MustPattern(fmt.Sprint("text/t", out))}
	name := func(s string) string { // what is hidden never replaces what is not
		if hidden {
			return s + ".hidden"
		}
		return s
	}
	switch kind {
	case 0:
		at.External = fmt.Sprintf("10.0.%d.0/24:5004", in%2)
		if hidden {
			n += 3 // a proxy of its own
			at.External = "10.0.0.0/23:5004"
		}
		d.publish(d.id(ca.KindProxy, fmt.Sprint("p", n)), operators.Description{Kind: operators.KindProxy, Name: "proxy", Node: at}, numbers, who...)
	case 1, 2:
		spec.Name = fmt.Sprint("x", in)
		d.publish(d.id(ca.KindProxy, fmt.Sprint("p", n)), operators.Description{Kind: operators.KindOperator, Name: name("operator." + spec.Name), Node: at, Operators: []operators.Spec{spec}}, nil, who...)
	case 3:
		spec.Name = "s/answer"
		d.publish(d.id(ca.KindBase, fmt.Sprint("b", n)), operators.Description{
			Kind: []string{"oracle", "printer"}[in%2], Name: name("svc"), Node: at, Operators: []operators.Spec{spec},
			Data: []operators.Data{{Name: "g", SHA256: fmt.Sprintf("%064x", in), Size: 1 << 20}},
		}, numbers, who...)
	default:
		mic, speaker := spec, spec
		mic.Name, speaker.Name = "microphone", "speaker"
		mic.In, speaker.Out = operators.Pattern{}, operators.Pattern{}
		d.publish(d.id(ca.KindUnit, fmt.Sprint("u", n)), operators.Description{
			Kind: "phone", Name: name([]string{"lobby", "hall", "hall"}[n]), Node: at, Operators: []operators.Spec{mic, speaker},
		}, numbers, who...)
	}
}

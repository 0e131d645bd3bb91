package tree

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"ninja/ca"
	"ninja/sds/index"
	"ninja/sds/route"
	"ninja/sds/summary"
	"ninja/sds/tree/treepb"
)

// liar is a child that claims everything it can think of, and has nothing.
type liar struct {
	stream treepb.Tree_LinkClient
	mu     sync.Mutex
	asked  int
}

// newLiar joins below a server. slow says that it does not even answer.
func newLiar(t *testing.T, w *wood, parent *plant, slow bool) *liar {
	t.Helper()
	id := w.identity(ca.KindSDS, "liar")
	conn, err := grpc.NewClient("passthrough:///"+parent.address, grpc.WithTransportCredentials(ca.ClientCredentials(id, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() { cancel(); conn.Close(); all.Wait() })
	l := &liar{}
	if l.stream, err = treepb.NewTreeClient(conn).Link(ctx); err != nil {
		t.Fatal(err)
	}
	send := func(f *treepb.Frame) {
		l.mu.Lock()
		defer l.mu.Unlock()
		f.Version = 1
		_ = l.stream.Send(f)
	}
	send(&treepb.Frame{Kind: &treepb.Frame_Hello{Hello: &treepb.Hello{Hierarchy: "h"}}})
	if _, err := l.stream.Recv(); err != nil {
		t.Fatal(err)
	}
	var told []index.Fact
	for i := range 1000 {
		told = append(told, index.Fact{Tag: "@kind", Kind: index.Text, Text: fmt.Sprint("kind", i)})
	}
	var c summary.Counting
	summary.Plan{}.Terms(summary.Make(told), c.Add)
	n, sum := c.Len(), c.Check()
	m := (&summary.Message{Sequence: 1, Services: 1000, Terms: n, Check: sum, Added: c.Set()}).Encode()
	send(&treepb.Frame{Kind: &treepb.Frame_Part{Part: &treepb.Part{Data: m, Last: true, Signature: id.Sign(summaryContext, signed("h", m))}}})
	all.Go(func() {
		beat := time.NewTicker(testPeriod)
		defer beat.Stop()
		for {
			select {
			case <-beat.C:
				send(&treepb.Frame{Kind: &treepb.Frame_Beat{Beat: &treepb.Beat{Sequence: 1}}})
			case <-ctx.Done():
				return
			}
		}
	})
	all.Go(func() {
		for {
			f, err := l.stream.Recv()
			if err != nil {
				return
			}
			if a := f.GetAsk(); a != nil {
				l.mu.Lock()
				l.asked++
				l.mu.Unlock()
				if !slow {
					send(&treepb.Frame{Kind: &treepb.Frame_Answer{Answer: &treepb.Answer{Id: a.GetId(), Last: true}}})
				}
			}
		}
	})
	return l
}

func (l *liar) questions() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

// TestALyingChildIsFlagged (threat 11): a child whose summary claims what it has not, or that lets others wait, is flagged
// before a period of queries is over, sent no more than its allowance, and named in the answers; the queries of the others
// take as long as before.
func TestALyingChildIsFlagged(t *testing.T) {
	w := newWood(t)
	owner := w.identity(ca.KindBase, "b")
	root, honest := w.grow("root"), w.grow("honest", "h=root")
	const services = 300
	for i := range services {
		honest.publish(owner, fmt.Sprint("s", i), 1, printer(fmt.Sprint("kind", i), i))
	}
	root.knows("honest", services)
	c := root.client(w.identity(ca.KindUser, "ann"))
	round := func() (took []time.Duration) {
		for i := range services {
			begun := time.Now()
			if a := ask(t, c, kindIs(fmt.Sprint("kind", i)), Options{Scope: route.All}); len(a.Found) != 1 {
				t.Fatalf("kind%d: %s by %v", i, names(a), outcomes(a))
			}
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		return took
	}
	before := round()
	l := newLiar(t, w, root, false)
	eventually(t, "the liar's summary is there", func() bool {
		s, err := c.Standing(context.Background())
		return err == nil && slices.ContainsFunc(s.Links, func(k Link) bool { return k.Neighbour.Name() == "liar" && k.Terms > 0 })
	})
	asked := 0
	for ; asked < services; asked++ {
		if outcomes(ask(t, c, kindIs(fmt.Sprint("kind", asked)), Options{Scope: route.All}))["liar"] == "flagged" {
			break
		}
	}
	if asked > 40 {
		t.Errorf("a liar was sent %d questions before it was flagged", asked)
	}
	flagged, begun := l.questions(), time.Now()
	after := round()
	sent, periods := l.questions()-flagged, 2+int(time.Since(begun)/testPeriod)
	if sent > periods*summary.Allowance {
		t.Errorf("a flagged child was sent %d questions in %d periods", sent, periods)
	}
	var flag string
	s, err := c.Standing(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range s.Links {
		if k.Neighbour.Name() == "liar" {
			flag = k.Flag
		}
		if k.Neighbour.Name() == "honest" && k.Flag != "" {
			t.Errorf("an honest child is flagged %q", k.Flag)
		}
	}
	if flag != string(summary.Lying) {
		t.Errorf("the liar is flagged %q", flag)
	}
	at := func(took []time.Duration, p int) time.Duration { return took[len(took)*p/100] }
	t.Logf("PROVE a lying child was sent %d questions, then %d in the next %d; p99 before %v, with it %v (%.2fx)",
		asked, sent, services, at(before, 99), at(after, 99), float64(at(after, 99))/float64(at(before, 99)))
}

// TestAStallingChildIsFlagged: one that does not answer at all holds up a few questions, not all.
func TestAStallingChildIsFlagged(t *testing.T) {
	w := newWood(t)
	root := w.grow("root")
	c := root.client(w.identity(ca.KindUser, "ann"))
	newLiar(t, w, root, true)
	late, flagged := 0, 0
	for i := 0; flagged == 0 && i < 200; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), 40*time.Millisecond)
		a, err := c.Ask(ctx, kindIs(fmt.Sprint("kind", i)), Options{Scope: route.All})
		cancel()
		if err != nil {
			continue
		}
		switch outcomes(a)["liar"] {
		case "late":
			late++
		case "flagged":
			flagged++
		}
	}
	if flagged == 0 || late == 0 {
		t.Errorf("late %d times, flagged %d times", late, flagged)
	}
	t.Logf("a child that does not answer was late %d times before it was flagged", late)
}

// TestTheBlameStaysWithTheLiar: a server whose child lies passes on what it was told. It is not blamed for that: it takes
// back what it told for the liar, and says that something is withheld; what its honest children have is found all the time.
func TestTheBlameStaysWithTheLiar(t *testing.T) {
	w := newWood(t)
	owner := w.identity(ca.KindBase, "b")
	root, middle, honest := w.grow("root"), w.grow("middle", "h=root"), w.grow("honest", "h=middle")
	const services = 20
	for i := range services {
		honest.publish(owner, fmt.Sprint("s", i), 1, printer(fmt.Sprint("kind", i), i))
	}
	newLiar(t, w, middle, false)
	root.knows("middle", services+1000)
	c := root.client(w.identity(ca.KindUser, "ann"))
	flagged := func() bool { return root.flag("middle") != "" }
	took, withheld := 0, false
	for begun := time.Now(); time.Since(begun) < 20*testPeriod; took++ {
		if a := ask(t, c, kindIs(fmt.Sprint("kind", took%services)), Options{Scope: route.All}); len(a.Found) != 1 {
			t.Fatalf("after %d questions: %s by %v", took, names(a), outcomes(a))
		}
		for i := range 9 { // most of what is asked only the liar claims
			a := ask(t, c, kindIs(fmt.Sprint("kind", services+(9*took+i)%900)), Options{Scope: route.All})
			withheld = withheld || outcomes(a)["middle"] == "withheld" && !a.Complete()
		}
		if flagged() {
			t.Fatalf("after %d questions the middle is flagged %q", took, root.flag("middle"))
		}
	}
	if !withheld || middle.flag("liar") != string(summary.Lying) {
		t.Errorf("after %d questions: withheld %v, the liar is flagged %q", took, withheld, middle.flag("liar"))
	}
}

// flag is what a child is flagged as.
func (p *plant) flag(child string) string {
	who, _ := p.node.neighbours("")
	for _, nb := range who {
		if nb.id.Name() == child {
			nb.account.mu.Lock()
			defer nb.account.mu.Unlock()
			return string(nb.account.Flag)
		}
	}
	return ""
}

package tree

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/sds"
	"ninja/sds/route"
	"ninja/sds/tree/treepb"
)

// big is a description of some 20 kB.
var big = `<service kind="big">` + strings.Repeat("<text>"+strings.Repeat("x", 4000)+"</text>", 5) + `</service>`

// TestASlowAskerHoldsNobodyUp: one client asks a branch for more than fits anywhere on the way and takes none of it; the
// queries of another through the same servers are answered as ever; and when the first does read, all of it comes.
func TestASlowAskerHoldsNobodyUp(t *testing.T) {
	w := newWood(t)
	owner := w.identity(ca.KindBase, "b")
	root, mid, leaf := w.grow("root"), w.grow("mid", "h=root"), w.grow("leaf", "h=mid")
	const services = 600
	for i := range services {
		leaf.publish(owner, fmt.Sprint("s", i), 1, big)
	}
	leaf.publish(owner, "small", 1, printer("printer", 1))
	mid.knows("leaf", services+1)
	root.knows("mid", services+1)

	slow := w.identity(ca.KindUser, "slow")
	conn, err := grpc.NewClient("passthrough:///"+root.address, append(sds.DialOptions(), grpc.WithTransportCredentials(ca.ClientCredentials(slow, nil)))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	s, err := treepb.NewTreeClient(conn).Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	question, err := kindIs("big").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	ask1 := &treepb.Ask{Id: 1, Query: bytes.Repeat([]byte{1}, 16), Question: question, Scope: uint32(route.All), Window: 256 << 10}
	if err := s.Send(&treepb.Frame{Version: 1, Kind: &treepb.Frame_Ask{Ask: ask1}}); err != nil {
		t.Fatal(err)
	}

	c := root.client(w.identity(ca.KindUser, "ann"))
	for range 50 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		a, err := c.Ask(ctx, kindIs("printer"), Options{Scope: route.All})
		cancel()
		if err != nil || names(a) != "small@leaf" || !a.Complete() {
			t.Fatalf("beside a slow asker: %v %v", err, a)
		}
	}

	found := 0
	for {
		f, err := s.Recv()
		if err != nil {
			t.Fatalf("after %d of %d: %v", found, services, err)
		}
		m := f.GetAnswer()
		found += len(m.GetHits())
		if m.GetLast() {
			if m.GetCode() != 0 || found != services {
				t.Errorf("the slow asker got %d of %d: %d %s", found, services, m.GetCode(), m.GetError())
			}
			return
		}
		if err := s.Send(&treepb.Frame{Version: 1, Kind: &treepb.Frame_Credit{Credit: &treepb.Credit{Id: 1, Bytes: uint64(proto.Size(m))}}}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAnAskerThatTakesNothingIsLetGo: its question ends when its time is over, not with the stream.
func TestAnAskerThatTakesNothingIsLetGo(t *testing.T) {
	w := newWood(t)
	owner := w.identity(ca.KindBase, "b")
	root, leaf := w.grow("root"), w.grow("leaf", "h=root")
	const services = 100
	for i := range services {
		leaf.publish(owner, fmt.Sprint("s", i), 1, big)
	}
	root.knows("leaf", services)
	conn, err := grpc.NewClient("passthrough:///"+root.address, grpc.WithTransportCredentials(ca.ClientCredentials(w.identity(ca.KindUser, "slow"), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := treepb.NewTreeClient(conn).Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	question, err := kindIs("big").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	a := &treepb.Ask{Id: 1, Query: bytes.Repeat([]byte{2}, 16), Question: question, Scope: uint32(route.All), Window: 1, TimeoutMs: 500}
	if err := s.Send(&treepb.Frame{Version: 1, Kind: &treepb.Frame_Ask{Ask: a}}); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if f.GetAnswer().GetLast() {
			break // whether as late or with what there was at the end: it has ended
		}
	}
}

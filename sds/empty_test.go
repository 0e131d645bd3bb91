package sds

import (
	"context"
	"testing"

	"ninja/ca"
	"ninja/sds/sdspb"
)

// Requests in which everything is left out are answered like any others (threats, row 14: each of these once ended the
// server).
func TestNothingIsAsked(t *testing.T) {
	w := newTown(t)
	c := w.client(w.identity(ca.KindUser, "u"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := c.rpc.Query(ctx, &sdspb.QueryRequest{}); err != nil {
		t.Error(err)
	}
	if st, err := c.rpc.Watch(ctx, &sdspb.QueryRequest{}); err != nil {
		t.Error(err)
	} else if e, err := st.Recv(); err != nil || e.Kind != sdspb.WatchEvent_KIND_SYNCED {
		t.Error(e, err)
	}
	st, err := c.rpc.Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*sdspb.SessionRequest{
		{Request: &sdspb.SessionRequest_Hello{Hello: &sdspb.Hello{}}},
		{Request: &sdspb.SessionRequest_Ask{Ask: &sdspb.Ask{Id: 1}}},
	} {
		if err := st.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	for {
		m, err := st.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.Id == 1 && m.Last {
			break
		}
	}
	if _, err := c.rpc.Announce(ctx, &sdspb.AnnounceRequest{Bodies: []*sdspb.Body{{}}, Pairs: []*sdspb.Pair{{}}, Withdrawn: []*sdspb.Pair{{}}}); err != nil {
		t.Error(err)
	}
}

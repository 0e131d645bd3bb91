package sds

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/sds/announce"
)

// Descriptions are held against the schema that they claim, by datagram and over TLS; versions stand beside each other.
func TestSchemas(t *testing.T) {
	w := newTown(t)
	owner, admin := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "admin")
	ctx := context.Background()
	keeper := w.client(admin)
	if err := keeper.RegisterSchema(ctx, "a", 1, []byte("<!ELEMENT a EMPTY>")); status.Code(err) != codes.PermissionDenied {
		t.Errorf("without a registrar: %v", err)
	}
	w.server.cfg.Registrar = func(p ca.Peer) error {
		if p.ID != admin.ID() {
			return errors.New("ask the administrator")
		}
		return nil
	}
	c := w.client(owner)
	if err := c.RegisterSchema(ctx, "a", 1, nil); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "ask the administrator") {
		t.Errorf("somebody: %v", err)
	}
	if err := keeper.RegisterSchema(ctx, "a", 1, []byte("<!ELEMENT a (b>")); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "line 1: <a>") {
		t.Errorf("a bad one: %v", err)
	}
	for v, text := range []string{"<!ELEMENT a (b)><!ELEMENT b EMPTY>", "<!ELEMENT a (b?)><!ELEMENT b EMPTY>"} {
		if err := keeper.RegisterSchema(ctx, "a", uint32(v+1), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	known, err := c.Schemas(ctx, "")
	if err != nil || len(known) != 2 || known[1].Name != "a" || known[1].Version != 2 {
		t.Errorf("known are %v, %v", known, err)
	}
	if text, err := c.Schema(ctx, "a", 2); err != nil || string(text) != "<!ELEMENT a (b?)><!ELEMENT b EMPTY>" {
		t.Errorf("a/2 is %s, %v", text, err)
	}
	if _, err := c.Schema(ctx, "b", 2); status.Code(err) != codes.NotFound {
		t.Errorf("b/2: %v", err)
	}
	const claim = "<a xmlns:s='urn:ninja:schema:1' s:schema='"
	for i, x := range []struct{ description, want string }{
		{claim + "a/1'><b/></a>", ""}, {claim + "a/2'/>", ""}, {"<z/>", ""},
		{claim + "a/1'>\n</a>", "schema a/1: line 1: <a>: something is missing at its end: it must hold (b)"},
		{claim + "a/7'/>", "claim one of a/1, a/2"},
	} {
		name := string(rune('p' + i))
		err := w.server.Put(announce.Sign(owner, name, 1, []byte(x.description)))
		_, sent := c.Send(ctx, []announce.Body{announce.Sign(owner, name, 1, []byte(x.description))}, nil, nil)
		for _, err := range []error{err, sent} {
			var refused *announce.Refused
			if x.want == "" && err != nil || x.want != "" && (!errors.As(err, &refused) || refused.Reason != announce.ReasonMalformed || !strings.Contains(err.Error(), x.want)) {
				t.Errorf("%s: %v, want %q", x.description, err, x.want)
			}
		}
	}
}

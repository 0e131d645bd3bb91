package dnssd

import (
	"net/netip"
	"reflect"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var printer = []record{
	{name: "_ipp._tcp.local.", typ: typePTR, ttl: 4500, target: `Büro 2\.0 \\ 3rd floor._ipp._tcp.local.`},
	{name: `Büro 2\.0 \\ 3rd floor._ipp._tcp.local.`, typ: typeSRV, flush: true, ttl: 120, target: "printer.local.", port: 631},
	{name: `Büro 2\.0 \\ 3rd floor._ipp._tcp.local.`, typ: typeTXT, flush: true, ttl: 4500, texts: []string{"rp=ipp/print", "Color=T", "note"}},
	{name: "printer.local.", typ: typeA, flush: true, ttl: 120, addr: netip.MustParseAddr("192.0.2.7")},
}

func TestPackAndParse(t *testing.T) {
	out := pack(true, nil, printer)
	if len(out) != 1 {
		t.Fatalf("%d messages", len(out))
	}
	m, err := parse(out[0])
	if err != nil || !m.response || !reflect.DeepEqual(m.records, printer) {
		t.Errorf("%v\n%+v\n%+v", err, m.records, printer)
	}
	questions := []question{{"_ipp._tcp.local.", typePTR}, {"printer.local.", typeA}}
	m, err = parse(pack(false, questions, printer[:1])[0])
	if err != nil || m.response || !reflect.DeepEqual(m.questions, questions) || !reflect.DeepEqual(m.records, printer[:1]) {
		t.Errorf("%v %+v", err, m)
	}
	var many []record
	for range 100 {
		many = append(many, printer...)
	}
	n := 0
	for _, b := range pack(true, nil, many) {
		m, err := parse(b)
		if err != nil || len(b) > packetBytes {
			t.Errorf("%d bytes: %v", len(b), err)
		}
		n += len(m.records)
	}
	if n != len(many) {
		t.Errorf("%d records arrive of %d", n, len(many))
	}
}

// Another implementation reads what we write, and we read what it writes, compressed.
func TestAgainstAnotherCodec(t *testing.T) {
	plain := []record{
		{name: "_ipp._tcp.local.", typ: typePTR, ttl: 4500, target: "Office._ipp._tcp.local."},
		{name: "Office._ipp._tcp.local.", typ: typeSRV, flush: true, ttl: 120, target: "printer.local.", port: 631},
		{name: "Office._ipp._tcp.local.", typ: typeTXT, flush: true, ttl: 4500, texts: []string{"rp=ipp/print"}},
		{name: "printer.local.", typ: typeA, flush: true, ttl: 120, addr: netip.MustParseAddr("192.0.2.7")},
	}
	var theirs dnsmessage.Message
	if err := theirs.Unpack(pack(true, nil, plain)[0]); err != nil || len(theirs.Answers) != 4 || !theirs.Authoritative {
		t.Fatalf("they read %+v: %v", theirs, err)
	}
	if srv := theirs.Answers[1].Body.(*dnsmessage.SRVResource); srv.Port != 631 || srv.Target.String() != "printer.local." {
		t.Errorf("%+v", srv)
	}
	b, err := theirs.Pack()
	if err != nil {
		t.Fatal(err)
	}
	m, err := parse(b)
	if err != nil || !reflect.DeepEqual(m.records, plain) {
		t.Errorf("%v %+v", err, m.records)
	}
}

func TestParseRefuses(t *testing.T) {
	whole := pack(true, nil, printer)[0]
	for n := range whole {
		if _, err := parse(whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are accepted", n, len(whole))
		}
	}
	loop := append([]byte{0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0}, 0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12)
	if _, err := parse(loop); err == nil {
		t.Error("a name that points at itself is accepted")
	}
	many := make([]byte, 12)
	many[4], many[5] = 0xff, 0xff
	if _, err := parse(many); err == nil {
		t.Error("65,535 questions are accepted")
	}
	if _, err := parse(make([]byte, maxMessage+1)); err == nil {
		t.Error("a message over the bound is accepted")
	}
}

// What can be read can be written and means the same.
func FuzzParse(f *testing.F) {
	f.Add(pack(true, nil, printer)[0])
	f.Add(pack(false, []question{{"_ipp._tcp.local.", typePTR}}, printer[:1])[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		var records []record
		for _, p := range pack(true, nil, m.records) {
			again, err := parse(p)
			if err != nil {
				t.Fatalf("%x: %v", p, err)
			}
			records = append(records, again.records...)
		}
		if len(records) != len(m.records) || len(records) > 0 && !reflect.DeepEqual(records, m.records) {
			t.Errorf("%+v\n%+v", m.records, records)
		}
	})
}

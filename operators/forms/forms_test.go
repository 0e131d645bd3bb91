package forms

import (
	"strings"
	"testing"

	"ninja/connectors"
	"ninja/operators"
)

func TestXML(t *testing.T) {
	for _, s := range []string{"audio/L16;channels=$c;rate=$r:4000..192000", "text/plain;about=*;lang=en|de", "text/plain",
		"text/plain;about=address;grammar=spiffe://d/base/m#map@sha256:00;lang=en"} {
		p := operators.MustPattern(s)
		b, err := ToXML(p)
		if err != nil {
			t.Fatal(err)
		}
		back, err := FromXML(b)
		if err != nil || back.String() != p.String() {
			t.Errorf("%s\n%v %v", b, back, err)
		}
	}
	ground := connectors.MustType("audio/L16;rate=16000;channels=1")
	b, err := TypeToXML(ground)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := TypeFromXML(b); err != nil || back != ground {
		t.Errorf("%s: %v %v", b, back, err)
	}
	if _, err := TypeFromXML([]byte(`<type xmlns="urn:ninja:service:1" media="audio/L16"><param name="rate" value="$r"/></type>`)); err == nil {
		t.Error("a pattern passes for a type")
	}
	in := func(s string) string { return `<type xmlns="urn:ninja:service:1" ` + s + `</type>` }
	for _, bad := range []string{"", "<type media='a/b'/>", in(`media="a/b"><x/>`), in(`media="a/b" x="y">`), in(`media="a/b">text`),
		in(`media="a/b;rate=1">`), in(`media="a/b"><param name="x" value="1;y=2"/>`), in(`media="a/b" media="c/d">`),
		in(`media="a/b"><param name="x" value="1"/><param name="x" value="2"/>`), "<!DOCTYPE x>" + in(`media="a/b">`),
		in(`media="a/b">`) + in(`media="a/b">`), strings.Repeat(" ", maxDocument+1)} {
		if p, err := FromXML([]byte(bad)); err == nil {
			t.Errorf("%.80s gives %v", bad, p)
		}
	}
}

func TestSDP(t *testing.T) {
	types := []connectors.Type{
		connectors.MustType("audio/PCMU;rate=8000;channels=1"), connectors.MustType("audio/L16;rate=16000;channels=1;lang=en"),
		connectors.MustType("audio/L16;rate=44100;channels=2"), connectors.MustType("audio/opus;rate=48000;channels=2"),
		connectors.MustType("audio/opus;rate=48000;channels=1;useinbandfec=1"), connectors.MustType("audio/PCMA;rate=16000;channels=1"),
	}
	got, err := ToSDP(49170, types...)
	want := "m=audio 49170 RTP/AVP 0 96 10 97 98 99\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:96 L16/16000\r\na=fmtp:96 lang=en\r\n" +
		"a=rtpmap:10 L16/44100/2\r\na=rtpmap:97 opus/48000/2\r\na=fmtp:97 stereo=1\r\na=rtpmap:98 opus/48000/2\r\n" +
		"a=fmtp:98 useinbandfec=1\r\na=rtpmap:99 PCMA/16000\r\n"
	if err != nil || got != want {
		t.Fatalf("%v\n%s", err, got)
	}
	text, err := ToSDP(5, connectors.MustType("text/t140;lang=en;rate=1000"))
	if err != nil {
		t.Fatal(err)
	}
	back, err := FromSDP("v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\n" + got + text)
	if err != nil || len(back) != 2 || back[0].Port != 49170 || len(back[0].Types) != len(types) {
		t.Fatalf("%+v %v", back, err)
	}
	for i, b := range back[0].Types {
		if b != types[i] {
			t.Errorf("%v comes back as %v", types[i], b)
		}
	}
	if got := back[1].Types; len(got) != 1 || got[0].String() != "text/t140;lang=en;rate=1000" {
		t.Errorf("text: %v", got)
	}
	// A text telephone offers its redundancy first, which is no type of its own (RFC 4103, 9).
	back, err = FromSDP("m=text 11000 RTP/AVP 100 98\r\na=rtpmap:98 t140/1000\r\na=rtpmap:100 red/1000\r\na=fmtp:100 98/98/98\r\n")
	if err != nil || len(back) != 1 || len(back[0].Types) != 1 || back[0].Types[0].String() != "text/t140;rate=1000" {
		t.Errorf("with redundancy: %+v %v", back, err)
	}
	for _, bad := range []string{"text/plain;lang=en", "video/H264;rate=90000", "audio/L16", "audio/L16;rate=fast", "audio/opus;rate=16000", "audio/L16;rate=016000"} {
		if s, err := ToSDP(1, connectors.MustType(bad)); err == nil {
			t.Errorf("%s is written as %s", bad, s)
		}
	}
	if _, err := ToSDP(1, types[0], connectors.MustType("text/t140")); err == nil {
		t.Error("text stands beside audio")
	}
}

// What a browser and a telephone really offer.
func TestForeignSDP(t *testing.T) {
	const browser = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n" +
		"a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 pcmu/8000\r\na=rtpmap:8 PCMA/8000\r\n" +
		"a=rtpmap:13 CN/8000\r\na=rtpmap:110 telephone-event/48000\r\na=fmtp:110 0-15\r\nm=video 9 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"
	got, err := FromSDP(browser)
	if err != nil || len(got) != 2 || len(got[1].Types) != 0 {
		t.Fatalf("%+v %v", got, err)
	}
	want := []string{"audio/opus;channels=1;minptime=10;rate=48000;useinbandfec=1", "audio/red;channels=2;rate=48000", "audio/G722;channels=1;rate=8000",
		"audio/PCMU;channels=1;rate=8000", "audio/PCMA;channels=1;rate=8000", "audio/CN;channels=1;rate=8000", "audio/telephone-event;channels=1;rate=48000"}
	for i, w := range want {
		if i >= len(got[0].Types) || got[0].Types[i].String() != w {
			t.Fatalf("format %d: %v, want %s", i, got[0].Types, w)
		}
	}
	if got, err := FromSDP("m=audio 1 RTP/AVP 0 8 96\r\n"); err != nil || len(got[0].Types) != 2 {
		t.Errorf("static ones without rtpmap: %+v %v", got, err)
	}
	for _, bad := range []string{"m=audio 1 RTP/AVP\r\n", "m=audio x RTP/AVP 0\r\n", "m=audio 1 RTP/AVP 96\r\na=rtpmap:96 L16\r\n", "m=audio 1 RTP/AVP 96\na=rtpmap:96 L16/0",
		strings.Repeat("m=video 1 x 1\n", maxMedia+1), strings.Repeat("x", maxDocument+1)} {
		if got, err := FromSDP(bad); err == nil {
			t.Errorf("%.40q gives %+v", bad, got)
		}
	}
}

// What is read can be written, and reads the same again.
func FuzzFromSDP(f *testing.F) {
	f.Add("m=audio 1 RTP/AVP 0 96\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 stereo=1;x=y\r\n")
	f.Add("m=text 1 RTP/AVP 98\r\na=rtpmap:98 t140/1000\r\n")
	f.Add("m=text 1 RTP/AVP 100 98\r\na=rtpmap:100 red/1000\r\na=fmtp:100 98/98/98\r\na=rtpmap:98 t140/1000\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		all, err := FromSDP(s)
		if err != nil {
			return
		}
		for _, m := range all {
			for _, typ := range m.Types {
				line, err := ToSDP(m.Port, typ)
				if err != nil {
					continue
				}
				if back, err := FromSDP(line); err != nil || len(back) != 1 || len(back[0].Types) != 1 || back[0].Types[0] != typ {
					t.Errorf("%v is written as %q and comes back as %+v %v", typ, line, back, err)
				}
			}
		}
	})
}

// The same of XML.
func FuzzFromXML(f *testing.F) {
	f.Add([]byte(`<type xmlns="urn:ninja:service:1" media="audio/L16"><param name="rate" value="$r:1..2"/></type>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := FromXML(b)
		if err != nil {
			return
		}
		out, err := ToXML(p)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := FromXML(out); err != nil || back.String() != p.String() {
			t.Errorf("%v comes back as %v %v", p, back, err)
		}
	})
}

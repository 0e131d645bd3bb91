package forms

import (
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ninja/connectors"
	"ninja/operators"
)

// A type is the same in one line, in XML and, where RTP carries it, in SDP: each form is read as what it was written of.
func TestTypesAreTheSameInAllForms(t *testing.T) {
	carried := 0
	rapid.Check(t, func(t *rapid.T) {
		media := rapid.SampledFrom([]string{"audio/L16", "audio/PCMU", "audio/PCMA", "audio/opus", "audio/L8", "text/t140", "text/plain", "image/png"}).Draw(t, "media")
		params := []connectors.Param{}
		add := func(name, value string) { params = append(params, connectors.Param{Name: name, Value: value}) }
		rate := rapid.SampledFrom([]int{8000, 16000, 44100, 48000}).Draw(t, "rate")
		switch media {
		case "audio/opus":
			rate = 48000
		case "text/t140":
			rate = 1000
		}
		add("rate", strconv.Itoa(rate))
		if media[:5] == "audio" {
			add("channels", strconv.Itoa(rapid.IntRange(1, 2).Draw(t, "channels")))
		}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"lang", "about", "voice", "style", "grammar"}), 0, 4, rapid.ID).Draw(t, "names") {
			add(name, rapid.StringMatching(`[a-zA-Z0-9@:#._/-]{1,20}`).Draw(t, "value"))
		}
		typ := connectors.MakeType(media, params...)
		line, err := connectors.ParseType(typ.String())
		if err != nil && strings.Contains(typ.String(), "..") {
			return // a range is no value
		}
		if err != nil || line != typ {
			t.Fatalf("in one line %v: %v %v", typ, line, err)
		}
		b, err := TypeToXML(typ)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := TypeFromXML(b); err != nil || back != typ {
			t.Fatalf("%v as XML is %s, read as %v, %v", typ, b, back, err)
		}
		if p, err := FromXML(b); err != nil || p.String() != operators.PatternOf(typ).String() {
			t.Fatalf("%v as XML is the pattern %v, %v", typ, p, err)
		}
		sdp, err := ToSDP(5004, typ)
		if err != nil {
			return // RTP does not carry it
		}
		carried++
		back, err := FromSDP(sdp)
		if err != nil || len(back) != 1 || len(back[0].Types) != 1 || back[0].Types[0] != typ {
			t.Fatalf("%v as SDP is %q, read as %+v, %v", typ, sdp, back, err)
		}
	})
	if carried < 5 {
		t.Errorf("%d types were written as SDP: the test says little", carried)
	}
}

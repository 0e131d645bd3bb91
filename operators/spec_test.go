package operators

import "testing"

func TestParseSpec(t *testing.T) {
	const one = `<operator xmlns="urn:ninja:service:1" name="shout" program="wrap-program"><summary>s</summary><in>text/plain;lang=$l</in><out>text/plain;lang=$l;style=shout</out><cost cpu="0.01" latency="5ms" memory="1000"/><arg name="key" value="shout"/></operator>`
	for _, text := range []string{one, `<service xmlns="urn:ninja:service:1" kind="operator" name="x">` + one + `</service>`} {
		s, err := ParseSpec([]byte(text))
		if err != nil || s.Name != "shout" || s.Out.String() != "text/plain;lang=$l;style=shout" || len(s.Args) != 1 || s.Summary != "s" {
			t.Errorf("%+v %v", s, err)
		}
	}
	for _, bad := range []string{"", "<operator/>", `<operator xmlns="urn:ninja:service:1" name="x" program="y"/>`, `<service xmlns="urn:ninja:service:1" kind="a" name="b"/>`,
		`<service xmlns="urn:ninja:service:1">` + one + one + `</service>`, `<proxy xmlns="urn:ninja:service:1"/>`} {
		if s, err := ParseSpec([]byte(bad)); err == nil {
			t.Errorf("%.60s is read as %+v", bad, s)
		}
	}
}

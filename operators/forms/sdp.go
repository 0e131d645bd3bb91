package forms

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ninja/connectors"
)

// Payload types: the static ones that RFC 3551 fixes for exactly one type each, and where the dynamic ones begin.
const (
	dynamic     = 96
	lastDynamic = 127
)

// static are the types with a payload type of their own.
func static() map[int]string {
	return map[int]string{
		0: "audio/PCMU;channels=1;rate=8000", 8: "audio/PCMA;channels=1;rate=8000", 9: "audio/G722;channels=1;rate=8000",
		10: "audio/L16;channels=2;rate=44100", 11: "audio/L16;channels=1;rate=44100",
	}
}

// The parameters that a rtpmap line has; all others go to fmtp.
const (
	rateParam     = "rate"
	channelsParam = "channels"
)

// ToSDP writes a media description that offers types in order of preference, all of audio or all of text, at a port; the
// session lines before it are the caller's.
//
//	m=audio 49170 RTP/AVP 0 96
//	a=rtpmap:0 PCMU/8000
//	a=rtpmap:96 L16/16000
//	a=fmtp:96 lang=en
//
// A missing rate is 8000 for PCMU and PCMA, 48000 for opus, 1000 for t140; missing channels are 1.
func ToSDP(port int, types ...connectors.Type) (string, error) {
	if len(types) == 0 || len(types) > lastDynamic-dynamic+1 || port < 0 || port > 65535 {
		return "", fmt.Errorf("a media description wants 1 to %d types and a port", lastDynamic-dynamic+1)
	}
	kind, _, _ := strings.Cut(types[0].Media(), "/")
	next := dynamic
	var formats, lines []string
	for _, t := range types {
		f, err := formatOf(t)
		if err != nil {
			return "", err
		}
		if f.kind != kind {
			return "", fmt.Errorf("%v stands beside %v: one media description has one kind of media", t, types[0])
		}
		number := f.static()
		if number < 0 || slices.Contains(formats, strconv.Itoa(number)) {
			number = next
			next++
		}
		formats = append(formats, strconv.Itoa(number))
		lines = append(lines, f.lines(number)...)
	}
	return fmt.Sprintf("m=%s %d RTP/AVP %s\r\n%s\r\n", kind, port, strings.Join(formats, " "), strings.Join(lines, "\r\n")), nil
}

// format is a type as SDP has it.
type format struct {
	kind, encoding string
	rate, channels int
	fmtp           []connectors.Param
}

func formatOf(t connectors.Type) (format, error) {
	kind, encoding, _ := strings.Cut(t.Media(), "/")
	f := format{kind: kind, encoding: encoding, channels: 1}
	switch {
	case kind == "text" && encoding != "t140", kind != "audio" && kind != "text":
		return f, fmt.Errorf("type %v: RTP carries audio and text/t140", t)
	case kind == "text":
		f.rate = 1000 // RFC 4103
	case encoding == "PCMU", encoding == "PCMA":
		f.rate = 8000
	case encoding == "opus":
		f.rate = 48000
	}
	for _, p := range t.Params() {
		var err error
		switch p.Name {
		case rateParam:
			f.rate, err = count(p, 1_000_000)
		case channelsParam:
			f.channels, err = count(p, 255)
		default:
			f.fmtp = append(f.fmtp, p)
		}
		if err != nil {
			return f, fmt.Errorf("type %v: %w", t, err)
		}
	}
	switch {
	case f.rate == 0:
		return f, fmt.Errorf("type %v: the rate is wanted", t)
	case encoding == "opus" && (f.rate != 48000 || f.channels > 2 || t.Get("stereo") != ""):
		return f, fmt.Errorf("type %v: opus flows by RTP at 48000 with 1 or 2 channels (RFC 7587)", t)
	}
	return f, nil
}

func count(p connectors.Param, most int) (int, error) {
	n, err := strconv.Atoi(p.Value)
	if err != nil || n < 1 || n > most || strconv.Itoa(n) != p.Value {
		return 0, fmt.Errorf("%s wants a whole number from 1 to %d", p.Name, most)
	}
	return n, nil
}

// typ is the type with rate and channels written out.
func (f format) typ() (connectors.Type, error) {
	line := f.kind + "/" + f.encoding
	for _, p := range f.fmtp {
		line += ";" + p.Name + "=" + p.Value
	}
	if f.kind == "audio" {
		line += fmt.Sprintf(";%s=%d", channelsParam, f.channels)
	}
	return connectors.ParseType(fmt.Sprintf("%s;%s=%d", line, rateParam, f.rate))
}

// static is the payload type that the format always has, -1 when it has none.
func (f format) static() int {
	if t, err := f.typ(); err == nil {
		for number, s := range static() {
			if t.String() == s {
				return number
			}
		}
	}
	return -1
}

// lines are the attributes of the format. Opus always says two channels, and in fmtp how many it has (RFC 7587, 7).
func (f format) lines(number int) []string {
	m := fmt.Sprintf("a=rtpmap:%d %s/%d", number, f.encoding, f.rate)
	fmtp := slices.Clone(f.fmtp)
	switch {
	case f.encoding == "opus":
		m += "/2"
		if f.channels == 2 {
			fmtp = append(fmtp, connectors.Param{Name: "stereo", Value: "1"})
		}
	case f.channels > 1:
		m += "/" + strconv.Itoa(f.channels)
	}
	if len(fmtp) == 0 {
		return []string{m}
	}
	var all []string
	for _, p := range fmtp {
		all = append(all, p.Name+"="+p.Value)
	}
	return []string{m, fmt.Sprintf("a=fmtp:%d %s", number, strings.Join(all, ";"))}
}

// Media is one media description: what it offers, in order of preference, and where.
type Media struct {
	Port  int
	Types []connectors.Type
}

// maxMedia bounds the media descriptions of a session.
const maxMedia = 16

// FromSDP reads the media descriptions of a session. Encodings that are no types of ours to be, media other than audio
// and text, and formats without a rtpmap line that RFC 3551 does not know, are left out; what is malformed is an error.
func FromSDP(session string) ([]Media, error) {
	if len(session) > maxDocument {
		return nil, fmt.Errorf("a session description of %d bytes: at most %d are allowed", len(session), maxDocument)
	}
	var all []Media
	var block []string
	take := func() error {
		if block == nil {
			return nil
		}
		if len(all) == maxMedia {
			return fmt.Errorf("more than %d media", maxMedia)
		}
		m, err := media(block)
		if err == nil {
			all = append(all, m)
		}
		return err
	}
	for line := range strings.Lines(session) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "m=") {
			if err := take(); err != nil {
				return nil, fmt.Errorf("session description: %w", err)
			}
			block = []string{}
		}
		if block != nil {
			block = append(block, line)
		}
	}
	if err := take(); err != nil {
		return nil, fmt.Errorf("session description: %w", err)
	}
	return all, nil
}

// media reads the lines of one media description.
func media(lines []string) (Media, error) {
	fields := strings.Fields(strings.TrimPrefix(lines[0], "m="))
	if len(fields) < 4 {
		return Media{}, fmt.Errorf("%.60q: want m=MEDIA PORT PROTOCOL FORMATS", lines[0])
	}
	port, err := strconv.ParseUint(strings.SplitN(fields[1], "/", 2)[0], 10, 16)
	if err != nil {
		return Media{}, fmt.Errorf("%.60q: %w", lines[0], errors.New("want a port"))
	}
	m := Media{Port: int(port)}
	if fields[0] != "audio" && fields[0] != "text" {
		return m, nil
	}
	for _, number := range fields[3:] {
		f, ok, err := formatIn(lines[1:], fields[0], number)
		if err != nil {
			return m, err
		}
		if !ok {
			continue
		}
		if t, err := f.typ(); err == nil {
			m.Types = append(m.Types, t)
		}
	}
	return m, nil
}

// formatIn reads the attributes of one format.
func formatIn(lines []string, kind, number string) (f format, ok bool, err error) {
	f = format{kind: kind, channels: 1}
	for _, line := range lines {
		if s, found := strings.CutPrefix(line, "a=rtpmap:"+number+" "); found {
			if err := f.rtpmap(s); err != nil {
				return f, false, fmt.Errorf("%.60q: %w", line, err)
			}
		}
	}
	if n, err := strconv.Atoi(number); f.encoding == "" && err == nil {
		if s := static()[n]; s != "" {
			if f, err = formatOf(connectors.MustType(s)); err != nil || f.kind != kind {
				return f, false, err
			}
		}
	}
	for _, line := range lines {
		if s, found := strings.CutPrefix(line, "a=fmtp:"+number+" "); found {
			f.parameters(s)
		}
	}
	if kind == "text" && strings.EqualFold(f.encoding, "red") { // another format's redundancy (RFC 2198), no type of its own
		return f, false, nil
	}
	return f, f.encoding != "", nil
}

func (f *format) rtpmap(s string) (err error) {
	parts := strings.Split(strings.TrimSpace(s), "/")
	if len(parts) < 2 || len(parts) > 3 {
		return errors.New("want ENCODING/RATE/CHANNELS")
	}
	f.encoding = parts[0]
	// Names of encodings are the same in any case (RFC 4855); types have the one that is registered.
	for _, known := range []string{"PCMU", "PCMA", "L16", "L8", "G722", "opus", "t140"} {
		if strings.EqualFold(known, f.encoding) {
			f.encoding = known
		}
	}
	if f.rate, err = count(connectors.Param{Name: rateParam, Value: parts[1]}, 1_000_000); err != nil {
		return err
	}
	if len(parts) == 3 && f.encoding != "opus" {
		f.channels, err = count(connectors.Param{Name: channelsParam, Value: parts[2]}, 255)
	}
	return err
}

// parameters takes those of the fmtp parameters that a type can have; others, and numbers alone as of telephone-event,
// stay with who wrote them.
func (f *format) parameters(s string) {
	for part := range strings.SplitSeq(s, ";") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		name = strings.ToLower(strings.TrimSpace(name))
		switch {
		case !ok || name == rateParam || name == channelsParam:
		case f.encoding == "opus" && name == "stereo":
			if value == "1" {
				f.channels = 2
			}
		case slices.ContainsFunc(f.fmtp, func(p connectors.Param) bool { return p.Name == name }):
		default:
			if _, err := connectors.ParseType("x/x;" + name + "=" + value); err == nil {
				f.fmtp = append(f.fmtp, connectors.Param{Name: name, Value: value})
			}
		}
	}
}

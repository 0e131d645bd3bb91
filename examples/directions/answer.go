package directions

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"

	"ninja/examples/directions/spoken"
)

// AnswerNamespace is the XML namespace of answers that the answer-to-text operator reads.
const AnswerNamespace = "urn:ninja:answer:1"

// Status says how a question was met.
type Status string

// Statuses of an answer.
const (
	Found     Status = "found"     // the address is known; there is a route unless no road leads there
	Unknown   Status = "unknown"   // understood, but the map has no such address
	Ambiguous Status = "ambiguous" // several cities have it: the answer asks which
	Unheard   Status = "unheard"   // not understood
)

// Answer is what the service says. The sentences to speak are in Say; the rest is the same in structure.
type Answer struct {
	XMLName xml.Name `xml:"urn:ninja:answer:1 answer"`
	About   string   `xml:"about,attr"`
	Lang    string   `xml:"lang,attr"`
	Status  Status   `xml:"status,attr"`
	// Heard is the utterance as it came.
	Heard string   `xml:"heard"`
	Say   []string `xml:"say"`
	// Addresses are the one that was found, those to choose from, or the one nobody knows.
	Addresses   []AnswerAddress `xml:"address"`
	Route       *AnswerRoute    `xml:"route"`
	Attribution *Attribution    `xml:"attribution"`
}

// AnswerAddress is an address in an answer.
type AnswerAddress struct {
	Number int    `xml:"number,attr"`
	Street string `xml:"street,attr"`
	City   string `xml:"city,attr,omitempty"`
	// Inferred is set when the map does not state the city.
	Inferred bool    `xml:"city-inferred,attr,omitempty"`
	Lat      float64 `xml:"lat,attr,omitempty"`
	Lon      float64 `xml:"lon,attr,omitempty"`
}

// AnswerRoute is a route in an answer.
type AnswerRoute struct {
	Metres  int          `xml:"metres,attr"`
	Seconds int          `xml:"seconds,attr"`
	Steps   []AnswerStep `xml:"step"`
}

// AnswerStep is one step of a route: what is done at a place, and how far one drives then.
type AnswerStep struct {
	Kind    string  `xml:"kind,attr"`
	Side    string  `xml:"side,attr,omitempty"`
	Bend    string  `xml:"bend,attr,omitempty"`
	Heading string  `xml:"heading,attr,omitempty"`
	Exit    int     `xml:"exit,attr,omitempty"`
	Road    string  `xml:"road,attr,omitempty"`
	Toward  string  `xml:"toward,attr,omitempty"`
	Metres  int     `xml:"metres,attr"`
	Seconds int     `xml:"seconds,attr"`
	Lat     float64 `xml:"lat,attr"`
	Lon     float64 `xml:"lon,attr"`
	Text    string  `xml:",chardata"`
}

// Attribution says whose the map data is; whoever shows an answer shows it.
type Attribution struct {
	Href string `xml:"href,attr"`
	Text string `xml:",chardata"`
}

func attribution() *Attribution {
	return &Attribution{"https://www.openstreetmap.org/copyright", "© OpenStreetMap contributors, ODbL 1.0"}
}

// maxAnswer bounds the bytes of an answer that ParseAnswer reads.
const maxAnswer = 1 << 20

// ParseAnswer reads an answer of the map service.
func ParseAnswer(b []byte) (*Answer, error) {
	if len(b) > maxAnswer {
		return nil, fmt.Errorf("read an answer: %d bytes, at most %d are allowed", len(b), maxAnswer)
	}
	var a Answer
	if err := xml.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("read an answer: %w", err)
	}
	if a.About != "directions" {
		return nil, fmt.Errorf("read an answer: it is about %q, not directions", a.About)
	}
	return &a, nil
}

// Marshal writes the answer as XML.
func (a *Answer) Marshal() ([]byte, error) { return xml.Marshal(a) }

// Line is the answer in one line, for a log or a screen.
func (a *Answer) Line() string {
	switch {
	case a.Route != nil:
		return fmt.Sprintf("%s: %s, %.1f miles, %d min, %d steps", a.Status, a.address(), float64(a.Route.Metres)/metresPerMile,
			(a.Route.Seconds+59)/60, len(a.Route.Steps))
	case len(a.Addresses) > 0:
		return fmt.Sprintf("%s: %s", a.Status, a.address())
	}
	return fmt.Sprintf("%s: heard %q", a.Status, a.Heard)
}

func (a *Answer) address() string {
	var all []string
	for _, x := range a.Addresses {
		s := strconv.Itoa(x.Number) + " " + x.Street
		if x.City != "" {
			s += ", " + x.City
		}
		all = append(all, s)
	}
	return strings.Join(all, " or ")
}

// Text is the answer for a person to read, with the distance of each step before it.
func (a *Answer) Text() string {
	var b strings.Builder
	if a.Route == nil {
		for _, s := range a.Say {
			b.WriteString(s + "\n")
		}
	} else {
		fmt.Fprintf(&b, "%s: %.1f miles, %d min\n", a.address(), float64(a.Route.Metres)/metresPerMile, (a.Route.Seconds+59)/60)
		for i, s := range a.Route.Steps {
			fmt.Fprintf(&b, "%3d. %s\n", i+1, s.Text)
		}
	}
	if a.Attribution != nil {
		b.WriteString("     Map: " + a.Attribution.Text + "\n")
	}
	return b.String()
}

// SameAddress reports whether an answer of the map service, found or not, speaks of the address that was said: the same
// number, in any form, the same street, and the same city when one was said.
func SameAddress(said string, answer []byte) bool {
	a, err := ParseAnswer(answer)
	if err != nil {
		return false
	}
	words := strings.Fields(strings.ToLower(said))
	for _, x := range a.Addresses {
		for n := 1; n < len(words); n++ {
			rest := spoken.Key(strings.Join(words[n:], " "))
			street, city := spoken.ParseName(x.Street).Key(), spoken.ParseName(x.City).Key()
			if rest != street && rest != street+" "+city && rest != street+" in "+city {
				continue
			}
			for _, number := range spoken.ParseNumber(words[:n]) {
				if number == x.Number {
					return true
				}
			}
		}
	}
	return false
}

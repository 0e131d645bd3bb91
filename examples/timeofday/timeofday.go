// Package timeofday is a small service that is asked for the time or the day, in a list of cities, and answers in a
// sentence to speak. It shows that a second service with another grammar works through the same recogniser unchanged:
// the grammar comes to it by reference, because the types say so.
package timeofday

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	_ "time/tzdata" // the time zones, so that the host need not have them

	"ninja/connectors"
	"ninja/operators"
)

// Words that the service is found by.
const (
	// Kind is the kind of the service in its description.
	Kind = "time-of-day"
	// Program is the key of Factory in a registry.
	Program = "timeofday"
	// Summary is what the service is, in a line.
	Summary = "The time and the day, here and in cities of the world"
)

// City is a city that one may ask about.
type City struct {
	// Spoken is its name in lower-case words, Zone its time zone (IANA).
	Spoken, Zone string
}

// Cities are those that a service knows when its configuration names none.
func Cities() []City {
	return []City{{"amsterdam", "Europe/Amsterdam"}, {"athens", "Europe/Athens"}, {"beijing", "Asia/Shanghai"}, {"berlin", "Europe/Berlin"},
		{"boston", "America/New_York"}, {"cairo", "Africa/Cairo"}, {"chicago", "America/Chicago"}, {"denver", "America/Denver"},
		{"dublin", "Europe/Dublin"}, {"hong kong", "Asia/Hong_Kong"}, {"honolulu", "Pacific/Honolulu"}, {"london", "Europe/London"},
		{"los angeles", "America/Los_Angeles"}, {"madrid", "Europe/Madrid"}, {"mexico city", "America/Mexico_City"},
		{"moscow", "Europe/Moscow"}, {"new york", "America/New_York"}, {"paris", "Europe/Paris"}, {"rome", "Europe/Rome"},
		{"san francisco", "America/Los_Angeles"}, {"singapore", "Asia/Singapore"}, {"stockholm", "Europe/Stockholm"},
		{"sydney", "Australia/Sydney"}, {"tokyo", "Asia/Tokyo"}, {"toronto", "America/Toronto"}, {"vienna", "Europe/Vienna"},
		{"zurich", "Europe/Zurich"}}
}

// Config says what the service is made of.
type Config struct {
	// Service is the id under which the service is published, OWNER-ID#NAME. It must be set.
	Service string
	// Now tells the time. It must be set (world.World.Now).
	Now func() time.Time
	// Zone is the time zone of "here" (IANA); "" is UTC.
	Zone string
	// Cities are those that one may ask about; nil is Cities().
	Cities []City
}

// Service answers the time. It is read only once made.
type Service struct {
	service string
	now     func() time.Time
	here    *time.Location
	names   []string
	zones   map[string]*time.Location
	grammar []byte
	hash    string
}

// New prepares the service.
func New(cfg Config) (*Service, error) {
	if cfg.Service == "" || cfg.Now == nil {
		return nil, errors.New("the time service wants the id that it is published under (Service) and a clock (Now)")
	}
	s := &Service{service: cfg.Service, now: cfg.Now, zones: make(map[string]*time.Location)}
	var err error
	if s.here, err = time.LoadLocation(cfg.Zone); err != nil {
		return nil, fmt.Errorf("time zone of here: %w", err)
	}
	cities := cfg.Cities
	if cities == nil {
		cities = Cities()
	}
	for _, c := range cities {
		if c.Spoken == "" || strings.Trim(c.Spoken, "abcdefghijklmnopqrstuvwxyz' ") != "" {
			return nil, fmt.Errorf("city %q: want lower-case words", c.Spoken)
		}
		zone, err := time.LoadLocation(c.Zone)
		if err != nil {
			return nil, fmt.Errorf("time zone of %s: %w", c.Spoken, err)
		}
		s.names, s.zones[c.Spoken] = append(s.names, c.Spoken), zone
	}
	s.grammar = grammar(s.names)
	sum := sha256.Sum256(s.grammar)
	s.hash = hex.EncodeToString(sum[:])
	return s, nil
}

// grammar is the speech grammar (JSGF) of the questions.
func grammar(cities []string) []byte {
	var b strings.Builder
	b.WriteString("#JSGF V1.0;\ngrammar timeofday;\n")
	where := ""
	if len(cities) > 0 {
		where = " [in <city>]"
		b.WriteString("<city> = " + strings.Join(cities, " | ") + ";\n")
	}
	b.WriteString("public <question> = what time is it" + where + " | what is the time" + where + " | what day is it" + where + ";\n")
	return []byte(b.String())
}

// Answer is what the service says: the sentence, and the time in structure.
type Answer struct {
	XMLName xml.Name `xml:"urn:ninja:answer:1 answer"`
	About   string   `xml:"about,attr"`
	Lang    string   `xml:"lang,attr"`
	// Status is "found", "unknown" (a city that is not in the list) or "unheard".
	Status string   `xml:"status,attr"`
	Heard  string   `xml:"heard"`
	Say    []string `xml:"say"`
	Time   *Time    `xml:"time"`
}

// Time is a moment at a place.
type Time struct {
	City string `xml:"city,attr,omitempty"`
	Zone string `xml:"zone,attr"`
	At   string `xml:",chardata"` // RFC 3339
}

// maxHeard bounds an utterance.
const maxHeard = 256

// Answer answers an utterance.
func (s *Service) Answer(heard string) *Answer {
	if len(heard) > maxHeard {
		heard = heard[:maxHeard]
	}
	heard = strings.Join(strings.Fields(strings.ToLower(strings.ToValidUTF8(heard, " "))), " ")
	a := &Answer{About: "time", Lang: "en", Heard: heard, Status: "unheard",
		Say: []string{"I did not understand that. Ask: what time is it in London?"}}
	question, city, named := strings.Cut(strings.TrimRight(heard, " ?."), " in ")
	zone, where := s.here, ""
	if named {
		where = " in " + capitals(city)
	}
	switch question {
	case "what time is it", "what is the time", "what day is it":
	default:
		return a
	}
	if named {
		if zone = s.zones[city]; zone == nil {
			a.Status, a.Say = "unknown", []string{"I don't know the time" + where + "."}
			return a
		}
	}
	now := s.now().In(zone)
	a.Status, a.Time = "found", &Time{City: capitals(city), Zone: zone.String(), At: now.Format(time.RFC3339)}
	if question == "what day is it" {
		a.Say = []string{"It is " + now.Format("Monday, January 2") + where + "."}
	} else {
		a.Say = []string{"It is " + now.Format("3:04 PM") + where + "."}
	}
	return a
}

func capitals(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, " ")
}

// Data is a piece of external data that the service serves.
type Data struct {
	// Name is its name in the description; Ref how types refer to it.
	Name  string
	Ref   operators.Ref
	Bytes []byte
}

// Data lists what the publisher must serve: the grammar.
func (s *Service) Data() []Data {
	return []Data{{"grammar", operators.Ref{Service: s.service, SHA256: s.hash}, s.grammar}}
}

// Operators are the operators of the service's description.
func (s *Service) Operators() []operators.Spec {
	ref := operators.Ref{Service: s.service, SHA256: s.hash}
	return []operators.Spec{{
		Name: "timeofday", Program: Program, Summary: Summary,
		In:   operators.MustPattern("text/plain;about=time;grammar=" + ref.String() + ";lang=en"),
		Out:  operators.MustPattern("application/xml;about=time;form=answer;lang=en"),
		Cost: operators.Cost{CPU: 0.001, Latency: operators.Latency(time.Millisecond), Memory: 1 << 20},
	}}
}

// Description is the service's description but for its node, which the publisher adds; name is the name within its
// owner.
func (s *Service) Description(name string) *operators.Description {
	d := &operators.Description{Kind: Kind, Name: name, Summary: Summary, Operators: s.Operators()}
	for _, x := range s.Data() {
		d.Data = append(d.Data, operators.Data{Name: x.Name, SHA256: x.Ref.SHA256, Size: int64(len(x.Bytes))})
	}
	return d
}

// Factory makes the operator of one path: a question in, an answer out.
func (s *Service) Factory() operators.Factory {
	return func(_ context.Context, env operators.Env) (operators.Operator, error) {
		return operators.Func(func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
			for {
				q, err := in.Read(ctx)
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				a := s.Answer(string(q.Payload))
				if env.Note != nil {
					env.Note("answer", a.Status+": "+strings.Join(a.Say, " "))
				}
				text, err := xml.Marshal(a)
				if err != nil {
					return fmt.Errorf("write the answer: %w", err)
				}
				if err := out.Write(ctx, connectors.ADU{Payload: text, Mark: connectors.EndOfDocument}); err != nil {
					return err
				}
			}
		}), nil
	}
}

package golden

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"

	"ninja/connectors"
	"ninja/operators/audio"
)

// Bounds of a file of samples.
const (
	maxFile    = 16 << 20
	maxSamples = 10000
)

// ParseSet reads the samples that an owner of a pair of types keeps in a file, and that an author may keep of his own to
// check his operator with before he publishes it:
//
//	<samples xmlns="urn:ninja:samples:1" judge="words">
//	  <in>text/plain;lang=de</in>
//	  <out>text/plain;lang=en</out>
//	  <sample><give>eins zwei</give><want>one two</want></sample>
//	  <sample encoding="base64">...
//	</samples>
//
// The judge is exact, words or sound; a set judged by sound is one of streams.
func ParseSet(b []byte) (*Set, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("samples: a file of %d bytes: at most %d are allowed", len(b), maxFile)
	}
	var file struct {
		XMLName xml.Name `xml:"urn:ninja:samples:1 samples"`
		Judge   string   `xml:"judge,attr"`
		In      string   `xml:"in"`
		Out     string   `xml:"out"`
		Samples []struct {
			Encoding string   `xml:"encoding,attr"`
			Give     []string `xml:"give"`
			Want     []string `xml:"want"`
		} `xml:"sample"`
	}
	if err := xml.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("samples: %w", err)
	}
	set := &Set{}
	var err error
	if set.In, err = connectors.ParseType(file.In); err != nil {
		return nil, fmt.Errorf("samples: in: %w", err)
	}
	if set.Out, err = connectors.ParseType(file.Out); err != nil {
		return nil, fmt.Errorf("samples: out: %w", err)
	}
	if err := set.judgeBy(file.Judge); err != nil {
		return nil, fmt.Errorf("samples: %w", err)
	}
	if n := len(file.Samples); n == 0 || n > maxSamples {
		return nil, fmt.Errorf("samples: there are %d; 1 to %d are wanted", n, maxSamples)
	}
	for i, s := range file.Samples {
		var sample Sample
		if sample.In, err = payloads(s.Encoding, s.Give); err == nil {
			sample.Want, err = payloads(s.Encoding, s.Want)
		}
		if err == nil && (len(sample.In) == 0 || !set.Stream && len(sample.In) != 1) {
			err = fmt.Errorf("%d give elements: want one, or several in a stream", len(sample.In))
		}
		if err != nil {
			return nil, fmt.Errorf("samples: number %d: %w", i+1, err)
		}
		set.Samples = append(set.Samples, sample)
	}
	return set, nil
}

func (s *Set) judgeBy(name string) error {
	switch name {
	case "exact":
		s.Judge = Exact
	case "", "words":
		s.Judge = Words
	case "sound":
		f, err := audio.FormatOf(s.Out)
		if err != nil || s.Out.Media() != "audio/L16" {
			return fmt.Errorf("sound is judged as audio/L16, not as %v", s.Out)
		}
		s.Judge, s.Stream = Sound(f), true
	default:
		return fmt.Errorf("judge %q: want exact, words or sound", name)
	}
	return nil
}

func payloads(encoding string, texts []string) (all [][]byte, err error) {
	for _, t := range texts {
		b := []byte(t)
		switch encoding {
		case "", "text":
		case "base64":
			if b, err = base64.StdEncoding.DecodeString(t); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("encoding %q: want text or base64", encoding)
		}
		if len(b) > connectors.MaxPayload {
			return nil, fmt.Errorf("%d bytes: at most %d fit into an ADU", len(b), connectors.MaxPayload)
		}
		all = append(all, b)
	}
	return all, nil
}

// Package forms writes types in the forms that others use, and reads them: XML for documents about types, and the session
// description protocol for what flows by RTP (RFC 8866; payload formats of RFC 3551, 3190, 4103 and 7587).
//
// The one-line form, audio/L16;channels=1;rate=16000, is that of connectors.Type and operators.Pattern themselves.
package forms

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"

	"ninja/connectors"
	"ninja/operators"
)

// maxDocument bounds what is parsed, in bytes.
const maxDocument = 16 << 10

// element is a type or pattern in XML; a parameter's value is that of the one-line form.
//
//	<type xmlns="urn:ninja:service:1" media="audio/L16">
//	  <param name="channels" value="$c"/>
//	  <param name="rate" value="$r:4000..192000"/>
//	</type>
type element struct {
	XMLName xml.Name `xml:"urn:ninja:service:1 type"`
	Media   string   `xml:"media,attr"`
	Params  []param  `xml:"param"`
}

type param struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

// ToXML writes a pattern, indented.
func ToXML(p operators.Pattern) ([]byte, error) {
	if p.IsZero() {
		return nil, errors.New("no type: there is nothing to write")
	}
	e := element{Media: p.Media()}
	for _, name := range p.Names() {
		e.Params = append(e.Params, param{name, p.Param(name)})
	}
	return xml.MarshalIndent(e, "", "  ")
}

// FromXML reads what ToXML writes. Other elements and attributes are refused: a pattern that is half understood is
// another pattern.
func FromXML(b []byte) (operators.Pattern, error) {
	if len(b) > maxDocument {
		return operators.Pattern{}, fmt.Errorf("a type in XML of %d bytes: at most %d are allowed", len(b), maxDocument)
	}
	if err := known(b); err != nil {
		return operators.Pattern{}, fmt.Errorf("type in XML: %w", err)
	}
	var e element
	if err := xml.Unmarshal(b, &e); err != nil {
		return operators.Pattern{}, fmt.Errorf("type in XML: %w", err)
	}
	line := e.Media
	for _, p := range e.Params {
		line += ";" + p.Name + "=" + p.Value
	}
	p, err := operators.ParsePattern(line)
	if err != nil {
		return operators.Pattern{}, err
	}
	if p.Media() != e.Media || len(p.Names()) != len(e.Params) {
		return operators.Pattern{}, fmt.Errorf("type in XML: %q holds more than one name or value in a place", line)
	}
	return p, nil
}

// known refuses what the form does not have.
func known(b []byte) error {
	d := xml.NewDecoder(bytes.NewReader(b))
	depth, roots := 0, 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.Directive:
			return errors.New("a DOCTYPE is not allowed")
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return errors.New("text is not allowed in it")
			}
		case xml.EndElement:
			depth--
		case xml.StartElement:
			if depth++; depth == 1 {
				roots++
			}
			want := []string{"", "type", "param"}
			if depth > 2 || roots > 1 || t.Name.Local != want[depth] || t.Name.Space != operators.Namespace {
				return fmt.Errorf("element %.40q: want one type with param elements", t.Name.Local)
			}
			if err := attributes(t, depth); err != nil {
				return err
			}
		}
	}
}

func attributes(t xml.StartElement, depth int) error {
	seen := make(map[string]bool)
	for _, a := range t.Attr {
		switch name := a.Name.Local; {
		case name == "xmlns" || a.Name.Space == "xmlns":
		case seen[name], a.Name.Space != "", depth == 1 && name != "media", depth == 2 && name != "name" && name != "value":
			return fmt.Errorf("attribute %.40q of %s", name, t.Name.Local)
		default:
			seen[name] = true
		}
	}
	return nil
}

// TypeToXML writes a ground type.
func TypeToXML(t connectors.Type) ([]byte, error) { return ToXML(operators.PatternOf(t)) }

// TypeFromXML reads a ground type: no variables, sets or ranges.
func TypeFromXML(b []byte) (connectors.Type, error) {
	p, err := FromXML(b)
	if err != nil {
		return connectors.Type{}, err
	}
	return connectors.ParseType(p.String())
}

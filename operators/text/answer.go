package text

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"strings"
)

// AnswerNamespace is the namespace of answer documents: what services say, to be shown or spoken.
//
//	<answer xmlns="urn:ninja:answer:1" about="directions" lang="en" status="found">
//	  <heard>six fifteen main street</heard>
//	  <say>Driving to 615 Main Street.</say> ...     what only the service's own readers understand may stand beside
//	</answer>
const AnswerNamespace = "urn:ninja:answer:1"

// Bounds of an answer document.
const (
	MaxDocument = 1 << 20
	maxDepth    = 32
	maxSays     = 1000
)

// Answer is what every reader understands of an answer document.
type Answer struct {
	About, Lang, Status string
	Heard               string
	Say                 []string
}

// ParseAnswer reads an answer document. Elements that it does not know are passed over, whatever is in them.
func ParseAnswer(doc []byte) (*Answer, error) {
	if len(doc) > MaxDocument {
		return nil, fmt.Errorf("an answer of %d bytes: at most %d are allowed", len(doc), MaxDocument)
	}
	d := xml.NewDecoder(bytes.NewReader(doc))
	var a *Answer
	var into *strings.Builder
	depth := 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("answer: %w", err)
		}
		switch t := tok.(type) {
		case xml.Directive:
			return nil, errors.New("answer: a DOCTYPE is not allowed")
		case xml.StartElement:
			if depth++; depth > maxDepth {
				return nil, fmt.Errorf("answer: elements nest deeper than %d", maxDepth)
			}
			ours := t.Name.Space == AnswerNamespace
			switch {
			case depth == 1 && (a != nil || !ours || t.Name.Local != "answer"):
				return nil, fmt.Errorf("answer: want one element answer of %s, not %s", AnswerNamespace, t.Name.Local)
			case depth == 1:
				a = answerOf(t)
			case depth == 2 && ours && (t.Name.Local == "say" || t.Name.Local == "heard"):
				into = &strings.Builder{}
			}
		case xml.CharData:
			if into != nil {
				into.Write(t)
			}
		case xml.EndElement:
			if depth == 2 && into != nil {
				words := strings.Join(strings.Fields(into.String()), " ")
				if into = nil; t.Name.Local == "heard" {
					a.Heard = words
				} else if words != "" && len(a.Say) < maxSays {
					a.Say = append(a.Say, words)
				}
			}
			depth--
		}
	}
	if a == nil {
		return nil, errors.New("answer: the document is empty")
	}
	return a, nil
}

func answerOf(t xml.StartElement) *Answer {
	a := &Answer{}
	for _, attr := range t.Attr {
		switch attr.Name.Local {
		case "about":
			a.About = attr.Value
		case "lang":
			a.Lang = attr.Value
		case "status":
			a.Status = attr.Value
		}
	}
	return a
}

// sentences is the answer as pieces of text, one a sentence.
func (a *Answer) sentences() ([]string, error) { return a.Say, nil }

// page is the answer as an HTML page.
func (a *Answer) page() ([]string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"%s\"><head><meta charset=\"utf-8\"><title>%s</title></head><body>\n",
		html.EscapeString(a.Lang), html.EscapeString(a.About))
	if a.Heard != "" {
		fmt.Fprintf(&b, "<p class=\"heard\">%s</p>\n", html.EscapeString(a.Heard))
	}
	for _, s := range a.Say {
		fmt.Fprintf(&b, "<p>%s</p>\n", html.EscapeString(s))
	}
	b.WriteString("</body></html>\n")
	return []string{b.String()}, nil
}

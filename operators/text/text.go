// Package text holds the operators on text and documents: answers to sentences and pages, HTML to text and back, T.140,
// wrapping, shortening, case, numbers, JSON. All are pure functions from a document to one or more pieces.
package text

import (
	"context"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"ninja/connectors"
	"ninja/operators"
)

// transform turns a document into pieces.
type transform func(doc string) ([]string, error)

// Register registers the programs of this package.
func Register(r *operators.Registry) {
	r.Add("answer-to-text", answers((*Answer).sentences))
	r.Add("answer-to-html", answers((*Answer).page))
	r.Add("answer-to-json", answers((*Answer).json))
	r.Add("html-to-text", plain(FromHTML))
	r.Add("html-to-small", plain(SmallScreen))
	r.Add("html-to-speech", plain(Speakable))
	r.Add("text-to-html", plain(toHTML))
	r.Add("upper-case", plain(strings.ToUpper))
	r.Add("lower-case", plain(strings.ToLower))
	r.Add("to-crlf", plain(crlf))
	r.Add("from-crlf", plain(lf))
	r.Add("to-t140", plain(toT140))
	r.Add("from-t140", plain(fromT140))
	r.Add("utf8-to-latin1", plain(toLatin1))
	r.Add("latin1-to-utf8", payloads(fromLatin1, func(b []byte) string { return string(b) }))
	r.Add("numbers-to-words", plain(SpellNumbers))
	r.Add("markdown-to-html", plain(markdown))
	r.Add("csv-to-html", one(csvToHTML))
	r.Add("json-lines", plain(jsonLines))
	r.Add("wrap", newWrap)
	r.Add("shorten", newShorten)
	r.Add("select", newSelect)
	r.Add("template", newTemplate)
}

// pieces makes an operator of a transform: the last piece of a document carries the document's mark, and EndOfDocument.
// A document that cannot be read is dropped after a note: the next one may be good, and the path outlives it.
func pieces(env operators.Env, f transform) operators.Operator {
	return operators.Func(func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
		for {
			a, err := in.Read(ctx)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if err := emit(ctx, env, f, a, out); err != nil {
				return err
			}
		}
	})
}

func emit(ctx context.Context, env operators.Env, f transform, a connectors.ADU, out connectors.Writer) error {
	all, err := convert(f, a.Payload)
	if err != nil {
		note(env, err)
		return nil
	}
	for _, piece := range all {
		if len(piece) > connectors.MaxPayload {
			note(env, errTooLong)
			return nil
		}
	}
	for i, piece := range all {
		o := connectors.ADU{Payload: []byte(piece), MediaTime: a.MediaTime}
		if i == len(all)-1 {
			o.Mark = a.Mark | connectors.EndOfDocument
		}
		if err := out.Write(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func convert(f transform, payload []byte) ([]string, error) {
	if err := notTooLong(payload); err != nil {
		return nil, err
	}
	return f(validUTF8(payload))
}

func notTooLong(payload []byte) error {
	if len(payload) > MaxDocument {
		return fmt.Errorf("a document of %d bytes: at most %d are allowed", len(payload), MaxDocument)
	}
	return nil
}

// answers makes the factory of an operator on answer documents.
func answers(f func(*Answer) ([]string, error)) operators.Factory {
	return func(_ context.Context, env operators.Env) (operators.Operator, error) {
		return pieces(env, func(doc string) ([]string, error) {
			a, err := ParseAnswer([]byte(doc))
			if err != nil {
				return nil, err
			}
			return f(a)
		}), nil
	}
}

// one makes the factory of an operator that makes one document of one, or fails.
func one(f func(string) (string, error)) operators.Factory {
	return func(_ context.Context, env operators.Env) (operators.Operator, error) {
		return pieces(env, func(doc string) ([]string, error) {
			s, err := f(doc)
			return []string{s}, err
		}), nil
	}
}

// plain makes the factory of an operator on strings that keeps the marks of each ADU as they are. A document that is too
// long, or becomes so, is dropped after a note.
func plain(f func(string) string) operators.Factory { return payloads(f, validUTF8) }

// validUTF8 is a payload as text, with a mark for every piece that is none.
func validUTF8(payload []byte) string { return strings.ToValidUTF8(string(payload), "\ufffd") }

// payloads is plain for payloads that are read as text in a way of their own.
func payloads(f func(string) string, read func([]byte) string) operators.Factory {
	return func(_ context.Context, env operators.Env) (operators.Operator, error) {
		return operators.Func(func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
			for {
				a, err := in.Read(ctx)
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
				s, err := bounded(f, read, a.Payload)
				if err != nil {
					note(env, err)
					continue
				}
				a.Payload = []byte(s)
				if err := out.Write(ctx, a); err != nil {
					return err
				}
			}
		}), nil
	}
}

// errTooLong says why a document that was long enough before is dropped.
var errTooLong = fmt.Errorf("the document grows beyond %d bytes, which an ADU may have", connectors.MaxPayload)

func bounded(f func(string) string, read func([]byte) string, payload []byte) (string, error) {
	if err := notTooLong(payload); err != nil {
		return "", err
	}
	s := f(read(payload))
	if len(s) > connectors.MaxPayload {
		return "", errTooLong
	}
	return s, nil
}

func note(env operators.Env, err error) {
	if env.Note != nil {
		env.Note("fault", err.Error())
	}
}

func crlf(s string) string { return strings.ReplaceAll(lf(s), "\n", "\r\n") }
func lf(s string) string   { return strings.ReplaceAll(s, "\r\n", "\n") }

// toT140 is text as ITU-T T.140 sends it: line separators for line ends, no byte order mark within (RFC 4103).
func toT140(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(lf(s), "\ufeff", ""), "\n", "\u2028")
}

// fromT140 applies the backspaces of a typing person as well.
func fromT140(s string) string {
	var out []rune
	for _, r := range strings.ReplaceAll(s, "\r\n", "\n") {
		switch {
		case r == '\b':
			out = out[:max(len(out)-1, 0)]
		case r == '\u2028' || r == '\u2029':
			out = append(out, '\n')
		case r == '\ufeff' || r == '\a' || r == 0x1b:
		default:
			out = append(out, r)
		}
	}
	return string(out)
}

// toLatin1 writes a question mark for what ISO 8859-1 does not have.
func toLatin1(s string) string {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			r = '?'
		}
		b = append(b, byte(r))
	}
	return string(b)
}

func fromLatin1(s string) string {
	b := make([]byte, 0, len(s)+len(s)/4)
	for i := range len(s) {
		b = utf8.AppendRune(b, rune(s[i]))
	}
	return string(b)
}

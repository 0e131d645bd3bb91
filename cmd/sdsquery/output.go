package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"ninja/sds"
	"ninja/sds/check"
	"ninja/sds/index"
)

// width is the number of columns of a terminal, or 0 when f is none.
func width(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// writer writes what was found.
type writer interface {
	all([]sds.Found) error
	event(sds.WatchEvent) error
}

func (o *options) writer(t terminal) (writer, error) {
	switch o.Output {
	case "xml":
		return xmlWriter{t.out}, nil
	case "json":
		return jsonWriter{t.out, o.Columns}, nil
	}
	w := tableWriter{out: t.out, width: t.width}
	for _, c := range o.Columns {
		s, err := index.Select(c, o.Namespace)
		if err != nil {
			return nil, fmt.Errorf("--columns: %w", err)
		}
		w.columns = append(w.columns, column{c, s})
	}
	return w, nil
}

// maxMarks is how many marks may be set over one character; more would run over the lines above and below.
const maxMarks = 4

// plain makes text safe for a terminal: what does not print, or reorders what does, is escaped as Go would.
func plain(s string) string {
	var b strings.Builder
	marks := 0
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if marks++; columns(r) > 0 {
			marks = 0
		}
		switch {
		case marks > maxMarks:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n' || r == '\t':
			b.WriteByte(' ')
		case !unicode.IsPrint(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// column is one that was asked for.
type column struct {
	name  string
	place *index.Selector
}

// tableWriter writes lines for people.
type tableWriter struct {
	out     io.Writer
	width   int
	columns []column
}

func (w tableWriter) all(found []sds.Found) error {
	if len(found) == 0 {
		return nil
	}
	head := []string{"NAME", "KIND", "OWNER"}
	for _, c := range w.columns {
		head = append(head, strings.ToUpper(plain(c.name)))
	}
	rows := [][]string{append(head, "AGE", "NUMBERS", "SUMMARY")}
	for _, f := range found {
		rows = append(rows, w.row(f))
	}
	return w.write(rows)
}

// row is one service.
func (w tableWriter) row(f sds.Found) []string {
	kind, summary := "", ""
	d, err := check.Parse(f.Description)
	if err == nil {
		kind, summary = value(d, "@kind"), value(d, "summary")
	}
	row := []string{plain(f.Name), kind, plain(f.Owner.Kind() + "/" + f.Owner.Name())}
	for i, c := range w.columns {
		cell := ""
		if n, ok := f.Numbers[c.name]; ok {
			cell = strconv.FormatFloat(n, 'g', 6, 64)
		} else if i < len(f.Values) {
			cell = plain(strings.Join(f.Values[i], ", "))
		} else if d != nil {
			v, _ := c.place.Value(d)
			cell = plain(v)
		}
		row = append(row, cell)
	}
	return append(row, f.Age.Round(100*time.Millisecond).String(), numbers(f.Numbers), summary)
}

func value(d *check.Document, path string) string {
	s, err := index.Select(path, nil)
	if err != nil {
		return ""
	}
	v, _ := s.Value(d)
	return plain(v)
}

func numbers(n map[string]float64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, plain(k)+"="+strconv.FormatFloat(n[k], 'g', 6, 64))
	}
	return strings.Join(parts, " ")
}

// write lays rows out in columns, leaves empty columns out, and cuts lines at the terminal's edge.
func (w tableWriter) write(rows [][]string) error {
	widths := make([]int, len(rows[0]))
	for _, r := range rows[1:] {
		for i, cell := range r {
			if n := columnsOf(cell); n > 0 {
				widths[i] = max(widths[i], n, len(rows[0][i]))
			}
		}
	}
	var b bytes.Buffer
	for _, r := range rows {
		var line strings.Builder
		for i, cell := range r {
			if widths[i] > 0 {
				line.WriteString(cell + strings.Repeat(" ", widths[i]-min(widths[i], columnsOf(cell))+2))
			}
		}
		b.WriteString(cut(strings.TrimRight(line.String(), " "), w.width) + "\n")
	}
	_, err := w.out.Write(b.Bytes())
	return err
}

// cut shortens a line to the width.
func cut(s string, width int) string {
	if width <= 0 || columnsOf(s) <= width {
		return s
	}
	used := 0
	for i, r := range s {
		if used += columns(r); used >= width {
			return s[:i] + "…"
		}
	}
	return s
}

// columnsOf is how many columns of a terminal a text takes.
func columnsOf(s string) (n int) {
	for _, r := range s {
		n += columns(r)
	}
	return n
}

// columns is how many a character takes: none when it is set over the one before, two in the scripts and pictures that
// terminals draw wide (Unicode Standard Annex 11, roughly).
func columns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf && r != 0x303f, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

func (w tableWriter) event(e sds.WatchEvent) error {
	line := map[sds.WatchKind]string{sds.Enter: "+ ", sds.Change: "~ ", sds.Leave: "- "}[e.Kind]
	switch e.Kind {
	case sds.Synced:
		return nil
	case sds.Leave:
		line += plain(e.Found.ID)
	default:
		row := w.row(e.Found)
		line += strings.Join(slices.DeleteFunc(append([]string{plain(e.Found.ID)}, row[1:]...), func(s string) bool { return s == "" }), "  ")
	}
	_, err := fmt.Fprintln(w.out, cut(line, w.width))
	return err
}

// jsonWriter writes one array, or one object a line when watching.
type jsonWriter struct {
	out     io.Writer
	columns []string // names of the values, when there are values
}

// object is a found service in JSON.
type object struct {
	Event       string             `json:"event,omitempty"`
	ID          string             `json:"id"`
	Owner       string             `json:"owner"`
	Name        string             `json:"name"`
	Version     uint64             `json:"version"`
	Age         float64            `json:"age_seconds"`
	Numbers     map[string]float64 `json:"numbers,omitempty"`
	Description string             `json:"description,omitempty"`
	// Values are those of --columns with --lean.
	Values map[string][]string `json:"values,omitempty"`
}

func (w jsonWriter) object(f sds.Found) object {
	o := object{ID: f.ID, Owner: string(f.Owner), Name: f.Name, Version: f.Version, Age: f.Age.Seconds(), Numbers: f.Numbers, Description: string(f.Description)}
	for i, v := range f.Values {
		if i == 0 {
			o.Values = make(map[string][]string)
		}
		if i < len(w.columns) {
			o.Values[w.columns[i]] = v
		}
	}
	return o
}

func (w jsonWriter) all(found []sds.Found) error {
	list := make([]object, 0, len(found))
	for _, f := range found {
		list = append(list, w.object(f))
	}
	return w.write(list, "  ")
}

func (w jsonWriter) event(e sds.WatchEvent) error {
	if e.Kind == sds.Synced {
		return nil
	}
	o := w.object(e.Found)
	o.Event = e.Kind.String()
	return w.write(o, "")
}

func (w jsonWriter) write(v any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w.out, escape(b.String(), func(r rune) string {
		if r >= 0x10000 {
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			return fmt.Sprintf(`\u%04x\u%04x`, high, low)
		}
		return fmt.Sprintf(`\u%04x`, r)
	}))
	return err
}

// escape replaces what does not print, except line ends and tabs.
func escape(s string, f func(rune) string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(f(r))
		}
	}
	return b.String()
}

// xmlWriter writes one document that holds the descriptions, or one element an event.
type xmlWriter struct{ out io.Writer }

func (w xmlWriter) all(found []sds.Found) error {
	var b strings.Builder
	b.WriteString("<found xmlns=\"urn:ninja:found:1\">\n")
	for _, f := range found {
		w.one(&b, "", f)
	}
	b.WriteString("</found>\n")
	_, err := io.WriteString(w.out, b.String())
	return err
}

// one writes a service: its numbers as elements, then the description, which declares its own namespaces.
func (w xmlWriter) one(b *strings.Builder, event string, f sds.Found) {
	b.WriteString("<entry")
	for _, a := range [][2]string{{"event", event}, {"id", f.ID}, {"version", strconv.FormatUint(f.Version, 10)}, {"age", f.Age.String()}} {
		if a[1] == "" {
			continue
		}
		b.WriteString(" " + a[0] + `="`)
		_ = xml.EscapeText(b, []byte(plain(a[1]))) // a strings.Builder does not fail
		b.WriteString(`"`)
	}
	b.WriteString(">")
	for _, k := range slices.Sorted(maps.Keys(f.Numbers)) {
		b.WriteString(`<number name="`)
		_ = xml.EscapeText(b, []byte(plain(k)))
		fmt.Fprintf(b, `" value="%s"/>`, strconv.FormatFloat(f.Numbers[k], 'g', -1, 64))
	}
	b.WriteString(`<description xmlns="">`)
	b.WriteString(escape(body(f.Description), func(r rune) string { return fmt.Sprintf("&#x%x;", r) }))
	b.WriteString("</description></entry>\n")
}

// body is the description without its XML declaration.
func body(description []byte) string {
	s := string(description)
	if strings.HasPrefix(s, "<?xml") {
		if _, rest, ok := strings.Cut(s, "?>"); ok {
			return rest
		}
	}
	return s
}

func (w xmlWriter) event(e sds.WatchEvent) error {
	if e.Kind == sds.Synced {
		return nil
	}
	var b strings.Builder
	w.one(&b, e.Kind.String(), e.Found)
	_, err := io.WriteString(w.out, b.String())
	return err
}

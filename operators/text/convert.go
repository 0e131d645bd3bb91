package text

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"html"
	"regexp"
	"strconv"
	"strings"
)

// json is the answer as one JSON object.
func (a *Answer) json() ([]string, error) {
	b, err := json.Marshal(struct {
		About  string   `json:"about"`
		Lang   string   `json:"lang"`
		Status string   `json:"status"`
		Heard  string   `json:"heard,omitempty"`
		Say    []string `json:"say"`
	}{a.About, a.Lang, a.Status, a.Heard, a.Say})
	return []string{string(b)}, err
}

// FromHTML keeps what a person would read of an HTML page: no tags, comments, scripts and styles; blocks begin new lines;
// list items get a dash. It reads any input, as browsers do, and never fails.
func FromHTML(page string) string {
	var b strings.Builder
	space := true // at the beginning of a line, or behind a space
	for page != "" {
		i := strings.IndexByte(page, '<')
		if i < 0 {
			i = len(page)
		}
		for _, r := range html.UnescapeString(page[:i]) {
			if strings.ContainsRune(" \t\r\n\u00a0", r) {
				if !space {
					b.WriteByte(' ')
				}
				space = true
				continue
			}
			b.WriteRune(r)
			space = false
		}
		if page = page[i:]; page == "" {
			break
		}
		var t markup
		if t, page = nextTag(page); t.name == "head" && !t.closing {
			page = behind(page, "head")
		}
		if mark := t.mark(); mark != "" {
			b.WriteString(mark)
			space = true
		}
	}
	lines := strings.Split(b.String(), "\n")
	kept := lines[:0]
	for _, l := range lines {
		if l = strings.TrimSpace(l); l != "" {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, "\n")
}

// mark says what stands for a tag in the text.
func (t markup) mark() string {
	switch {
	case t.name == "li" && !t.closing:
		return "\n- "
	case t.name == "td" || t.name == "th":
		return " "
	case isBlock(t.name):
		return "\n"
	}
	return ""
}

func toHTML(s string) string {
	var b strings.Builder
	b.WriteString("<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title></title></head><body>\n")
	for para := range strings.SplitSeq(lf(s), "\n\n") {
		if para = strings.TrimSpace(para); para != "" {
			b.WriteString("<p>" + strings.ReplaceAll(html.EscapeString(para), "\n", "<br>\n") + "</p>\n")
		}
	}
	b.WriteString("</body></html>\n")
	return b.String()
}

// markdown knows headings, list items and paragraphs, and leaves everything else as text.
func markdown(s string) string {
	var b strings.Builder
	b.WriteString("<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title></title></head><body>\n")
	for para := range strings.SplitSeq(lf(s), "\n\n") {
		for line := range strings.SplitSeq(strings.TrimSpace(para), "\n") {
			level := len(line) - len(strings.TrimLeft(line, "#"))
			item, isItem := strings.CutPrefix(line, "- ")
			switch {
			case line == "":
			case level >= 1 && level <= 6 && strings.HasPrefix(line[level:], " "):
				fmt.Fprintf(&b, "<h%d>%s</h%d>\n", level, html.EscapeString(line[level+1:]), level)
			case isItem:
				b.WriteString("<li>" + html.EscapeString(item) + "</li>\n")
			default:
				b.WriteString("<p>" + html.EscapeString(line) + "</p>\n")
			}
		}
	}
	b.WriteString("</body></html>\n")
	return b.String()
}

func csvToHTML(s string) (string, error) {
	rows, err := csv.NewReader(strings.NewReader(s)).ReadAll()
	if err != nil {
		return "", fmt.Errorf("table: %w", err)
	}
	var b strings.Builder
	b.WriteString("<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title></title></head><body><table>\n")
	for _, row := range rows {
		b.WriteString("<tr>")
		for _, cell := range row {
			b.WriteString("<td>" + html.EscapeString(cell) + "</td>")
		}
		b.WriteString("</tr>\n")
	}
	b.WriteString("</table></body></html>\n")
	return b.String(), nil
}

// jsonLines is a JSON array of the text's lines.
func jsonLines(s string) string {
	b, err := json.Marshal(strings.Split(strings.TrimRight(lf(s), "\n"), "\n"))
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(b)
}

var (
	units = strings.Fields(`zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
		seventeen eighteen nineteen`)
	tens   = strings.Fields("zero ten twenty thirty forty fifty sixty seventy eighty ninety")
	digits = regexp.MustCompile(`\b[0-9]{1,9}\b`)
)

// SpellNumbers writes the whole numbers in a text, up to nine digits, in English words.
func SpellNumbers(s string) string {
	return digits.ReplaceAllStringFunc(s, func(d string) string {
		n, err := strconv.Atoi(d)
		if err != nil {
			return d
		}
		return Number(n)
	})
}

// Number is 0 <= n < 10^9 in English words.
func Number(n int) string {
	with := func(head string, rest int) string {
		if rest == 0 {
			return head
		}
		return head + " " + Number(rest)
	}
	switch {
	case n < 20:
		return units[n]
	case n < 100:
		return with(tens[n/10], n%10)
	case n < 1000:
		return with(units[n/100]+" hundred", n%100)
	case n < 1000000:
		return with(Number(n/1000)+" thousand", n%1000)
	}
	return with(Number(n/1000000)+" million", n%1000000)
}

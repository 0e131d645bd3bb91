package check

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// times is a small count, or the full one when proving (NINJA_PROVE).
func times(small, full int) int {
	if os.Getenv("NINJA_PROVE") != "1" {
		return small
	}
	if n, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE")); err == nil && n > 0 {
		return full * n
	}
	return full
}

// bomb is a document that is large in one way or in several, around the budgets and far beyond, and what of it there is.
type bomb struct {
	text                            string
	depth, attributes, value, names int
	refused                         bool // whatever its size
}

// makeBomb draws one.
func makeBomb(r *rand.Rand) bomb {
	around := func(budget int) int {
		switch r.IntN(4) {
		case 0:
			return r.IntN(3)
		case 1:
			return budget + r.IntN(5) - 2
		case 2:
			return budget * (2 + r.IntN(20))
		}
		return r.IntN(budget)
	}
	x := bomb{depth: 1 + around(MaxDepth), attributes: around(MaxAttributes), value: around(MaxValue), names: 1 + around(MaxName)}
	switch r.IntN(4) { // most are large in one way only: others would be refused for something else
	case 0:
		x.attributes, x.value, x.names = 1, 1, 1
	case 1:
		x.depth, x.value, x.names = 1, 1, 1
	case 2:
		x.depth, x.attributes, x.names = 1, 1, 1
	}
	var b strings.Builder
	if r.IntN(8) == 0 { // the classics: entities within entities
		x.refused = true
		b.WriteString("<!DOCTYPE a [<!ENTITY l0 'lol'>")
		for i := range 20 {
			fmt.Fprintf(&b, "<!ENTITY l%d '&l%d;&l%d;&l%d;&l%d;'>", i+1, i, i, i, i)
		}
		b.WriteString("]>")
	}
	name := strings.Repeat("n", x.names)
	for range x.depth - 1 {
		b.WriteString("<" + name + ">")
	}
	b.WriteString("<" + name)
	for i := range x.attributes {
		fmt.Fprintf(&b, " a%d='%s'", i, strings.Repeat("v", min(x.value, 1+i%3*x.value)))
	}
	fmt.Fprintf(&b, ">%s</%s>", strings.Repeat("t", x.value), name)
	for range x.depth - 1 {
		b.WriteString("</" + name + ">")
	}
	x.text = b.String()
	return x
}

func (x bomb) over() bool {
	return x.refused || len(x.text) > MaxBytes || x.depth > MaxDepth || x.attributes > MaxAttributes || x.value > MaxValue || x.names > MaxName
}

// Threats, row 1: "XML bombs, depth, attributes, long text: 0 accepted over budget".
func TestBombs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	n, over, within := times(300, 100_000), 0, 0
	for range n {
		x := makeBomb(r)
		_, err := Parse([]byte(x.text))
		switch {
		case x.over() && err == nil:
			t.Fatalf("accepted: depth %d, %d attributes, values of %d, names of %d, %d bytes", x.depth, x.attributes, x.value, x.names, len(x.text))
		case !x.over() && err != nil:
			t.Fatalf("refused within the budgets: %v: %.200s", err, x.text)
		case x.over():
			over++
		default:
			within++
		}
	}
	if over < n/4 || within < n/20 {
		t.Errorf("%d over the budgets, %d within: one kind is missing", over, within)
	}
	t.Logf("PROVE bombs: %d over the budgets, 0 accepted; %d within them, 0 refused", over, within)
}

// hostile are the documents that cost most for their size.
func hostile() map[string]string {
	attributes := func(n int, form string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, form, i)
		}
		return b.String()
	}
	fill := func(unit string) string { return "<a>" + strings.Repeat(unit, (MaxBytes-7)/len(unit)) + "</a>" }
	return map[string]string{
		"empty elements":       fill("<b/>"),
		"elements":             fill("<b>c</b>"),
		"attributes":           fill("<b" + attributes(60, " a%d=''") + "/>"),
		"declared prefixes":    fill("<b" + attributes(60, " xmlns:p%d='u'") + "/>"),
		"prefixes in use":      "<a" + attributes(60, " xmlns:p%d='u%[1]d'") + ">" + strings.Repeat("<p59:b p58:c=''/>", 3500) + "</a>",
		"depth":                fill(strings.Repeat("<b>", 31) + strings.Repeat("</b>", 31)),
		"references":           fill("<b>&#65;&amp;&#x10ffff;</b>"),
		"references in values": fill("<b c='&#65;&amp;&#9;'/>"),
		"comments":             fill("<!-- -->"),
		"white space":          fill("<b/>          "),
		"refused at its end":   fill("<b>c</b>") + "x",
		"beyond the size":      "<a>" + strings.Repeat("<b/>", 1<<20) + "</a>",
		"unclosed":             strings.Repeat("<a>", 1<<20),
		"duplicate at the end": "<a" + attributes(62, " a%d='x'") + " a0='x'/>",
	}
}

// Threats, row 1: "CPU per input byte at most 20x a normal document; memory bounded".
func TestBombsCostLittle(t *testing.T) {
	normal := []byte(seeds[4])
	rounds, tries := times(1, 50), times(1, 5)
	cost := func(doc []byte) (perByte float64, memory uint64) {
		repeat := max(1, rounds*(64<<10)/len(doc))
		best := time.Duration(1 << 62) // the least of several: others use this machine too
		var before, after runtime.MemStats
		for range tries {
			runtime.GC()
			runtime.ReadMemStats(&before)
			began := time.Now()
			for range repeat {
				_, _ = Parse(doc)
			}
			best = min(best, time.Since(began))
			runtime.ReadMemStats(&after)
			memory = (after.TotalAlloc - before.TotalAlloc) / uint64(repeat)
		}
		return float64(best) / float64(repeat) / float64(len(doc)), memory
	}
	usual, usualMemory := cost(normal)
	t.Logf("a normal document of %d bytes: %.2f ns and %.1f bytes of memory a byte", len(normal), usual, float64(usualMemory)/float64(len(normal)))
	worst, worstName, most, mostName := 0.0, "", uint64(0), ""
	for name, text := range hostile() {
		perByte, memory := cost([]byte(text))
		t.Logf("%s, %d bytes: %.2f ns a byte (%.2fx), %d bytes of memory", name, len(text), perByte, perByte/usual, memory)
		if perByte/usual > worst {
			worst, worstName = perByte/usual, name
		}
		if memory > most {
			most, mostName = memory, name
		}
	}
	t.Logf("PROVE bombs: at most %.1fx the time of a normal document a byte (%s), at most %d KiB of memory (%s)", worst, worstName, most>>10, mostName)
	const bound = 128 * MaxBytes
	if most > bound {
		t.Errorf("%s takes %d bytes of memory, more than %d", mostName, most, bound)
	}
	if os.Getenv("NINJA_PROVE") == "1" && worst > 20 {
		t.Errorf("%s takes %.1f times a normal document's time a byte", worstName, worst)
	}
}

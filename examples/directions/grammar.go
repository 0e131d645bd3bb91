package directions

import (
	"strings"

	"ninja/examples/directions/spoken"
)

// Grammar is the speech grammar (JSGF) of the addresses: any number, one of the streets that have addresses, perhaps a
// city; or a city alone, which answers the question which. The numbers are not limited to those that exist, so that an
// address nobody knows is heard as what it is.
func (g *Gazetteer) Grammar() []byte {
	var b strings.Builder
	b.WriteString("#JSGF V1.0;\ngrammar address;\n")
	if len(g.cities) > 0 {
		b.WriteString("public <address> = <number> <street> [[in] <city>] | [in] <city>;\n")
		alternatives(&b, "city", g.cities)
	} else {
		b.WriteString("public <address> = <number> <street>;\n")
	}
	alternatives(&b, "street", g.streets)
	b.WriteString(spoken.NumberRules())
	return []byte(b.String())
}

func alternatives(b *strings.Builder, rule string, names []spoken.Name) {
	b.WriteString("<" + rule + "> = ")
	for i, n := range names {
		if i > 0 {
			b.WriteString("\n | ")
		}
		b.WriteString(n.Spoken)
	}
	b.WriteString(";\n")
}

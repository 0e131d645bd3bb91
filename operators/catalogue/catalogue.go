// Package catalogue lists the operators that every node can run: their descriptions, one embedded XML file a family, and
// the programs behind them (ninja-architecture, section 7: operators are found by their XML descriptions).
package catalogue

import (
	"embed"
	"encoding/xml"
	"fmt"
	"io/fs"
	"slices"

	"ninja/operators"
	"ninja/operators/audio"
	"ninja/operators/image"
	"ninja/operators/speech"
	"ninja/operators/text"
)

//go:embed *.xml
var files embed.FS

// Specs lists the descriptions of all built-in operators, by family and in the order of the files. The caller owns them.
func Specs() []operators.Spec {
	names, err := fs.Glob(files, "*.xml")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	families := optional()
	for _, name := range names {
		b, err := files.ReadFile(name)
		if err != nil {
			panic(err) // it has just been listed
		}
		families = append(families, b)
	}
	var all []operators.Spec
	for _, b := range families {
		family, err := parse(b)
		if err != nil {
			panic(fmt.Sprintf("catalogue: an embedded family: %v", err)) // a test reads them all
		}
		all = slices.Concat(all, family)
	}
	return all
}

// parse reads one family: an operators element of the namespace of descriptions with operator elements in it.
func parse(b []byte) ([]operators.Spec, error) {
	var family struct {
		XMLName xml.Name         `xml:"urn:ninja:service:1 operators"`
		Specs   []operators.Spec `xml:"operator"`
	}
	if err := xml.Unmarshal(b, &family); err != nil {
		return nil, err
	}
	return family.Specs, nil
}

// Register registers the programs of all built-in operators, with the speech engines at their usual places.
func Register(r *operators.Registry) { RegisterWith(r, speech.Programs{}) }

// RegisterWith is Register with the speech engines where p says.
func RegisterWith(r *operators.Registry, p speech.Programs) {
	audio.Register(r)
	speech.Register(r, p)
	text.Register(r)
	image.Register(r)
}

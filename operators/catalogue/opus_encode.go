//go:build opus && cgo

package catalogue

import _ "embed"

//go:embed optional/opus.xml
var opusFamily []byte

// optional lists the families of operators that this build has and others have not.
func optional() [][]byte { return [][]byte{opusFamily} }

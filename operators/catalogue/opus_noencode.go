//go:build !opus || !cgo

package catalogue

// optional lists the families of operators that this build has and others have not.
func optional() [][]byte { return nil }

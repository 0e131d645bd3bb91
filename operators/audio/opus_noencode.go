//go:build !opus || !cgo

package audio

import "ninja/operators"

// registerOpusEncode registers nothing: encoding wants libopus, and the build tag opus (make build OPUS=1).
func registerOpusEncode(*operators.Registry) {}

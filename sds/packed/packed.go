// Package packed reads and writes the messages of protobuf by hand, field by field: those that travel in such numbers that
// the objects generated code makes of each would be most of their cost. What a field means is up to the caller. It is pure.
package packed

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrUnreadable is returned for bytes that are no message.
var ErrUnreadable = errors.New("a message that cannot be read")

// Field is one field of a message: a number (varint or fixed) or bytes, which belong to the message.
type Field struct {
	Number uint64
	Bytes  []byte
}

// Fields calls f with the fields of a message in their order, until one is refused. Groups, which nothing here uses, are
// refused. A field of 32 fixed bits is passed on as the number zero.
func Fields(b []byte, f func(protowire.Number, Field) error) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return ErrUnreadable
		}
		b = b[n:]
		var v Field
		switch kind {
		case protowire.VarintType:
			v.Number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			v.Bytes, n = protowire.ConsumeBytes(b)
		case protowire.Fixed64Type:
			v.Number, n = protowire.ConsumeFixed64(b)
		case protowire.Fixed32Type:
			_, n = protowire.ConsumeFixed32(b)
		default:
			return ErrUnreadable
		}
		if n < 0 {
			return ErrUnreadable
		}
		b = b[n:]
		if err := f(num, v); err != nil {
			return err
		}
	}
	return nil
}

// AppendNumber appends a varint; zero, which is the same as nothing, is left away.
func AppendNumber(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// AppendText appends text or bytes; what is empty, which is the same as nothing, is left away.
func AppendText[T ~string | ~[]byte](b []byte, num protowire.Number, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return AppendBytes(b, num, v)
}

// AppendBytes is AppendText for an element of a list, which may be empty.
func AppendBytes[T ~string | ~[]byte](b []byte, num protowire.Number, v T) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(len(v)))
	return append(b, v...)
}

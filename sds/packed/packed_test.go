package packed

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// FuzzFields: whatever comes is read or refused; what can be read, and is written again, says the same.
func FuzzFields(f *testing.F) {
	f.Add(AppendText(AppendNumber(nil, 1, 300), 2, "text"))
	f.Add(AppendBytes(AppendNumber(nil, 7, 0), 3, ""))
	f.Add(protowire.AppendFixed64(protowire.AppendTag(nil, 4, protowire.Fixed64Type), 1<<63))
	f.Add([]byte{0x0b})                   // a group
	f.Add([]byte{0x12, 0xff, 0xff, 0x03}) // more bytes than there are
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		read := func(into *[]byte) func(protowire.Number, Field) error {
			return func(num protowire.Number, v Field) error {
				if v.Bytes != nil {
					*into = AppendBytes(*into, num, v.Bytes)
				} else {
					*into = protowire.AppendVarint(protowire.AppendTag(*into, num, protowire.VarintType), v.Number)
				}
				return nil
			}
		}
		if err := Fields(b, read(&again)); err != nil {
			if !errors.Is(err, ErrUnreadable) {
				t.Fatal(err)
			}
			return
		}
		var third []byte
		if err := Fields(again, read(&third)); err != nil || !bytes.Equal(again, third) {
			t.Errorf("%x is read as %x and then as %x, %v", b, again, third, err)
		}
	})
}

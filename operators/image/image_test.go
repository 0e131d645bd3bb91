package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io"
	"testing"

	"ninja/connectors"
	"ninja/operators"
)

// halves is a picture, its left half red and its right half blue.
func halves(w, h int) image.Image {
	p := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.RGBA{R: 255, A: 255}
			if x >= w/2 {
				c = color.RGBA{B: 255, A: 255}
			}
			p.Set(x, y, c)
		}
	}
	return p
}

type hop struct{ in, out []connectors.ADU }

func (h *hop) Read(context.Context) (connectors.ADU, error) {
	if len(h.in) == 0 {
		return connectors.ADU{}, io.EOF
	}
	a := h.in[0]
	h.in = h.in[1:]
	return a, nil
}
func (h *hop) Write(_ context.Context, a connectors.ADU) error { h.out = append(h.out, a); return nil }
func (h *hop) Events() <-chan connectors.Event                 { return nil }
func (h *hop) Signal(connectors.Event) error                   { return nil }
func (h *hop) Close() error                                    { return nil }

func run(in, out string, payloads ...[]byte) ([]connectors.ADU, []string, error) {
	var r operators.Registry
	Register(&r)
	var notes []string
	op, err := r.Make(context.Background(), "picture", operators.Env{In: connectors.MustType(in), Out: connectors.MustType(out),
		Note: func(kind, text string) { notes = append(notes, kind+": "+text) }})
	if err != nil {
		return nil, nil, err
	}
	h := &hop{}
	for _, p := range payloads {
		h.in = append(h.in, connectors.ADU{Payload: p, Mark: connectors.EndOfFrame})
	}
	err = op.Run(context.Background(), h, h)
	return h.out, notes, err
}

func near(c color.Color, want color.RGBA) bool {
	r, g, b, _ := c.RGBA()
	off := func(x uint32, y uint8) bool { return max(int(x>>8)-int(y), int(y)-int(x>>8)) > 24 }
	return !off(r, want.R) && !off(g, want.G) && !off(b, want.B)
}

func TestEveryFormatToEveryOther(t *testing.T) {
	for _, from := range []string{"image/png", "image/jpeg", "image/gif"} {
		b, err := encode(halves(64, 32), from)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"image/png", "image/jpeg", "image/gif"} {
			got, _, err := run(from, to, b)
			if err != nil || len(got) != 1 {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			p, err := decode(got[0].Payload, to)
			if err != nil || p.Bounds().Dx() != 64 || !near(p.At(8, 16), color.RGBA{R: 255}) || !near(p.At(56, 16), color.RGBA{B: 255}) {
				t.Errorf("%s to %s: %v", from, to, err)
			}
		}
	}
}

func TestScaleAndGrey(t *testing.T) {
	b, err := encode(halves(100, 50), "image/png")
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := run("image/png", "image/png;colour=grey;width=10", b)
	if err != nil {
		t.Fatal(err)
	}
	p, err := png.Decode(bytes.NewReader(got[0].Payload))
	if err != nil || p.Bounds() != image.Rect(0, 0, 10, 5) || p.ColorModel() != color.GrayModel {
		t.Fatalf("%v %v", p, err)
	}
	if l, r := p.At(1, 1).(color.Gray).Y, p.At(8, 1).(color.Gray).Y; l < 70 || l > 82 || r < 24 || r > 34 {
		t.Errorf("red and blue are %d and %d of grey, want about 76 and 29", l, r)
	}
	if s := Scale(halves(3, 1), 2); s.Bounds() != image.Rect(0, 0, 2, 1) {
		t.Errorf("%v", s.Bounds())
	}
}

// A picture that claims to be huge is refused by its head, and what is no picture does not end the path.
func TestBadPictures(t *testing.T) {
	b, err := encode(halves(8, 8), "image/png")
	if err != nil {
		t.Fatal(err)
	}
	huge := bytes.Clone(b)
	binary.BigEndian.PutUint32(huge[16:], 100000)
	binary.BigEndian.PutUint32(huge[20:], 100000)
	binary.BigEndian.PutUint32(huge[29:], crc32.ChecksumIEEE(huge[12:29]))
	got, notes, err := run("image/png", "image/gif", huge, []byte("no picture"), b[:40], b)
	if err != nil || len(got) != 1 || len(notes) != 3 || notes[0] != "fault: a picture of 100000 by 100000: at most 16777216 pixels are allowed" {
		t.Errorf("%d pictures, notes %q, %v", len(got), notes, err)
	}
	for _, bad := range [][2]string{{"image/png", "image/png;width=1"}, {"image/bmp", "image/png"}, {"image/png", "image/tiff"}} {
		if _, _, err := run(bad[0], bad[1]); err == nil {
			t.Errorf("%v is made", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, media := range []string{"image/png", "image/jpeg", "image/gif"} {
		b, err := encode(halves(4, 4), media)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, media)
	}
	f.Fuzz(func(t *testing.T, b []byte, media string) {
		if p, err := decode(b, media); err == nil && p.Bounds().Dx()*p.Bounds().Dy() > MaxPixels {
			t.Errorf("a picture of %v", p.Bounds())
		}
	})
}

package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"strings"
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

// A screen of few colours gets no others, and from afar the same picture.
func TestFewerColours(t *testing.T) {
	p := image.NewRGBA(image.Rect(0, 0, 64, 64))
	for i := 0; i < len(p.Pix); i += 4 {
		p.Pix[i], p.Pix[i+1], p.Pix[i+2], p.Pix[i+3] = 100, 100, 100, 255
	}
	b, err := encode(p, "image/png")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{2, 4, 16, 256} {
		for _, media := range []string{"image/png", "image/gif"} {
			got, notes, err := run("image/png", fmt.Sprintf("%s;colours=%d", media, n), b)
			if err != nil || len(got) != 1 {
				t.Fatalf("%d: %v %v", n, notes, err)
			}
			out, err := decode(got[0].Payload, media)
			if err != nil {
				t.Fatal(err)
			}
			seen := make(map[color.Color]bool)
			for y := range 64 {
				for x := range 64 {
					seen[color.RGBAModel.Convert(out.At(x, y))] = true
				}
			}
			if r, _, _, _ := Scale(out, 1).At(0, 0).RGBA(); len(seen) > n || r>>8 < 90 || r>>8 > 110 {
				t.Errorf("%d colours as %s: %d are seen, on average %d", n, media, len(seen), r>>8)
			}
		}
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
	for _, bad := range [][2]string{{"image/png", "image/png;width=1"}, {"image/png", "image/png;colours=3"}, {"image/bmp", "image/png"}, {"image/png", "image/tiff"}} {
		if _, _, err := run(bad[0], bad[1]); err == nil {
			t.Errorf("%v is made", bad)
		}
	}
}

// A JPEG of many scans, each of a few bytes, is refused before it is decoded; what encoders make is not. The picture here
// is ours with its one scan again and again.
func TestScans(t *testing.T) {
	b, err := encode(halves(64, 64), "image/jpeg")
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte{0xff, 0xda})
	end := bytes.LastIndex(b, []byte{0xff, 0xd9})
	if n := scans(b); n != 1 {
		t.Errorf("%d scans in a plain picture", n)
	}
	bomb := append(bytes.Clone(b[:at]), append(bytes.Repeat(b[at:end], 1000), 0xff, 0xd9)...)
	if n := scans(bomb); n != 1000 {
		t.Errorf("%d scans in 1000", n)
	}
	_, notes, err := run("image/jpeg", "image/png", bomb)
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "with 1000 scans: at most 32") {
		t.Errorf("%q %v", notes, err)
	}
}

// Pictures that unpack to as much as is allowed are bounded in what they take: the greatest picture there may be, and a
// budget of bytes for what comes out.
func TestPictureBombs(t *testing.T) {
	side := 1024
	if os.Getenv("NINJA_PROVE") != "" {
		side = 4096
	}
	flat := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.Black, color.White})
	b, err := encode(flat, "image/gif")
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 200_000 {
		t.Fatalf("the bomb has %d bytes", len(b))
	}
	got, notes, err := run("image/gif", "image/gif;width=32;colour=grey", b)
	if err != nil || len(got) != 1 || len(notes) != 0 {
		t.Errorf("%d pictures, %q, %v", len(got), notes, err)
	}
	noise := image.NewNRGBA(image.Rect(0, 0, 1024, 1024))
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range noise.Pix {
		noise.Pix[i] = byte(rng.Uint32()) | 128
	}
	if b, err = encode(noise, "image/jpeg"); err != nil {
		t.Fatal(err)
	}
	got, notes, err = run("image/jpeg", "image/png", b)
	if err != nil || len(got) != 0 || len(notes) != 1 || !strings.Contains(notes[0], "more than fit into an ADU") {
		t.Errorf("a small JPEG that is a large PNG: %d pictures, %q, %v", len(got), notes, err)
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
	f.Add([]byte{0xff, 0xd8, 0xff, 0xda, 0, 0, 0xff, 0xff, 0xda}, "image/jpeg")
	f.Fuzz(func(t *testing.T, b []byte, media string) {
		if n := scans(b); n > len(b)/2 {
			t.Errorf("%d scans in %d bytes", n, len(b))
		}
		if p, err := decode(b, media); err == nil && p.Bounds().Dx()*p.Bounds().Dy() > MaxPixels {
			t.Errorf("a picture of %v", p.Bounds())
		}
	})
}

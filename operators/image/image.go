// Package image holds operators on pictures: changing their format, size and colours with the standard library, for
// units with small or grey screens (ninja-architecture, section 4: distillation).
package image

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/color/palette"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"strconv"

	"ninja/connectors"
	"ninja/operators"
)

// Bounds of a picture: as it comes, and as it is unpacked.
const (
	MaxBytes  = 16 << 20
	MaxPixels = 16 << 20
)

// Register registers the programs of this package.
func Register(r *operators.Registry) {
	r.Add("picture", newPicture)
}

// newPicture makes the one operator of this package: it decodes what the input type says, makes it no wider than the width
// of the output type, grey when that has colour=grey, of few colours when it has colours, and encodes it as its media type.
func newPicture(_ context.Context, env operators.Env) (operators.Operator, error) {
	width := 0
	if s := env.Out.Get("width"); s != "" {
		var err error
		if width, err = strconv.Atoi(s); err != nil || width < 8 || width > 8192 {
			return nil, fmt.Errorf("picture to %v: width wants a whole number from 8 to 8192", env.Out)
		}
	}
	colours := 0
	if s := env.Out.Get("colours"); s != "" {
		var err error
		if colours, err = strconv.Atoi(s); err != nil || palettes()[colours] == nil {
			return nil, fmt.Errorf("picture to %v: colours wants 2, 4, 16 or 256", env.Out)
		}
	}
	grey := env.Out.Get("colour") == "grey"
	from, to := env.In.Media(), env.Out.Media()
	for _, media := range []string{from, to} {
		if media != "image/png" && media != "image/jpeg" && media != "image/gif" {
			return nil, fmt.Errorf("pictures of %s: PNG, JPEG and GIF are possible", media)
		}
	}
	change := func(b []byte) ([]byte, error) {
		p, err := decode(b, from)
		if err != nil {
			return nil, err
		}
		if width > 0 && p.Bounds().Dx() > width {
			p = Scale(p, width)
		}
		if grey {
			p = Grey(p)
		}
		if colours > 0 {
			if p, err = Fewer(p, colours); err != nil {
				return nil, err
			}
		}
		out, err := encode(p, to)
		if err == nil && len(out) > connectors.MaxPayload {
			return nil, fmt.Errorf("as %s the picture has %d bytes, more than fit into an ADU (%d): ask for it smaller", to, len(out), connectors.MaxPayload)
		}
		return out, err
	}
	return operators.Func(func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
		return runAll(ctx, env, change, in, out)
	}), nil
}

// runAll changes picture after picture. One that cannot be read is dropped after a note: the path outlives it.
func runAll(ctx context.Context, env operators.Env, change func([]byte) ([]byte, error), in connectors.Reader, out connectors.Writer) error {
	for {
		a, err := in.Read(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if a.Payload, err = change(a.Payload); err != nil {
			if env.Note != nil {
				env.Note("fault", err.Error())
			}
			continue
		}
		if err := out.Write(ctx, a); err != nil {
			return err
		}
	}
}

func decode(b []byte, media string) (image.Image, error) {
	type format struct {
		config func() (image.Config, error)
		whole  func() (image.Image, error)
	}
	r := func() *bytes.Reader { return bytes.NewReader(b) }
	f, ok := map[string]format{
		"image/png":  {func() (image.Config, error) { return png.DecodeConfig(r()) }, func() (image.Image, error) { return png.Decode(r()) }},
		"image/jpeg": {func() (image.Config, error) { return jpeg.DecodeConfig(r()) }, func() (image.Image, error) { return jpeg.Decode(r()) }},
		"image/gif":  {func() (image.Config, error) { return gif.DecodeConfig(r()) }, func() (image.Image, error) { return gif.Decode(r()) }},
	}[media]
	if !ok {
		return nil, fmt.Errorf("read a picture of %s: PNG, JPEG and GIF are possible", media)
	}
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("a picture of %d bytes: at most %d are allowed", len(b), MaxBytes)
	}
	// The size stands in the head: a few bytes can unpack to gigabytes.
	c, err := f.config()
	if err != nil {
		return nil, fmt.Errorf("read a picture of %s: %w", media, err)
	}
	if c.Width <= 0 || c.Height <= 0 || int64(c.Width)*int64(c.Height) > MaxPixels {
		return nil, fmt.Errorf("a picture of %d by %d: at most %d pixels are allowed", c.Width, c.Height, MaxPixels)
	}
	if media == "image/jpeg" {
		if n := scans(b); n > maxScans {
			return nil, fmt.Errorf("a picture of image/jpeg with %d scans: at most %d are allowed", n, maxScans)
		}
	}
	p, err := f.whole()
	if err != nil {
		return nil, fmt.Errorf("read a picture of %s: %w", media, err)
	}
	return p, nil
}

// maxScans bounds the scans of a progressive JPEG. Encoders make about ten; each costs the decoder a walk over all of the
// picture, however few bytes it has, so that a small file could keep a core busy for hours.
const maxScans = 32

// scans counts the scans of a JPEG by its markers (ISO 10918-1, B.1.1.2), up to what is malformed.
func scans(b []byte) (n int) {
	for at := 2; at+4 <= len(b); {
		if b[at] != 0xff {
			at++ // the coded data of a scan
			continue
		}
		switch m := b[at+1]; {
		case m == 0xff: // a fill byte
			at++
		case m == 0, m >= 0xd0 && m <= 0xd9, m == 1: // a stuffed byte, or a marker without a segment
			at += 2
		default:
			if m == 0xda {
				n++
			}
			at += 2 + max(int(b[at+2])<<8|int(b[at+3]), 2)
		}
	}
	return n
}

func encode(p image.Image, media string) ([]byte, error) {
	var b bytes.Buffer
	var err error
	switch media {
	case "image/png":
		err = png.Encode(&b, p)
	case "image/jpeg":
		err = jpeg.Encode(&b, p, &jpeg.Options{Quality: 80})
	case "image/gif":
		err = gif.Encode(&b, greys(p), nil)
	default:
		err = fmt.Errorf("PNG, JPEG and GIF are possible")
	}
	if err != nil {
		return nil, fmt.Errorf("write a picture of %s: %w", media, err)
	}
	return b.Bytes(), nil
}

// greys is a grey picture with the palette that it needs, so that no encoder looks for the nearest of other colours.
func greys(p image.Image) image.Image {
	g, ok := p.(*image.Gray)
	if !ok {
		return p
	}
	pal := make(color.Palette, 256)
	for i := range pal {
		pal[i] = color.Gray{Y: uint8(i)}
	}
	return &image.Paletted{Pix: g.Pix, Stride: g.Stride, Rect: g.Rect, Palette: pal}
}

// Grey is the picture without colours.
func Grey(p image.Image) *image.Gray {
	g := image.NewGray(image.Rect(0, 0, p.Bounds().Dx(), p.Bounds().Dy()))
	draw.Draw(g, g.Bounds(), p, p.Bounds().Min, draw.Src)
	return g
}

// Scale makes a picture smaller, to a width, by the mean of the pixels that each new one covers; the height follows.
func Scale(p image.Image, width int) *image.RGBA {
	from := rgba(p)
	w, h := from.Rect.Dx(), from.Rect.Dy()
	height := max(h*width/w, 1)
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		y0, y1 := y*h/height, max((y+1)*h/height, y*h/height+1)
		for x := range width {
			x0, x1 := x*w/width, max((x+1)*w/width, x*w/width+1)
			mean(out.Pix[out.PixOffset(x, y):][:4], from, x0, y0, x1, y1)
		}
	}
	return out
}

// rgba is the picture in one known form, at 0, 0.
func rgba(p image.Image) *image.RGBA {
	if r, ok := p.(*image.RGBA); ok && r.Rect.Min == (image.Point{}) {
		return r
	}
	r := image.NewRGBA(image.Rect(0, 0, p.Bounds().Dx(), p.Bounds().Dy()))
	draw.Draw(r, r.Rect, p, p.Bounds().Min, draw.Src)
	return r
}

// mean writes the mean of an area into the four bytes of a pixel.
func mean(to []byte, p *image.RGBA, x0, y0, x1, y1 int) {
	var sum [4]uint64
	for y := y0; y < y1; y++ {
		row := p.Pix[p.PixOffset(x0, y) : p.PixOffset(x1-1, y)+4]
		for ; len(row) >= 4; row = row[4:] {
			for c := range sum {
				sum[c] += uint64(row[c])
			}
		}
	}
	n := uint64(x1-x0) * uint64(y1-y0)
	for c := range sum {
		to[c] = byte((sum[c] + n/2) / n)
	}
}

// Fewer is the picture in 2, 4, 16 or 256 colours, of a palette that a screen of such a depth has: black and white, four
// greys, the sixteen of a terminal, or 256 over all colours; what is between is mixed of dots (Floyd and Steinberg).
func Fewer(p image.Image, colours int) (*image.Paletted, error) {
	pal, ok := palettes()[colours]
	if !ok {
		return nil, fmt.Errorf("%d colours: 2, 4, 16 and 256 are possible", colours)
	}
	out := image.NewPaletted(image.Rect(0, 0, p.Bounds().Dx(), p.Bounds().Dy()), pal)
	draw.FloydSteinberg.Draw(out, out.Rect, rgba(p), image.Point{})
	return out, nil
}

func palettes() map[int]color.Palette {
	grey := func(levels ...uint8) (p color.Palette) {
		for _, l := range levels {
			p = append(p, color.Gray{Y: l})
		}
		return p
	}
	sixteen := grey(0, 128, 192, 255)
	for _, c := range [][3]uint8{{128, 0, 0}, {0, 128, 0}, {128, 128, 0}, {0, 0, 128}, {128, 0, 128}, {0, 128, 128},
		{255, 0, 0}, {0, 255, 0}, {255, 255, 0}, {0, 0, 255}, {255, 0, 255}, {0, 255, 255}} {
		sixteen = append(sixteen, color.RGBA{c[0], c[1], c[2], 255})
	}
	return map[int]color.Palette{2: grey(0, 255), 4: grey(0, 85, 170, 255), 16: sixteen, 256: palette.Plan9}
}

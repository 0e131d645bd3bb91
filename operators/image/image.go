// Package image holds operators on pictures: changing their format, size and colours with the standard library, for
// units with small or grey screens (ninja-architecture, section 4: distillation).
package image

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
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

// newPicture makes the one operator of this package: it decodes what the input type says, makes it grey when the output
// type has colour=grey, makes it no wider than its width, and encodes it as its media type.
func newPicture(_ context.Context, env operators.Env) (operators.Operator, error) {
	width := 0
	if s := env.Out.Get("width"); s != "" {
		var err error
		if width, err = strconv.Atoi(s); err != nil || width < 8 || width > 8192 {
			return nil, fmt.Errorf("picture to %v: width wants a whole number from 8 to 8192", env.Out)
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
		return encode(p, to)
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
	p, err := f.whole()
	if err != nil {
		return nil, fmt.Errorf("read a picture of %s: %w", media, err)
	}
	return p, nil
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
		err = gif.Encode(&b, p, nil)
	default:
		err = fmt.Errorf("PNG, JPEG and GIF are possible")
	}
	if err != nil {
		return nil, fmt.Errorf("write a picture of %s: %w", media, err)
	}
	return b.Bytes(), nil
}

// Grey is the picture without colours.
func Grey(p image.Image) *image.Gray {
	g := image.NewGray(image.Rect(0, 0, p.Bounds().Dx(), p.Bounds().Dy()))
	draw.Draw(g, g.Bounds(), p, p.Bounds().Min, draw.Src)
	return g
}

// Scale makes a picture smaller, to a width, by the mean of the pixels that each new one covers; the height follows.
func Scale(p image.Image, width int) *image.RGBA {
	b := p.Bounds()
	height := max(b.Dy()*width/b.Dx(), 1)
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		y0, y1 := b.Min.Y+y*b.Dy()/height, b.Min.Y+max((y+1)*b.Dy()/height, y*b.Dy()/height+1)
		for x := range width {
			x0, x1 := b.Min.X+x*b.Dx()/width, b.Min.X+max((x+1)*b.Dx()/width, x*b.Dx()/width+1)
			out.Set(x, y, mean(p, image.Rect(x0, y0, x1, y1)))
		}
	}
	return out
}

func mean(p image.Image, area image.Rectangle) color.Color {
	var r, g, b, a, n uint64
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			r1, g1, b1, a1 := p.At(x, y).RGBA()
			r, g, b, a, n = r+uint64(r1), g+uint64(g1), b+uint64(b1), a+uint64(a1), n+1
		}
	}
	return color.RGBA64{R: uint16(r / n), G: uint16(g / n), B: uint16(b / n), A: uint16(a / n)}
}

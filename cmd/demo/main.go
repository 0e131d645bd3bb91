// Command demo runs the product's main job before your eyes: a telephone says an address, and hears the way there
// (ninja-architecture, 7.1). Every part is a process of its own with an identity of its own; what is shown is what the
// tools print.
//
// It exits with 0 when the answer is for the address that was said, with 3 when the answer is a correctly spoken "I
// don't know that address", with 130 when it is interrupted, and with 1 otherwise.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type options struct {
	Say    string   `help:"What to say; the default is an address drawn from the map."`
	Voice  []string `default:"rms" help:"The flite voice that says it: rms, awb, slt, kal16; several for a series."`
	Seed   uint64   `help:"Draws the address; 0 takes the time."`
	Calls  int      `default:"1" help:"Make so many calls with each voice and count the exact ones; the telephone hangs up at the first sample."`
	Map    string   `type:"existingfile" required:"" help:"An OpenStreetMap extract (.osm.pbf)."`
	Out    string   `default:"out/demo" help:"Where recordings, logs and state go."`
	HangUp string   `default:"after-answer" enum:"after-answer,at-first-sample" help:"When the telephone hangs up."`
	Quiet  bool     `help:"Print nothing but mistakes."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	kong.Parse(&o, kong.Name("demo"), kong.Description("A spoken address comes back as spoken directions."))
	err := run(ctx, o)
	var unknown unknownAddress
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "demo: interrupted; everything that it started has been stopped")
		os.Exit(130)
	case errors.As(err, &unknown):
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

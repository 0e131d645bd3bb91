// Command sdsquery asks the service discovery service what there is: quick terms, a template, XPath.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	var o options
	kong.Parse(&o, kong.Name("sdsquery"), kong.Description(about), kong.UsageOnError(), kong.Exit(func(code int) {
		if code != exitFound {
			code = exitFailed
		}
		os.Exit(code)
	}))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(o.main(ctx, terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr, width: width(os.Stdout)}))
}

// Command sdsquery asks the service discovery service what there is: quick terms, a template, XPath.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() { os.Exit(run()) }

// run is main with the exit status as its result, for tests that drive the whole command.
func run() int {
	var o options
	parsed := kong.Parse(&o, kong.Name("sdsquery"), kong.Description(about), kong.UsageOnError(), kong.Exit(func(code int) {
		if code != exitFound {
			code = exitFailed
		}
		os.Exit(code)
	}))
	if o.Completion != "" {
		if err := completion(os.Stdout, o.Completion, parsed.Kong); err != nil {
			return exitFailed
		}
		return exitFound
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return o.main(ctx, terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr, width: width(os.Stdout)})
}

// Command ninjad is the Ninja daemon: one program that plays any set of roles (certificate authority, capability
// manager, SDS server, path creator, active proxy, base node, unit).
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

type commands struct {
	Run     runCommand     `cmd:"" help:"Play the roles that a configuration file names."`
	Dev     devCommand     `cmd:"" help:"Play every role with no file at all, for development on one machine."`
	Check   checkCommand   `cmd:"" help:"Check a configuration file and say what is wrong with it."`
	Example exampleCommand `cmd:"" help:"Print a configuration file with every key explained."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	k := kong.Parse(&c, kong.Name("ninjad"), kong.Description("The Ninja daemon: discovery and paths, any set of roles."),
		kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil)))
	if err := k.Run(); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "ninjad:", err)
		os.Exit(1)
	}
}

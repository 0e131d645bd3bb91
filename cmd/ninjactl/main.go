// Command ninjactl is the hand tool: it joins, publishes, grants, and makes paths.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type commands struct {
	Home string `help:"Directory with your identity." env:"NINJA_HOME" type:"path" placeholder:"~/.ninja"`

	Join    joinCommand    `cmd:"" help:"Redeem a join token: make your identity."`
	Token   tokenCommand   `cmd:"" help:"Make a join token for somebody or something (the administrator only)."`
	Whoami  whoamiCommand  `cmd:"" help:"Print your identity and how long it holds."`
	CA      caCommand      `cmd:"" name:"ca" help:"Look after the certificate authority: its root, bans, other domains, the audit log (the administrator only)."`
	Publish publishCommand `cmd:"" help:"Announce a description until interrupted."`
	ACL     aclCommand     `cmd:"" name:"acl" help:"Say who may find and use your services."`
	Group   groupCommand   `cmd:"" help:"Keep groups of principals (the administrator only)."`
	Schema  schemaCommand  `cmd:"" help:"Register, list, show and check schemas of descriptions."`
	Path    pathCommand    `cmd:"" help:"Plan, make, watch and take down paths."`
	// Catalogue needs no arguments: it is what the creator sees for the user.
	Catalogue catalogueCommand `cmd:"" help:"Show what paths can be made of, as far as you may see it."`
	Operator  operatorCommand  `cmd:"" help:"Write, check and publish small operators of your own."`
	SDS       sdsCommand       `cmd:"" name:"sds" help:"Show the hierarchies of SDS servers."`
	Base      baseCommand      `cmd:"" help:"Start, list and stop services on a base node (the administrator only)."`

	Consent consentCommand `cmd:"" help:"On another host: consent, for programs there, to being sent media by paths."`

	Completion completionCommand `cmd:"" help:"Print a script that completes for your shell."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	k := kong.Parse(&c, kong.Name("ninjactl"), kong.Description("The hand tool of Ninja."), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)))
	if err := k.Run(&c); err != nil {
		fmt.Fprintln(os.Stderr, "ninjactl:", err)
		os.Exit(1)
	}
}

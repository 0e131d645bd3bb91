package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCommand writes the script with which a shell completes commands, options, choices and the names of paths.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" default:"bash" help:"bash, zsh or fish: source <(ninjactl completion bash)."`
}

func (c *completionCommand) Run(app *kong.Kong) error {
	script := bash(app.Model.Node)
	switch c.Shell {
	case "zsh":
		script = "autoload -U +X bashcompinit && bashcompinit\n" + script
	case "fish":
		script = fish(app.Model.Node)
	}
	_, err := io.WriteString(os.Stdout, script)
	return err
}

// ofPaths are the commands that take the name of a path.
var ofPaths = map[string]bool{"path show": true, "path watch": true, "path renew": true, "path delete": true}

// listPaths prints the names of the user's paths.
const listPaths = `$(ninjactl path list 2>/dev/null | awk 'NR > 1 {print $1}')`

// each calls f with every command and the words that lead to it, "" for the tool itself.
func each(n *kong.Node, words string, f func(n *kong.Node, words string)) {
	f(n, words)
	for _, c := range n.Children {
		if !c.Hidden {
			each(c, strings.TrimSpace(words+" "+c.Name), f)
		}
	}
}

// flags are those of a command and of all above it.
func flags(n *kong.Node) (all []*kong.Flag) {
	for ; n != nil; n = n.Parent {
		all = append(all, n.Flags...)
	}
	return all
}

// bash completes by the words before the cursor that are no options.
func bash(app *kong.Node) string {
	var b strings.Builder
	b.WriteString("_ninjactl() {\n  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} at= w\n" +
		"  for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do [[ $w == -* ]] || at=\"${at:+$at }$w\"; done\n  case $at in\n")
	each(app, "", func(n *kong.Node, words string) {
		var next []string
		for _, c := range n.Children {
			next = append(next, c.Name)
		}
		choices := ""
		for _, f := range flags(n) {
			next = append(next, "--"+f.Name)
			if f.Enum != "" {
				choices += fmt.Sprintf(" [[ $prev == --%s ]] && { COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); return; };", f.Name, strings.ReplaceAll(f.Enum, ",", " "))
			} else if f.PlaceHolder == "FILE" {
				choices += fmt.Sprintf(" [[ $prev == --%s ]] && { COMPREPLY=($(compgen -f -- \"$cur\")); return; };", f.Name)
			}
		}
		list, pattern := strings.Join(next, " "), fmt.Sprintf("%q", words)
		if ofPaths[words] {
			list += " " + listPaths
		}
		if len(n.Children) == 0 {
			pattern += "*" // arguments may follow
		}
		fmt.Fprintf(&b, "    %s)%s COMPREPLY=($(compgen -W \"%s\" -- \"$cur\"));;\n", pattern, choices, list)
	})
	b.WriteString("  esac\n}\ncomplete -o default -F _ninjactl ninjactl\n")
	return b.String()
}

// fish completes by the subcommands seen.
func fish(app *kong.Node) string {
	var b strings.Builder
	quote := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'" }
	each(app, "", func(n *kong.Node, words string) {
		var seen, none []string
		for _, w := range strings.Fields(words) {
			seen = append(seen, "__fish_seen_subcommand_from "+w)
		}
		for _, c := range n.Children {
			none = append(none, c.Name)
		}
		for _, c := range n.Children {
			when := append(append([]string(nil), seen...), "not __fish_seen_subcommand_from "+strings.Join(none, " "))
			fmt.Fprintf(&b, "complete -c ninjactl -f -n %s -a %s -d %s\n", quote(strings.Join(when, "; and ")), c.Name, quote(c.Help))
		}
		when := ""
		if seen != nil {
			when = " -n " + quote(strings.Join(seen, "; and "))
		}
		for _, f := range n.Flags {
			choice := " -r"
			if f.Enum != "" {
				choice = " -x -a " + quote(strings.ReplaceAll(f.Enum, ",", " "))
			} else if f.IsBool() {
				choice = ""
			}
			fmt.Fprintf(&b, "complete -c ninjactl%s -l %s%s -d %s\n", when, f.Name, choice, quote(f.Help))
		}
		if ofPaths[words] {
			fmt.Fprintf(&b, "complete -c ninjactl -f%s -a \"(ninjactl path list 2>/dev/null | awk 'NR > 1 {print \\$1}')\"\n", when)
		}
	})
	return b.String()
}

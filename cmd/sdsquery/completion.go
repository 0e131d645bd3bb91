package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// completion writes the script of a shell.
func completion(out io.Writer, kind string, app *kong.Kong) error {
	var err error
	switch kind {
	case "fish":
		for _, f := range app.Model.Flags {
			line := fmt.Sprintf("complete -c sdsquery -l %s -d '%s'", f.Name, strings.ReplaceAll(f.Help, "'", `\'`))
			if f.Short != 0 {
				line += " -s " + string(f.Short)
			}
			switch {
			case f.Enum != "":
				line += " -x -a '" + strings.ReplaceAll(f.Enum, ",", " ") + "'"
			case !f.IsBool():
				line += " -r"
			}
			if _, err = fmt.Fprintln(out, line); err != nil {
				break
			}
		}
	case "zsh":
		_, err = io.WriteString(out, "autoload -U +X bashcompinit && bashcompinit\n"+bash(app))
	default:
		_, err = io.WriteString(out, bash(app))
	}
	return err
}

// bash is a function that completes options, and the values of those that have a choice or name a file.
func bash(app *kong.Kong) string {
	var b, words strings.Builder
	b.WriteString("_sdsquery() {\n  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n  case $prev in\n")
	for _, f := range app.Model.Flags {
		words.WriteString(" --" + f.Name)
		names := "--" + f.Name
		if f.Short != 0 {
			names += "|-" + string(f.Short)
		}
		choice := ""
		switch {
		case f.Enum != "":
			choice = `-W "` + strings.ReplaceAll(f.Enum, ",", " ") + `"`
		case f.PlaceHolder == "FILE" || f.PlaceHolder == "DIR":
			choice = "-f"
		case !f.IsBool():
			choice = `-W ""`
		default:
			continue
		}
		fmt.Fprintf(&b, "    %s) COMPREPLY=($(compgen %s -- \"$cur\")); return;;\n", names, choice)
	}
	fmt.Fprintf(&b, "  esac\n  COMPREPLY=($(compgen -W \"%s\" -- \"$cur\"))\n}\ncomplete -F _sdsquery sdsquery\n", strings.TrimSpace(words.String()))
	return b.String()
}

package wrap

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Entry is an entry of a list of programs as a file has it:
//
//	shout:                                        # the key that descriptions name it by
//	  command: [/usr/bin/python3, ./shout.py]     # ./ is beside this file
//	  mode: lines                                 # document, lines, framed
//	  memory: 67108864                            # bounds; those that are missing are the usual ones
//	  cpu: 10s
//
// Reading it says what is wrong with it, and at which line.
type Entry struct {
	Command   []string      `yaml:"command"`
	Mode      Mode          `yaml:"mode"`
	Memory    uint64        `yaml:"memory"`
	FileSize  uint64        `yaml:"file-size"`
	CPU       time.Duration `yaml:"cpu"`
	Processes uint64        `yaml:"processes"`
	Files     uint64        `yaml:"files"`
	Network   bool          `yaml:"network"`
	User      uint32        `yaml:"user"`
}

// entryKeys are the keys of an Entry.
func entryKeys() []string {
	return []string{"command", "cpu", "file-size", "files", "memory", "mode", "network", "processes", "user"}
}

// leastMemory is the least address space that a program can start in, in bytes.
const leastMemory = 16 << 20

// UnmarshalYAML reads and checks an entry.
func (e *Entry) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: a program wants keys and values, such as command: [/usr/bin/sort]", n.Line)
	}
	lines := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if !slices.Contains(entryKeys(), key.Value) {
			return fmt.Errorf("line %d: unknown key %q of a program; allowed: %s", key.Line, key.Value, strings.Join(entryKeys(), ", "))
		}
		lines[key.Value] = key.Line
	}
	type plain Entry // without this method
	if err := n.Decode((*plain)(e)); err != nil {
		return err
	}
	fail := func(key, format string, args ...any) error {
		line := lines[key]
		if line == 0 {
			line = n.Line
		}
		return fmt.Errorf("line %d: program: %s: %s", line, key, fmt.Sprintf(format, args...))
	}
	switch {
	case len(e.Command) == 0:
		return fail("command", "name the program and its arguments, such as [/usr/bin/sort, -u]")
	case !filepath.IsAbs(e.Command[0]) && !strings.HasPrefix(e.Command[0], "./"):
		return fail("command", "%q is neither an absolute path nor ./ and a name; no shell and no search path is involved (command -v %s says where it is)",
			e.Command[0], e.Command[0])
	case e.Mode != "" && !slices.Contains([]Mode{Document, Lines, Framed}, e.Mode):
		return fail("mode", "%q is not one of %s, %s, %s", e.Mode, Document, Lines, Framed)
	case e.CPU < 0:
		return fail("cpu", "%v of processor time; leave it out for the usual bound", e.CPU)
	case e.Memory > 0 && e.Memory < leastMemory:
		return fail("memory", "%d bytes are too few to start a program in: at least %d, or leave it out for 512 MiB", e.Memory, leastMemory)
	}
	return nil
}

// Program is the entry, with what begins with ./ taken to be in a folder.
func (e Entry) Program(folder string) (Program, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return Program{}, err
	}
	command := slices.Clone(e.Command)
	for i, c := range command {
		if name, ok := strings.CutPrefix(c, "./"); ok {
			command[i] = filepath.Join(folder, name)
		}
	}
	if len(command) == 0 {
		return Program{}, fmt.Errorf("it has no command: write command: [/PATH/PROGRAM, ARGUMENTS]")
	}
	p := Program{Path: command[0], Args: command[1:], Mode: e.Mode, Memory: e.Memory, FileSize: e.FileSize, CPU: e.CPU,
		Processes: e.Processes, Files: e.Files, Network: e.Network, User: e.User}
	return p.withDefaults()
}

// maxPrograms bounds a list of programs.
const maxPrograms = 1000

// Programs makes a list of programs of entries that were read from a file in a folder.
func Programs(entries map[string]Entry, folder string) (map[string]Program, error) {
	if len(entries) > maxPrograms {
		return nil, fmt.Errorf("%d programs: at most %d are allowed", len(entries), maxPrograms)
	}
	all := make(map[string]Program)
	for key, e := range entries {
		p, err := e.Program(folder)
		if err != nil {
			return nil, fmt.Errorf("program %q: %w", key, err)
		}
		all[key] = p
	}
	return all, nil
}

// ParsePrograms reads a file that is nothing but a list of programs, by key; folder is where it stands.
func ParsePrograms(b []byte, folder string) (map[string]Program, error) {
	if len(b) > 1<<20 {
		return nil, fmt.Errorf("a list of programs of %d bytes: at most %d are allowed", len(b), 1<<20)
	}
	var entries map[string]Entry
	if err := yaml.Unmarshal(b, &entries); err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("the list of programs is empty: want KEY: {command: [/PATH/PROGRAM]}")
	}
	return Programs(entries, folder)
}

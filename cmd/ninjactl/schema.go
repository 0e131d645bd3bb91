package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"ninja/cmd/home"
	"ninja/sds"
	"ninja/sds/check"
	"ninja/sds/schema"
)

type schemaCommand struct {
	Register schemaRegister `cmd:"" help:"Register a schema (DTD), or a new version beside old ones: the administrator, and whom the server's configuration names."`
	List     schemaList     `cmd:"" help:"List the schemas that descriptions may claim."`
	Show     schemaShow     `cmd:"" help:"Print a schema."`
	Check    schemaCheck    `cmd:"" help:"Hold a description against the schema that it claims, without publishing it."`
}

// withSDS runs f with a client of the SDS server.
func withSDS(ctx context.Context, c *commands, f func(*sds.Client) error) error {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return err
	}
	client, err := h.SDS(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	return readable(f(client))
}

type schemaRegister struct {
	File    string `arg:"" type:"existingfile" help:"The schema; NAME-VERSION.dtd says name and version."`
	Name    string `help:"Name of the schema, when the file is called otherwise."`
	Version uint32 `help:"Version of the schema, from 1, when the file is called otherwise."`
	output
}

// schemaOut is what --output json prints.
type schemaOut struct {
	Name    string `json:"name"`
	Version uint32 `json:"version"`
	Bytes   int    `json:"bytes"`
	DTD     string `json:"dtd,omitempty"`
}

func (s *schemaRegister) Run(ctx context.Context, c *commands) error {
	name, version := s.Name, s.Version
	if name == "" || version == 0 {
		fileName, fileVersion, err := schema.ParseFileName(s.File)
		if err != nil {
			return fmt.Errorf("%w; or give --name and --version", err)
		}
		if name == "" {
			name = fileName
		}
		if version == 0 {
			version = fileVersion
		}
	}
	text, err := schema.ReadFile(s.File)
	if err != nil {
		return err
	}
	if _, err := schema.Parse(text); err != nil {
		return fmt.Errorf("%s: %w", s.File, err)
	}
	return withSDS(ctx, c, func(client *sds.Client) error {
		if err := client.RegisterSchema(ctx, name, version, text); err != nil {
			return err
		}
		return s.print(schemaOut{name, version, len(text), ""}, func(w io.Writer) {
			fmt.Fprintf(w, "%s/%d is registered; descriptions claim it by an attribute of their root element:\n  xmlns:s=\"%s\" s:schema=\"%s/%d\"\n",
				name, version, schema.Namespace, name, version)
		})
	})
}

type schemaList struct {
	Name string `arg:"" optional:"" help:"Only versions of this schema."`
	output
}

func (s *schemaList) Run(ctx context.Context, c *commands) error {
	return withSDS(ctx, c, func(client *sds.Client) error {
		all, err := client.Schemas(ctx, s.Name)
		if err != nil {
			return err
		}
		out := []schemaOut{}
		for _, i := range all {
			out = append(out, schemaOut{i.Name, i.Version, i.Size, ""})
		}
		return s.print(out, func(w io.Writer) {
			if len(out) == 0 {
				fmt.Fprintln(w, "no schema is registered: ninjactl schema register NAME-VERSION.dtd")
				return
			}
			fmt.Fprintln(w, "SCHEMA\tBYTES")
			for _, o := range out {
				fmt.Fprintf(w, "%s/%d\t%d\n", o.Name, o.Version, o.Bytes)
			}
		})
	})
}

type schemaShow struct {
	Schema string `arg:"" help:"NAME/VERSION, or NAME for the newest version."`
	output
}

func (s *schemaShow) Run(ctx context.Context, c *commands) error {
	return withSDS(ctx, c, func(client *sds.Client) error {
		i, text, err := fetchSchema(ctx, client, s.Schema)
		if err != nil {
			return err
		}
		return s.print(schemaOut{i.Name, i.Version, len(text), string(text)}, func(w io.Writer) {
			w.Write(text)
			if !strings.HasSuffix(string(text), "\n") {
				fmt.Fprintln(w)
			}
		})
	})
}

// fetchSchema gets a schema from the server: NAME/VERSION, or the newest of NAME.
func fetchSchema(ctx context.Context, client *sds.Client, which string) (schema.Info, []byte, error) {
	name, number, some := strings.Cut(which, "/")
	i := schema.Info{Name: name}
	if some {
		if _, err := fmt.Sscanf(number, "%d", &i.Version); err != nil || i.Version == 0 || fmt.Sprint(i.Version) != number {
			return i, nil, fmt.Errorf("%q: want NAME/VERSION, as in printer/2", which)
		}
	} else {
		all, err := client.Schemas(ctx, name)
		if err != nil {
			return i, nil, err
		}
		if len(all) == 0 {
			return i, nil, fmt.Errorf("no schema is called %q: ninjactl schema list names all", name)
		}
		i = all[len(all)-1]
	}
	text, err := client.Schema(ctx, name, i.Version)
	return i, text, err
}

type schemaCheck struct {
	File   string `arg:"" type:"existingfile" help:"The description."`
	Schema string `type:"existingfile" help:"A file with the schema, instead of the one that the description claims at the server." placeholder:"FILE"`
}

func (s *schemaCheck) Run(ctx context.Context, c *commands) error {
	d, err := readDescription(s.File)
	if err != nil {
		return err
	}
	text, which := []byte(nil), s.Schema
	if s.Schema != "" {
		text, err = schema.ReadFile(s.Schema)
	} else {
		text, which, err = claimedSchema(ctx, c, d)
	}
	if err != nil {
		return err
	}
	parsed, err := schema.Parse(text)
	if err != nil {
		return fmt.Errorf("schema %s: %w", which, err)
	}
	if err := parsed.Check(d); err != nil {
		return fmt.Errorf("%s breaks the schema %s:\n%s", s.File, which, strings.ReplaceAll(err.Error(), "; line", "\nline"))
	}
	_, err = fmt.Fprintf(os.Stdout, "%s keeps the schema %s\n", s.File, which)
	return err
}

// claimedSchema gets the schema that a description claims.
func claimedSchema(ctx context.Context, c *commands, d *check.Document) (text []byte, claim string, err error) {
	claim, ok := schema.Claim(d)
	if !ok {
		return nil, "", fmt.Errorf("the description claims no schema: it would by xmlns:s=%q s:schema=\"NAME/VERSION\" at its root element", schema.Namespace)
	}
	err = withSDS(ctx, c, func(client *sds.Client) error {
		_, text, err = fetchSchema(ctx, client, claim)
		return err
	})
	return text, claim, err
}

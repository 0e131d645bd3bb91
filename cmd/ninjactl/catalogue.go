package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"ninja/apc"
)

// catalogueCommand writes what the creator plans with for the user; as JSON it is what path plan --catalogue reads.
type catalogueCommand struct{ output }

func (c *catalogueCommand) Run(ctx context.Context, all *commands) error {
	creator, err := openCreator(ctx, all)
	if err != nil {
		return err
	}
	defer creator.Close()
	catalogue, err := creator.Catalogue(ctx)
	if err != nil {
		return err
	}
	if c.Output == apc.JSON {
		return catalogue.Write(os.Stdout)
	}
	return c.print(nil, func(w io.Writer) { printCatalogue(w, catalogue) })
}

func printCatalogue(w io.Writer, c *apc.Catalogue) {
	fmt.Fprintln(w, "OPERATOR\tKIND\tPLACES\tLATENCY\tCPU\tIN\tOUT")
	for _, o := range c.Operators {
		cost := o.Spec.Cost
		fmt.Fprintf(w, "%s\t%s\t%d\t%v\t%.3f\t%s\t%s\n", o.Name, o.Kind, len(o.Places), time.Duration(cost.Latency), cost.CPU, o.Spec.In, o.Spec.Out)
	}
	fmt.Fprintln(w, "\nNODE\tLOAD\tCORES\tMEMORY\tREGION")
	for _, n := range c.Nodes {
		fmt.Fprintf(w, "%s\t%.2f\t%g\t%d MiB\t%s\n", n.ID, n.Load, n.Cores, n.Memory>>20, n.Region)
	}
	if len(c.Links) > 0 {
		fmt.Fprintln(w, "\nLINK\tTO\tONE WAY")
	}
	for _, l := range c.Links {
		fmt.Fprintf(w, "%q\t%q\t%v\n", l.From, l.To, l.Latency)
	}
}

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
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
	if len(c.External) > 0 {
		fmt.Fprintln(w, "\nPROXY\tMAY REACH")
	}
	for _, owner := range slices.Sorted(maps.Keys(c.External)) {
		fmt.Fprintf(w, "%s\t%s\n", owner, c.External[owner])
	}
	if len(c.Learned) > 0 {
		fmt.Fprintln(w, "\nLEARNED OF\tAT\tp50\tp99\tCPU\tREPORTS")
	}
	for _, l := range c.Learned {
		fmt.Fprintf(w, "%s\t%s\t%v\t%v\t%.3f\t%d\n", l.Operator, l.Node, l.P50.Round(time.Microsecond), l.P99.Round(time.Microsecond), l.CPU, l.Reports)
	}
	if len(c.Links) > 0 {
		fmt.Fprintln(w, "\nLINK\tTO\tONE WAY")
	}
	for _, l := range c.Links {
		fmt.Fprintf(w, "%q\t%q\t%v\n", l.From, l.To, l.Latency)
	}
}

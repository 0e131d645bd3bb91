package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Gather joins operators that are alike but for where they run: several proxies that publish the same program with the
// same description are one operator with several places. Fixed operators and those of different kinds stay apart. The
// first of each keeps its name, Service included; the order is that of the first ones. It makes searches smaller and
// changes no plan but for names.
func Gather(ops []Operator) []Operator {
	out := make([]Operator, 0, len(ops))
	at := make(map[string]int)
	for _, o := range ops {
		if o.Fixed {
			out = append(out, o)
			continue
		}
		s := o.Spec
		args := make([]string, len(s.Args))
		for i, a := range s.Args {
			args[i] = a.Name + "=" + a.Value
		}
		slices.Sort(args)
		key := strings.Join([]string{
			o.Kind, s.Program, s.In.String(), s.Out.String(), fmt.Sprintf("%+v", s.Cost),
			fmt.Sprintf("%q %q %q", args, s.Transports, o.Data),
		}, "\x00")
		i, ok := at[key]
		if !ok {
			at[key] = len(out)
			o.Places = slices.Clone(o.Places)
			out = append(out, o)
			continue
		}
		for _, p := range o.Places {
			if !slices.ContainsFunc(out[i].Places, func(q Place) bool { return q.Node == p.Node }) {
				out[i].Places = append(out[i].Places, p)
			}
		}
	}
	return out
}

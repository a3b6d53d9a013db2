package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"qstream/bus"
	"qstream/directory"
	"qstream/mail"
	"qstream/scanner/compare"
)

// scanCompareCmd reports how shadow policies differ from those in force.
type scanCompareCmd struct {
	System
	Policy   string `placeholder:"NAME" help:"Comparisons with this policy, in force or as the shadow."`
	Tenant   string `placeholder:"NAME" help:"Mail of this tenant (default: of all)."`
	Since    moment `placeholder:"WHEN" default:"24h" help:"Compared since then: a time (RFC 3339), or so many s, m, h or d ago (default: ${default})."`
	Examples int    `placeholder:"N" default:"5" help:"Name at most so many messages of each difference, the latest (default: ${default})."`
	JSON     bool   `name:"json" help:"Print JSON: by tenant, and in all."`
}

func (c *scanCompareCmd) Run(ctx context.Context, p *Process) error {
	if c.Examples < 0 || c.Examples > 10_000 {
		return usagef("--examples %d: want 0 to 10000", c.Examples)
	}
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := (scopeFlags{Tenant: c.Tenant}).known(ctx, b); err != nil {
		return err
	}
	r, err := compare.Read(ctx, b, compare.Selection{Tenant: c.Tenant, Policy: c.Policy, Since: c.Since.at(p.Now()), Examples: c.Examples})
	switch {
	case err != nil:
		return err
	case len(r.Totals) == 0:
		return c.nothing(ctx, b)
	case c.JSON:
		return printJSON(p.Stdout, r)
	}
	for i, g := range r.Totals {
		if i > 0 {
			fmt.Fprintln(p.Stdout)
		}
		if err := printComparison(p.Stdout, g, r.Tenants); err != nil {
			return err
		}
	}
	return nil
}

// nothing says why there is nothing to report: a policy that there isn't may
// have been there, so it is only asked for when it was compared with nothing.
func (c *scanCompareCmd) nothing(ctx context.Context, b *bus.Bus) error {
	none := notFoundf("nothing was compared that is meant by that")
	if c.Policy == "" {
		return none
	}
	s, err := directory.Read(ctx, b)
	if wrong := (directory.Errors)(nil); errors.As(err, &wrong) {
		return none
	} else if err != nil {
		return err
	}
	if s.Scan(c.Policy) != nil {
		return none
	}
	var names []string
	for _, d := range s.Documents() {
		if d.Ref.Kind == directory.KindScan {
			names = append(names, d.Ref.Name)
		}
	}
	if len(names) == 0 {
		return notFoundf("there is no scan policy %s; there is none at all", mail.Printable(c.Policy))
	}
	const most = 20
	more := ""
	if n := len(names) - most; n > 0 {
		names, more = names[:most], fmt.Sprintf(" and %d more", n)
	}
	return notFoundf("there is no scan policy %s; there are %s%s", mail.Printable(c.Policy), strings.Join(names, ", "), more)
}

// printComparison prints what two policies made of the same mail, for people.
func printComparison(w io.Writer, g compare.Group, tenants []compare.Group) error {
	fmt.Fprintf(w, "policy %s, shadow %s, since %s: of %d recipients compared %d differ (%s); %d were not compared\n\n",
		shown(g.Policy), shown(g.Shadow), g.Since.Format(time.RFC3339), g.Compared, g.Differing, percent(g.Differing, g.Compared), g.Missed)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...any) {
		text := make([]string, len(cells))
		for i, c := range cells {
			text[i] = fmt.Sprint(c)
		}
		fmt.Fprintln(t, strings.Join(text, "\t"))
	}
	row("BECAME", "WOULD HAVE BECOME", "RECIPIENTS", "")
	for _, c := range g.Cells {
		mark := ""
		if c.Action != c.Shadow {
			mark = "differ"
		}
		row(shown(c.Action), shown(c.Shadow), c.Recipients, mark)
	}
	row("")
	row("TENANT", "COMPARED", "DIFFER", "NOT COMPARED")
	for _, of := range tenants {
		if of.Policy == g.Policy && of.Shadow == g.Shadow {
			row(shown(of.Tenant), of.Compared, of.Differing, of.Missed)
		}
	}
	if len(g.Engines) > 0 {
		row("")
		row("ENGINE", "OF", "SCANS", "MEDIAN", "99 PERCENT")
	}
	for _, e := range g.Engines {
		of := "policy"
		if e.Shadow {
			of = "shadow"
		}
		row(shown(e.Engine), of, e.Scans, e.Median, e.P99)
	}
	if len(g.Examples) > 0 {
		row("")
		row("MESSAGE", "AT", "TENANT", "TO", "BECAME", "WOULD HAVE BECOME", "SAID")
	}
	for _, x := range g.Examples {
		row(shown(fmt.Sprintf("%s.%d", x.MessageID, x.Leg)), x.At.Format(time.RFC3339), shown(x.Tenant), shown(x.Recipient),
			shown(reasoned(x.Action, x.Finding)), shown(reasoned(x.Shadow, x.ShadowFinding)), shown(strings.Join(x.ShadowSaid, "; ")))
	}
	return t.Flush()
}

// reasoned is an action and what it is for.
func reasoned(action, finding string) string {
	if finding == "" {
		return action
	}
	return action + " for " + finding
}

func percent(n, of uint64) string {
	if of == 0 {
		return "0%"
	}
	return fmt.Sprintf("%.3g%%", 100*float64(n)/float64(of))
}

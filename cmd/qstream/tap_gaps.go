package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"qstream/mail"
	"qstream/tapper/vault"
	"qstream/tapper/vault/office"
)

// tapGapsCmd checks that an order's copies are all there.
type tapGapsCmd struct {
	officerFlags
	ID   string `arg:"" help:"The order's id."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *tapGapsCmd) Run(ctx context.Context, p *Process) error {
	var r vault.Report
	if err := c.askOrder(ctx, p, office.VerbGaps, c.ID, &r); err != nil {
		return err
	}
	if err := c.print(p, r); err != nil {
		return err
	}
	if n := len(r.Gaps); n > 0 {
		return fmt.Errorf("the order's copies are not complete: %s", plural(n, "gap"))
	}
	return nil
}

func (c *tapGapsCmd) print(p *Process, r vault.Report) error {
	if c.JSON {
		return printJSON(p.Stdout, r)
	}
	fmt.Fprintf(p.Stdout, "order %s since %s: %d copies, %d outcomes; %d messages not looked at yet, %d copies not at the sink yet\n",
		mail.Printable(r.Order), r.Since.UTC().Format(time.RFC3339), r.Copies, r.Outcomes, r.Unread, r.Open)
	if len(r.Gaps) == 0 {
		fmt.Fprintln(p.Stdout, "no gaps")
		return nil
	}
	t := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "GAP\tLANE\tDETAIL")
	for _, g := range r.Gaps {
		fmt.Fprintf(t, "%s\t%d\t%s\n", shown(g.What), g.Lane, shown(g.Detail))
	}
	return t.Flush()
}

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"qstream/ledger"
	"qstream/mail"
)

// queueLegsCmd lists what waits.
type queueLegsCmd struct {
	Place
	legFlags
	Sort string `placeholder:"ORDER" default:"age" enum:"age,since,due,reply" help:"age (oldest mail first), since (longest where it is), due (next attempt first) or reply (default: ${default})."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *queueLegsCmd) Run(ctx context.Context, p *Process) error {
	q := c.query()
	q.Set("sort", c.Sort)
	var found ledger.Legs
	if err := c.ask(ctx, "/v1/queue/legs", q, &found); err != nil {
		return err
	}
	stale(p.Stderr, found.Fresh)
	if c.JSON {
		if err := printJSON(p.Stdout, found); err != nil {
			return err
		}
	}
	if len(found.Legs) == 0 {
		return notFoundf("nothing waits")
	}
	if c.JSON {
		return nil
	}
	if err := legTable(p.Stdout, found.Legs, p.Now()); err != nil {
		return err
	}
	if found.More {
		fmt.Fprintf(p.Stderr, "only the first %d are shown; more by --limit\n", len(found.Legs))
	}
	return nil
}

func legTable(w io.Writer, legs []ledger.Leg, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MESSAGE\tLEG\tAGE\tTENANT\tQUEUE\tDESTINATION\tPLACE\tREASON\tDUE IN\tTRIES\tFROM\tTO\tLAST REPLY")
	for _, l := range legs {
		leg, due := fmt.Sprint(l.Leg), "-"
		if l.Leg < 0 {
			leg = "-" // the router makes them
		}
		if l.Due != nil {
			due = age(now, *l.Due)
		}
		fmt.Fprintln(t, strings.Join([]string{
			shown(l.ID), leg, age(l.Born, now), shown(l.Tenant), shown(l.Queue), shown(l.Destination), shown(l.Place), shown(l.Reason), due,
			fmt.Sprint(l.Attempts), "<" + strings.TrimSpace(mail.Printable(l.ReversePath)) + ">", recipientsOf(l), shown(l.Reply),
		}, "\t"))
	}
	return t.Flush()
}

// recipientsOf names a leg's first recipient, and how many more there are.
func recipientsOf(l ledger.Leg) string {
	first := ""
	if len(l.Addresses) > 0 {
		first = l.Addresses[0]
	}
	return andMore(first, l.Recipients)
}

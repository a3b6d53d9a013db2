package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"qstream/bus"
	"qstream/mail"
)

type deadListCmd struct {
	System
	JSON bool `name:"json" help:"Print JSON, one record a line."`
}

func (c *deadListCmd) Run(ctx context.Context, p *Process) error {
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	t := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	out := json.NewEncoder(p.Stdout)
	n := 0
	garbage, err := b.Dead(ctx, func(d bus.Dead) error {
		if c.JSON {
			return out.Encode(deadJSON(d))
		}
		if n++; n == 1 {
			fmt.Fprintln(t, "ID\tSINCE\tFROM\tSTAGE\tERROR")
		}
		_, err := fmt.Fprintf(t, "%s\t%s\t%s/%d at %d\t%s\t%s\n", deadID(d), d.Time.UTC().Format(time.RFC3339),
			d.Record.Topic, d.Record.Partition, d.Record.Offset, d.Record.Stage, mail.Printable(d.Record.Error))
		return err
	})
	if err != nil {
		return err
	}
	if garbage > 0 {
		fmt.Fprintf(p.Stderr, "%d records on the deadletter topic can't be read themselves\n", garbage)
	}
	if !c.JSON && n == 0 {
		fmt.Fprintln(p.Stdout, "nothing is there")
	}
	return t.Flush()
}

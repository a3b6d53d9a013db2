package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
)

type topicsListCmd struct {
	System
	JSON bool `name:"json" help:"Print JSON, one topic a line."`
}

func (c *topicsListCmd) Run(ctx context.Context, p *Process) error {
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	topics, err := sizeFlags{}.every(ctx, b)
	if err != nil {
		return err
	}
	states, err := b.States(ctx, topics)
	if err != nil {
		return err
	}
	for i, s := range states {
		if s.Missing {
			continue
		}
		if states[i].Retention, err = b.Retention(ctx, s.Name); err != nil {
			return err
		}
	}
	if c.JSON {
		return c.lines(p.Stdout, states)
	}
	return c.table(p.Stdout, states)
}

func (c *topicsListCmd) lines(w io.Writer, states []bus.TopicState) error {
	out := json.NewEncoder(w)
	for _, s := range states {
		err := out.Encode(map[string]any{
			"topic": s.Name, "key": s.Key, "value": s.Value, "missing": s.Missing, "partitions": s.Places, "replicas": s.Copies,
			"records": s.Records, "retention_ms": s.Retention.Milliseconds(), "behind": s.Behind,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *topicsListCmd) table(w io.Writer, states []bus.TopicState) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TOPIC\tPARTITIONS\tCOPIES\tRECORDS\tKEPT\tKEY\tBEHIND")
	for _, s := range states {
		if s.Missing {
			fmt.Fprintf(t, "%s\tmissing\t\t\t\t%s\t\n", s.Name, s.Key)
			continue
		}
		kept := "for ever"
		if s.Retention != schemas.Forever && s.Retention >= 0 {
			kept = directory.FormatDuration(s.Retention)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t%s\t%s\n", s.Name, s.Places, s.Copies, s.Records, kept, s.Key, behind(s.Behind))
	}
	return t.Flush()
}

func behind(groups map[string]int64) string {
	var parts []string
	for g, n := range groups {
		parts = append(parts, fmt.Sprintf("%s: %d", g, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

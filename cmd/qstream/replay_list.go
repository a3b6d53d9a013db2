package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"qstream/mail"
	"qstream/replay"
)

// replayListCmd shows what a selection means.
type replayListCmd struct {
	System
	selectFlags
	Count bool `help:"Only count." xor:"form"`
	JSON  bool `name:"json" help:"Print JSON, one message a line." xor:"form"`
}

func (c *replayListCmd) Run(ctx context.Context, p *Process) error {
	h, done, err := c.open(ctx, &c.System)
	if err != nil {
		return err
	}
	defer done()
	return c.show(ctx, p, h)
}

// show fails if nothing is meant.
func (c *replayListCmd) show(ctx context.Context, p *Process, h *replay.History) error {
	n, err := c.print(ctx, p, h)
	if err != nil {
		return err
	}
	if n == 0 {
		return notFoundf("no message of the past is meant by that")
	}
	return nil
}

func (c *replayListCmd) print(ctx context.Context, p *Process, h *replay.History) (int, error) {
	messages, recipients, size := 0, 0, int64(0)
	t := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	lines := replay.NewLines(p.Stdout, false)
	err := h.Select(ctx, c.selection(p.Now()), func(m *replay.Message) error {
		messages, recipients, size = messages+1, recipients+len(m.Recipients), size+m.Content.Size
		switch {
		case c.Count:
			return nil
		case c.JSON:
			return lines.Add(ctx, m)
		}
		if messages%1000 == 0 { // what is aligned together is held in memory
			if err := t.Flush(); err != nil {
				return err
			}
		}
		if messages == 1 {
			fmt.Fprintln(t, "MESSAGE\tACCEPTED\tSIZE\tFROM\tTO\tMESSAGE-ID")
		}
		_, err := fmt.Fprintln(t, strings.Join([]string{
			m.ID(), m.Accepted.UTC().Format(time.RFC3339), fmt.Sprint(m.Content.Size), "<" + mail.Printable(m.Received.GetEnvelope().GetReversePath()) + ">",
			andMore(m.Recipients[0].Address, len(m.Recipients)), shown(m.Received.HeaderMessageId),
		}, "\t"))
		return err
	})
	if err != nil {
		return messages, err
	}
	if err := lines.Close(); err != nil {
		return messages, err
	}
	if !c.JSON && messages > 0 {
		fmt.Fprintf(t, "%d messages, %d recipients, %d octets\n", messages, recipients, size)
	}
	return messages, t.Flush()
}

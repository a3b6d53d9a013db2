package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"qstream/mail"
	"qstream/replay/then"
)

type explainMessageCmd struct {
	System
	ID   string `arg:"" help:"Message id, as the edge's 250 names it."`
	Then bool   `help:"Make each decision again by the directory as it was, and compare it with what was recorded; otherwise, also by the newest directory."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *explainMessageCmd) Run(ctx context.Context, p *Process) error {
	id := typedID(c.ID)
	made, ok := mail.IDTime(id)
	if !ok {
		return usagef("%s is no message id (26 letters and digits, as the edge's 250 names it)", mail.Printable(c.ID))
	}
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	// An id tells its time, less what the clocks of edge and broker differ by.
	m, err := then.Explain(ctx, b, id, then.Options{Since: made.Add(-time.Hour), Now: !c.Then})
	if errors.Is(err, then.ErrNoMessage) {
		return notFoundf("%w", err)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(p.Stdout, m)
	} else {
		c.print(p.Stdout, m)
	}
	if n := m.Differences(); err == nil && n > 0 {
		return fmt.Errorf("%d decisions are not what was recorded", n)
	}
	return err
}

func (c *explainMessageCmd) print(w io.Writer, m *then.Message) {
	fmt.Fprintf(w, "message %s from <%s>, decided by directory %s\n", m.ID, mail.Printable(m.ReversePath), numbers(m.Numbers))
	for _, d := range m.Decisions {
		what := d.Event
		if d.Attempt > 0 {
			what = fmt.Sprintf("%s, attempt %d", what, d.Attempt)
		}
		fmt.Fprintf(w, "\n%s  %s  <%s>, leg %d, directory %d\n", d.At.Format("2006-01-02 15:04:05.000"), what, mail.Printable(d.Recipient), d.Leg, d.Number)
		fmt.Fprintf(w, "  recorded  %s\n", mail.Printable(told(d.Recorded)))
		switch {
		case d.Result == then.Same:
			fmt.Fprintln(w, "  again     the same")
		case d.Again != nil:
			fmt.Fprintf(w, "  again     %s\n", mail.Printable(told(*d.Again)))
		}
		if d.Result != then.Same {
			fmt.Fprintf(w, "  %s: %s\n", strings.ToUpper(string(d.Result)), mail.Printable(d.Why))
		}
		if d.Now != nil {
			now := told(*d.Now)
			if d.Again != nil {
				again := *d.Again
				again.Due = "" // a time says nothing about today
				if *d.Now == again {
					now = "the same"
				}
			}
			fmt.Fprintf(w, "  today     %s\n", mail.Printable(now))
		}
		for i, step := range d.Steps {
			fmt.Fprintf(w, "    %d. %s\n", i+1, mail.Printable(step))
		}
	}
}

func numbers(ns []uint64) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ns), " ", ", "), "[]")
}

// told is an answer in a line.
func told(a then.Answer) string {
	if a.Refusal != "" {
		return "refused: " + a.Refusal
	}
	var parts []string
	for _, f := range []struct{ name, value string }{
		{"tenant", a.Tenant}, {"queue", a.Queue}, {"destination", a.Destination}, {"route", a.Route},
		{"scan policy", a.Scan}, {"finding", a.Finding}, {"action", a.Action}, {"due", a.Due},
	} {
		if f.value != "" {
			parts = append(parts, f.name+" "+f.value)
		}
	}
	if parts == nil {
		return "taken"
	}
	return strings.Join(parts, ", ")
}

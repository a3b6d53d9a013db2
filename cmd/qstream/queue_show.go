package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"
	"time"

	"qstream/control"
	"qstream/ledger"
	"qstream/mail"
)

// queueShowCmd shows one queue.
type queueShowCmd struct {
	Place
	Queue string `arg:"" help:"The queue's name."`
	JSON  bool   `name:"json" help:"Print JSON."`
}

func (c *queueShowCmd) Run(ctx context.Context, p *Process) error {
	var q ledger.Queue
	err := c.ask(ctx, "/v1/queue/show/"+url.PathEscape(c.Queue), nil, &q)
	if f := (failure{}); errors.As(err, &f) && f.code == exitNotFound {
		return notFoundf("there is no queue %s, and nothing waits in one", mail.Printable(c.Queue))
	}
	if err != nil {
		return err
	}
	stale(p.Stderr, q.Fresh)
	if c.JSON {
		return printJSON(p.Stdout, q)
	}
	return showQueue(p.Stdout, q, p.Now())
}

func showQueue(w io.Writer, q ledger.Queue, now time.Time) error {
	fmt.Fprintf(w, "queue %s", shown(q.Queue))
	if !q.Known {
		fmt.Fprint(w, " (no longer in the directory)")
	}
	fmt.Fprintf(w, ": %s, %s", plural(q.Total.Legs, "leg"), plural(q.Total.Recipients, "recipient"))
	if q.Total.Oldest != nil {
		fmt.Fprintf(w, ", the oldest %s", age(*q.Total.Oldest, now))
	}
	if r := q.Total.Rates; r != nil {
		fmt.Fprintf(w, "; a minute %s in, %s out, %s deferred", rate(r.In), rate(r.Out), rate(r.Deferred))
	}
	fmt.Fprintln(w)
	for _, s := range q.Suspensions {
		fmt.Fprintf(w, "suspended: %s since %s by %s %s\n",
			control.Scope{Tenant: mail.Printable(s.Tenant), Queue: mail.Printable(s.Queue), Destination: mail.Printable(s.Destination)},
			s.Since.Format(time.RFC3339), mail.Printable(s.Actor), mail.Printable(s.Reason))
	}
	if q.Total.Legs == 0 {
		return nil
	}
	for _, part := range []struct {
		by     string
		groups []ledger.Group
	}{{"place", q.Places}, {"tenant", q.Tenants}, {"destination", q.Destinations}} {
		if len(part.groups) == 0 {
			continue
		}
		fmt.Fprintln(w)
		if err := groupTable(w, []string{part.by}, part.groups, now); err != nil {
			return err
		}
	}
	return showReplies(w, q.Replies)
}

func showReplies(w io.Writer, replies []ledger.Reply) error {
	if len(replies) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nLEGS\tLAST REPLY")
	for _, r := range replies {
		fmt.Fprintf(t, "%d\t%s\n", r.Legs, shown(r.Text))
	}
	return t.Flush()
}

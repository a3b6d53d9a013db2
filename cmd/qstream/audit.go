package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"qstream/bus"
	"qstream/ledger/audit"
	"qstream/mail"
)

// auditCmd lets the ledger count unfinished mail against the events.
type auditCmd struct {
	System `embed:""`
	Tenant string   `placeholder:"NAME" help:"Only recipients of this tenant."`
	Since  duration `placeholder:"DURATION" help:"Only mail born this long ago or later, such as 24h (default: all)."`
	JSON   bool     `name:"json" help:"Print JSON."`
	Settle string   `placeholder:"ID" help:"End the missing recipients of this message as discarded: their loss is taken care of."`
	Reason string   `placeholder:"TEXT" help:"Why they are settled; it stands in the trace."`
}

// errNotBalanced makes exit code 1 of a report that is printed already.
var errNotBalanced = errors.New("the account of mail does not balance")

func (c *auditCmd) Run(ctx context.Context, p *Process) error {
	scope := url.Values{}
	if c.Tenant != "" {
		scope.Set("tenant", c.Tenant)
	}
	if c.Since > 0 {
		scope.Set("since", p.Now().Add(-time.Duration(c.Since)).UTC().Format(time.RFC3339))
	}
	c.Settle = typedID(c.Settle)
	switch {
	case c.Settle != "" && c.Reason == "":
		return usagef("--settle needs a --reason: it will stand in the message's trace")
	case c.Settle == "" && c.Reason != "":
		return usagef("--reason goes with --settle")
	}
	r, err := c.ask(ctx, scope)
	if err != nil {
		return err
	}
	if c.Settle != "" {
		return c.settle(ctx, p, r)
	}
	if c.JSON {
		err = json.NewEncoder(p.Stdout).Encode(r)
	} else {
		err = audit.Text(p.Stdout, r)
	}
	switch {
	case err != nil:
		return err
	case !r.Balanced:
		return errNotBalanced
	case c.Tenant != "" && len(r.Hours) == 0:
		// A misspelt name must not look like a tenant whose mail is all there.
		return notFoundf("no mail of tenant %s is known", mail.Printable(c.Tenant))
	}
	return nil
}

// settle publishes the ends of a message's missing recipients.
func (c *auditCmd) settle(ctx context.Context, p *Process, r *audit.Report) error {
	var ends []*bus.Record
	for _, f := range r.Findings {
		if f.What == audit.Missing && f.MessageID == c.Settle {
			e := bus.NewEvent(audit.Settle(f, actor(), c.Reason, p.Now()))
			ends = append(ends, &e)
		}
	}
	if len(ends) == 0 {
		return notFoundf("no recipient of %s is missing", mail.Printable(c.Settle))
	}
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := b.Publish(ctx, ends...); err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "settled %s: %d recipients\n", c.Settle, len(ends))
	return nil
}

// ask lets the ledger audit; it takes as long as it takes.
func (c *auditCmd) ask(ctx context.Context, scope url.Values) (*audit.Report, error) {
	if c.API == "" && c.Data == "" && len(c.Kafka) > 0 {
		return nil, usagef("the ledger audits: say where it answers by --api http://HOST:PORT")
	}
	var r audit.Report
	if err := c.exchange(ctx, http.MethodPost, audit.Path, scope, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
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
	if c.Settle != "" && c.Reason == "" {
		return usagef("--settle needs a --reason: it will stand in the message's trace")
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
	if err == nil && !r.Balanced {
		return errNotBalanced
	}
	return err
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
	base := c.API
	if base == "" && len(c.Kafka) > 0 && c.Data == "" {
		return nil, usagef("the ledger audits: say where it answers by --api http://HOST:PORT")
	}
	if base == "" {
		running, err := c.Find(ctx)
		if err != nil {
			return nil, err
		}
		base = "http://" + running.HTTP
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(base, "/")+audit.Path+"?"+scope.Encode(), nil)
	if err != nil {
		return nil, usagef("--api %s: %w", base, err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the ledger: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return nil, fmt.Errorf("ask the ledger: %s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	var r audit.Report
	if err := json.NewDecoder(res.Body).Decode(&r); err != nil {
		return nil, fmt.Errorf("read the ledger's answer: %w", err)
	}
	return &r, nil
}

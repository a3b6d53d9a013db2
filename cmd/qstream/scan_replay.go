package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"qstream/bus"
	"qstream/mail"
	"qstream/replay"
)

// scanReplayCmd has mail of the past scanned again.
type scanReplayCmd struct {
	System
	selectFlags
	offerFlags
	Reason string `placeholder:"TEXT" help:"Why; it stands in the audit."`
	DryRun bool   `help:"List what would be scanned, and scan nothing." xor:"what"`
	Show   string `placeholder:"JOB" help:"Tell what came of a job by now." xor:"what"`
	Resume string `placeholder:"JOB" help:"Go on with a job that ended before its end." xor:"what"`
}

// offerFlags are those of a run.
type offerFlags struct {
	Rate     float64  `placeholder:"N" default:"100" help:"Legs a second at the most that are offered to scanners; 0 for as fast as it goes (default: ${default})."`
	Patience duration `placeholder:"TIME" default:"6h" help:"Give a leg up that no engine gave a verdict on for so long; at most 20h (default: ${default})."`
	Wait     bool     `negatable:"" default:"true" help:"Wait until all is scanned, and report (default), or end when all is offered."`
	JSON     bool     `name:"json" help:"Print the report as JSON."`
}

func (c *scanReplayCmd) Run(ctx context.Context, p *Process) error {
	switch {
	case c.Show != "":
		return c.show(ctx, p)
	case c.Resume != "":
		return c.resume(ctx, p)
	}
	s, err := c.narrowed(p.Now())
	if err != nil {
		return err
	}
	if c.DryRun {
		list := replayListCmd{System: c.System, selectFlags: c.selectFlags, JSON: c.JSON}
		return list.Run(ctx, p)
	}
	if c.Reason == "" {
		return usagef("--reason: say why; it stands in the audit")
	}
	h, done, err := c.open(ctx, &c.System)
	if err != nil {
		return err
	}
	defer done()
	j := &replay.Job{ID: mail.NewID(p.Now()), Reason: c.Reason, Selection: s, Patience: time.Duration(c.Patience)}
	return c.offer(ctx, p, h, j)
}

func (c *scanReplayCmd) history(ctx context.Context) (*replay.History, func(), error) {
	b, err := c.System.Open(ctx)
	if err != nil {
		return nil, nil, err
	}
	return &replay.History{Bus: b, Pace: bus.Gently()}, b.Close, nil
}

func (c *scanReplayCmd) resume(ctx context.Context, p *Process) error {
	h, done, err := c.history(ctx)
	if err != nil {
		return err
	}
	defer done()
	j, err := h.Resume(ctx, c.Resume)
	switch {
	case errors.Is(err, replay.ErrNoJob):
		return notFoundf("%w", err)
	case err != nil:
		return err
	case j.Action != replay.ActionScan:
		return notFoundf("job %s doesn't scan: go on with qstream replay resume", mail.Printable(c.Resume))
	}
	return c.offer(ctx, p, h, j)
}

// offer runs a job and tells what came of it.
func (f offerFlags) offer(ctx context.Context, p *Process, h *replay.History, j *replay.Job) error {
	if f.Rate < 0 {
		return usagef("--rate %v: want a number of legs a second, or 0", f.Rate)
	}
	if j.Patience < 0 || j.Patience > replay.MaxPatience {
		return usagef("--patience: want at most 20h")
	}
	fmt.Fprintln(p.Stderr, "job", j.ID)
	told := progress{w: p.Stderr}
	j.Actor, j.Now, j.Rate = actor(), p.Now, f.Rate
	j.Offered = func(o replay.Offering) { told.say("%d legs offered", o.Offered+o.Before) }
	o, err := h.Offer(ctx, j)
	if err != nil {
		return errors.Join(err, fmt.Errorf("%d legs are offered; go on with: qstream scan replay --resume %s", o.Offered+o.Before, j.ID))
	}
	if o.Selected == 0 {
		return notFoundf("no message of the past is meant by that")
	}
	fmt.Fprintf(p.Stderr, "%d messages, %d recipients: %d legs offered; %d recipients in quarantine already, %d without mail delivered\n",
		o.Selected, o.Recipients, o.Offered+o.Before, o.Held, o.Ended)
	if !f.Wait {
		fmt.Fprintf(p.Stderr, "see what comes of it: qstream scan replay --show %s\n", j.ID)
		return nil
	}
	a := replay.NewAccount(j.ID)
	err = h.Await(ctx, a, o.Offered+o.Before, func(r replay.Results) {
		told.say("%d legs left, %d found bad, %d put off for want of a verdict", r.Left, r.Delivered+r.Waiting, r.Again)
	})
	if err != nil {
		return errors.Join(err, fmt.Errorf("scanning goes on; see what comes of it: qstream scan replay --show %s", j.ID))
	}
	if err := h.Fates(ctx, a); err != nil {
		return err
	}
	if err := h.Conclude(ctx, j, a.Results()); err != nil {
		return err
	}
	return f.report(p, a.Results(), a.Findings())
}

// show tells of a job, also of one whose records are gone.
func (c *scanReplayCmd) show(ctx context.Context, p *Process) error {
	if _, ok := mail.IDTime(c.Show); !ok {
		return usagef("%s: not a job's id", mail.Printable(c.Show))
	}
	h, done, err := c.history(ctx)
	if err != nil {
		return err
	}
	defer done()
	a := replay.NewAccount(c.Show)
	if err := h.Count(ctx, a); err != nil {
		return err
	}
	r := a.Results()
	if r.Offered == 0 {
		old, ok, err := h.Concluded(ctx, c.Show)
		if err != nil {
			return err
		}
		if !ok {
			return notFoundf("no offers of job %s are kept, and the audit doesn't tell its end", c.Show)
		}
		return c.report(p, old, nil)
	}
	if err := h.Fates(ctx, a); err != nil {
		return err
	}
	return c.report(p, a.Results(), a.Findings())
}

// errNotScanned ends a report that lacks something.
func errNotScanned(r replay.Results) error {
	if r.NotScanned > 0 {
		return fmt.Errorf("%d legs were not scanned: no engine gave a verdict, or their content can't be read", r.NotScanned)
	}
	return nil
}

func (f offerFlags) report(p *Process, r replay.Results, found []replay.Finding) error {
	if f.JSON {
		text, err := json.Marshal(struct {
			replay.Results
			Findings []replay.Finding `json:"findings"`
		}{r, append([]replay.Finding{}, found...)})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(p.Stdout, "%s\n", text); err != nil {
			return err
		}
		return errNotScanned(r)
	}
	if err := rescanTable(p.Stdout, r, found); err != nil {
		return err
	}
	return errNotScanned(r)
}

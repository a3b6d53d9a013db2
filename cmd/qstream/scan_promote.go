package main

import (
	"context"
	"errors"
	"fmt"

	"qstream/control"
	"qstream/directory"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// scanPromoteCmd makes a shadow the policy of a tenant or queue.
type scanPromoteCmd struct {
	System
	Tenant string  `placeholder:"NAME" help:"Of this tenant's mail." xor:"of"`
	Queue  string  `placeholder:"NAME" help:"Of this queue's mail, except that of tenants with a policy of their own." xor:"of"`
	Policy string  `placeholder:"NAME" help:"Refuse if the shadow is another policy than this."`
	DryRun bool    `help:"Check everything and show what would change, but change nothing."`
	Base   *uint64 `placeholder:"NUMBER" help:"Refuse if the directory isn't at this number (default: whatever it is at)."`
	Note   string  `placeholder:"TEXT" help:"Why, for the history."`
}

func (c *scanPromoteCmd) Run(ctx context.Context, p *Process) error {
	ref := directory.Ref{Kind: directory.KindTenant, Name: c.Tenant}
	if c.Queue != "" {
		ref = directory.Ref{Kind: directory.KindQueue, Name: c.Queue}
	}
	if ref.Name == "" {
		return usagef("say whose shadow is to be in force: --tenant or --queue")
	}
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := (scopeFlags{Tenant: c.Tenant, Queue: c.Queue}).known(ctx, b); err != nil {
		return err
	}
	s, err := directory.Read(ctx, b)
	if err != nil {
		return err
	}
	if c.Base != nil && *c.Base != s.Number {
		return fmt.Errorf("%w: it is at number %d, not %d", directory.ErrConflict, s.Number, *c.Base)
	}
	promotion, err := s.Promote(ref)
	switch {
	case errors.Is(err, directory.ErrNoShadow):
		return notFoundf("%w", err)
	case err != nil:
		return err
	case c.Policy != "" && c.Policy != promotion.Shadow:
		return fmt.Errorf("the shadow of %s is %s, not %s", ref, promotion.Shadow, mail.Printable(c.Policy))
	}
	said := fmt.Sprintf("%s: scan policy %s instead of %s", ref, promotion.Shadow, promotion.Live)
	if !c.DryRun {
		act := &pb.Act{AtMs: p.Now().UnixMilli(), Actor: actor(), Action: "scan promote", Job: mail.NewID(p.Now()), Reason: c.Note, Detail: said}
		if err := control.Audit(ctx, b, act); err != nil {
			return err
		}
	}
	note := "promoted"
	if c.Note != "" {
		note += ": " + c.Note
	}
	// What was promoted is what was read: a change meanwhile is a conflict.
	done, err := directory.Apply(ctx, b, directory.Change{Documents: []directory.Document{promotion.Document}}, directory.Options{
		Base: &s.Number, Actor: actor(), Note: note, DryRun: c.DryRun, Now: p.Now,
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(p.Stdout, said)
	(&applyCmd{DryRun: c.DryRun}).print(p.Stdout, done)
	if !c.DryRun {
		fmt.Fprintf(p.Stdout, "to undo: qstream get %s --number %d | qstream apply -\n", ref, s.Number)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"qstream/control"
	"qstream/mail"
	"qstream/replay/bundle"
	pb "qstream/schemas/qstream/v1"
)

// replayBundleCmd makes evidence of messages.
type replayBundleCmd struct {
	System
	selectFlags
	Key    string `required:"" placeholder:"FILE" type:"existingfile" help:"PEM file of the Ed25519 key that signs (openssl genpkey -algorithm ed25519)."`
	Chain  string `name:"checkpoint-key" placeholder:"FILE" type:"existingfile" help:"PEM file of the public key whose checkpoints of the log count (default: any)."`
	Reason string `required:"" placeholder:"TEXT" help:"Why; it stands in the bundle and in the audit."`
	To     string `arg:"" placeholder:"FILE" help:"The file that is made."`
}

func (c *replayBundleCmd) Run(ctx context.Context, p *Process) error {
	s, err := c.narrowed(p.Now())
	if err != nil {
		return err
	}
	key, err := bundle.ReadPrivateKey(c.Key)
	if err != nil {
		return usagef("--key: %w", err)
	}
	trust, err := trusted(c.Chain)
	if err != nil {
		return err
	}
	h, done, err := c.open(ctx, &c.System)
	if err != nil {
		return err
	}
	defer done()
	f, err := newFile(c.To)
	if err != nil {
		return err
	}
	act := &pb.Act{AtMs: p.Now().UnixMilli(), Actor: actor(), Action: "bundle", Job: mail.NewID(p.Now()), Reason: c.Reason, Detail: describe(s)}
	err = control.Audit(ctx, h.Bus, act)
	var m *bundle.Manifest
	if err == nil {
		m, err = bundle.Write(ctx, h, bundle.Order{
			Selection: s, Key: key, Trust: trust,
			Manifest: bundle.Manifest{Made: p.Now().UTC(), Actor: act.Actor, Reason: c.Reason},
		}, f)
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil && m.Messages == 0 {
		err = notFoundf("no message of the past is meant by that")
	}
	if err != nil {
		return errors.Join(err, os.Remove(c.To))
	}
	fmt.Fprintf(p.Stdout, "%s: %d messages, %d events, %d of %d records under a checkpoint, signed by key %s\n",
		c.To, m.Messages, m.Events, m.Proved, m.Proved+m.Unproved, bundle.Fingerprint(m.Key))
	return nil
}

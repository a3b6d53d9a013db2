package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"qstream/control"
	"qstream/mail"
	"qstream/replay"
	pb "qstream/schemas/qstream/v1"
)

// replayExportCmd writes messages out.
type replayExportCmd struct {
	System
	selectFlags
	Format string `default:"eml" enum:"eml,mbox,json" help:"eml: a file for each message in a new folder; mbox: one mailbox (mboxrd); json: a line for each message, the message in base64 (default: ${default})."`
	Reason string `placeholder:"TEXT" help:"Why; it stands in the audit."`
	To     string `arg:"" placeholder:"PATH" help:"The folder, or the file, that is made; - is standard output, for mbox and json."`
}

func (c *replayExportCmd) Run(ctx context.Context, p *Process) error {
	s, err := c.narrowed(p.Now())
	if err != nil {
		return err
	}
	if c.Format == "eml" && c.To == "-" {
		return usagef("--format eml makes a folder: name it, or take --format mbox or json")
	}
	h, done, err := c.open(ctx, &c.System)
	if err != nil {
		return err
	}
	defer done()
	out, finish, err := c.exporter(p)
	if err != nil {
		return err
	}
	// Who takes mail out is known before any of it is.
	act := &pb.Act{AtMs: p.Now().UnixMilli(), Actor: actor(), Action: "export", Job: mail.NewID(p.Now()), Reason: c.Reason, Detail: describe(s)}
	if err := control.Audit(ctx, h.Bus, act); err != nil {
		return errors.Join(err, finish())
	}
	n, lost, told := 0, 0, progress{w: p.Stderr}
	err = h.Select(ctx, s, func(m *replay.Message) error {
		err := out.Add(ctx, m)
		switch {
		case errors.Is(err, replay.ErrUnreadable): // one that is lost must not keep the others back
			lost++
			fmt.Fprintf(p.Stderr, "message %s is passed over: its content can't be read any more\n", m.ID())
			return nil
		case err != nil:
			return err
		}
		n++
		told.say("%d messages written", n)
		return nil
	})
	if err := errors.Join(err, out.Close(), finish()); err != nil {
		return fmt.Errorf("%d messages were written to %s: %w", n, c.To, err)
	}
	if lost > 0 {
		return fmt.Errorf("%d messages were written to %s, and %d passed over: their content can't be read any more", n, c.To, lost)
	}
	if n == 0 {
		return notFoundf("no message of the past is meant by that")
	}
	fmt.Fprintf(p.Stderr, "%d messages written to %s\n", n, c.To)
	return nil
}

// exporter is what writes, and what closes the file below it.
func (c *replayExportCmd) exporter(p *Process) (replay.Exporter, func() error, error) {
	nothing := func() error { return nil }
	if c.Format == "eml" {
		e, err := replay.NewFiles(c.To)
		return e, nothing, err
	}
	var w io.Writer = p.Stdout
	if c.To != "-" {
		f, err := newFile(c.To)
		if err != nil {
			return nil, nil, err
		}
		w, nothing = f, func() error { return errors.Join(f.Sync(), f.Close()) }
	}
	if c.Format == "mbox" {
		return replay.NewMbox(w), nothing, nil
	}
	return replay.NewLines(w, true), nothing, nil
}

// newFile makes a file that isn't there, for mail: nobody else reads it.
func newFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%s is there already; name another file", name)
	}
	return f, err
}

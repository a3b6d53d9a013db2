package main

import (
	"context"
	"errors"

	"qstream/bus"
	"qstream/replay"
)

// replayResumeCmd goes on with a job.
type replayResumeCmd struct {
	System
	redeliverFlags
	Job string `arg:"" help:"The job, as redeliver named it."`
}

func (c *replayResumeCmd) Run(ctx context.Context, p *Process) error {
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	h := &replay.History{Bus: b, Pace: bus.Gently()}
	j, err := h.Resume(ctx, c.Job)
	if errors.Is(err, replay.ErrNoJob) {
		return notFoundf("%w", err)
	}
	if err != nil {
		return err
	}
	if j.Action == replay.ActionScan {
		return notFoundf("job %s scans: go on with qstream scan replay --resume", j.ID)
	}
	return c.redeliver(ctx, p, h, j)
}

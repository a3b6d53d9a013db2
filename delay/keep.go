package delay

import (
	"context"
	"fmt"
	"io"
	"time"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// keepSlice is how many legs' content is copied between two turns for
// releases by the clock.
const keepSlice = 16

// ending reports whether content that is safe until then has to be copied.
func (d *Delay) ending(safe, now time.Time) bool {
	return !safe.IsZero() && !now.Before(safe.Add(-d.cfg.Margin))
}

// pullUnsafe copies the content of waiting legs that its topic won't keep for
// much longer: the legs are pulled and go back with the new reference.
func (d *Delay) pullUnsafe(ctx context.Context) {
	failed := d.keepFailed.Load()
	for ctx.Err() == nil {
		n := d.pull(ctx, "unsafe", unsafe(d.deps.Now(), d.cfg.Margin, keepSlice))
		if n == 0 || d.keepFailed.Load() > failed {
			return
		}
	}
}

// keep is a waiting leg's records with its content copied to hold. If that
// fails the leg goes back as it was, to be tried again by the next scan.
func (d *Delay) keep(ctx context.Context, m move, w world) []bus.Record {
	ref, err := d.copyContent(ctx, m.leg.Content)
	if err != nil {
		d.keepFailed.Add(1)
		d.metrics.kept.WithLabelValues("failed").Inc()
		d.deps.Log.Error("content of a waiting leg can't be copied before its topic drops it",
			"stage", stageName, "msg_id", m.leg.MessageId, "tenant", m.leg.Tenant, "queue", m.leg.Queue, "err", err)
		return m.records()
	}
	d.metrics.kept.WithLabelValues("copied").Inc()
	m.leg.Content = ref
	e := event(m.leg, pb.EventType_EVENT_TYPE_HELD, w)
	e.Size = ref.Size
	return append(m.records(), bus.NewEvent(e))
}

func (d *Delay) copyContent(ctx context.Context, ref *pb.ContentRef) (*pb.ContentRef, error) {
	from, err := d.deps.Bus.Open(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	defer from.Close()
	to := d.deps.Bus.Create(ctx, ref.MessageId, holdClass)
	if _, err := io.Copy(to, from); err != nil {
		to.Abort()
		return nil, fmt.Errorf("copy content to %s: %w", schemas.Hold, err)
	}
	c, err := to.Commit()
	if err != nil {
		return nil, fmt.Errorf("store content in %s: %w", schemas.Hold, err)
	}
	if c.GetRef() == nil {
		return nil, fmt.Errorf("store content in %s: it came back inline", schemas.Hold)
	}
	return c.GetRef(), nil
}

package delay

import (
	"context"
	"time"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// keepSlice is how many legs' content is copied between two turns for
// releases by the clock.
const keepSlice = 16

// Content is copied a day before its topic drops it, or earlier by a quarter
// where it is kept for less than four days, and looked for as often as that
// asks for. What the broker's topics keep is asked each time, since somebody may
// change it.
const (
	keepMargin = 24 * time.Hour
	keepScan   = time.Minute
)

// kept is for how long topics keep content; 0: for ever.
type kept struct {
	mail time.Duration // the shortest of the topics that mail comes in by
	hold time.Duration
}

func (k kept) of(e bus.Entry) time.Duration {
	if e.Kind&kindHeld != 0 {
		return k.hold
	}
	return k.mail
}

// ending reports whether an entry's content has to be copied by now.
func (k kept) ending(e bus.Entry, now time.Time) bool {
	kept := k.of(e)
	return kept > 0 && !now.Before(e.Content.Add(kept-margin(kept)))
}

// scan is the time until content has to be looked for again.
func (k kept) scan() time.Duration {
	if k.mail == 0 {
		return keepScan
	}
	return max(min(keepScan, margin(k.mail)/4), 100*time.Millisecond)
}

func margin(kept time.Duration) time.Duration { return min(keepMargin, kept/4) }

// kept is what the last scan found; nothing ends before it.
func (d *Delay) kept() kept {
	if k := d.keeps.Load(); k != nil {
		return *k
	}
	return kept{}
}

// retention asks the broker, so that what was configured there counts.
func (d *Delay) retention(ctx context.Context) (kept, error) {
	topics := []string{schemas.Received, schemas.Reinject}
	for _, class := range d.deps.Directory.Snapshot().ContentClasses() {
		topics = append(topics, schemas.Content(class))
	}
	var k kept
	for _, topic := range topics {
		r, err := d.deps.Bus.Retention(ctx, topic)
		if err != nil {
			return kept{}, err
		}
		if r > 0 && (k.mail == 0 || r < k.mail) {
			k.mail = r
		}
	}
	r, err := d.deps.Bus.Retention(ctx, schemas.Hold)
	k.hold = max(r, 0)
	return k, err
}

// pullUnsafe copies the content of waiting legs that its topic won't keep for
// much longer: the legs are pulled and go back with the new reference. It says
// when to look again.
func (d *Delay) pullUnsafe(ctx context.Context) time.Duration {
	k, err := d.retention(ctx)
	if err != nil {
		if ctx.Err() == nil {
			d.deps.Log.Error("retention of content is unknown", "stage", stageName, "err", err)
		}
		return keepScan / 10
	}
	d.keeps.Store(&k)
	failed := d.keepFailed.Load()
	for ctx.Err() == nil {
		n := d.pull(ctx, "unsafe", unsafe(k, d.deps.Now(), keepSlice))
		if n == 0 || d.keepFailed.Load() > failed {
			break
		}
	}
	return k.scan()
}

// keep is a waiting leg's records with its content copied to hold. If that
// fails the leg goes back as it was, to be tried again by the next scan.
func (d *Delay) keep(ctx context.Context, m move, w world) []bus.Record {
	ref, err := d.deps.Bus.Keep(ctx, m.leg.Content)
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

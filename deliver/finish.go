package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"qstream/bus"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport"
)

// outlast gives what follows an attempt the time it needs, also when the
// attempt itself ran out of it.
func outlast(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
}

// finish publishes everything that follows from a trip, at once.
func (d *Deliverer) finish(ctx context.Context, t *task, tr *trip) {
	since, suspended := d.deps.Control.State().Suspended(tr.plan.tenant, tr.leg.Queue, tr.leg.Destination)
	if over(tr.leg, tr.plan.queue, tr.ended, since, suspended) {
		tr.expire()
	}
	ctx, cancel := outlast(ctx)
	defer cancel()
	if tr.onlyExpires() && d.dead(ctx, t, tr) {
		return
	}
	rest := tr.rest()
	reports := d.reports(ctx, tr, rest)
	var out []bus.Record
	for _, e := range tr.events(rest) {
		out = append(out, bus.NewEvent(e))
	}
	out = append(out, reports...) // after what they are about, also for who reads along
	if rest != nil {
		out = append(out, bus.NewWaiting(waitTopic(rest, tr.ended), rest))
	}
	for _, f := range tr.fates {
		d.metrics.recipients.WithLabelValues(f.label()).Inc()
	}
	d.log(tr)
	t.job.Finish(out...)
}

// onlyExpires reports whether all recipients end with the leg's lifetime.
func (t *trip) onlyExpires() bool {
	return len(t.fates) > 0 && !slices.ContainsFunc(t.fates, func(f fate) bool { return !f.expired })
}

// dead ends a leg whose content can't be read when its lifetime is over as a
// dead record: unreadable content is our trouble and never bounces, and it may
// be found again.
func (d *Deliverer) dead(ctx context.Context, t *task, tr *trip) bool {
	r, err := d.content(tr.leg)(ctx)
	if err == nil {
		var start []byte
		if start, err = io.ReadAll(io.LimitReader(r, maxQuoted)); err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err = errors.Join(err, r.Close()); err == nil {
			tr.start = start
		}
	}
	if !errors.Is(err, bus.ErrContent) {
		return false
	}
	e := tr.event(pb.EventType_EVENT_TYPE_DEADLETTERED)
	e.Outcomes, e.Text = all(tr.leg.Recipients), "past its lifetime, and its content can't be read"
	t.job.Deadletter(fmt.Errorf("leg past its lifetime: %w", err), bus.NewEvent(e))
	return true
}

// endSpilled ends a spilled leg whose sender is told of the delay.
func (d *Deliverer) endSpilled(ctx context.Context, t *task, p plan, v view) {
	next := spilledLeg(t.leg, p, v, *t.sp)
	tr := t.trip(p, v)
	for _, r := range t.leg.Recipients {
		tr.fates = append(tr.fates, fate{rcpt: r, status: lastStatus(t.leg), kind: transport.Decided})
	}
	out := d.reports(ctx, tr, next)
	out = append(out, bus.NewWaiting(waitTopic(next, v.now), next), bus.NewEvent(spilledEvent(t.leg, next, p, v)))
	t.job.Finish(out...)
}

func (d *Deliverer) log(tr *trip) {
	l, attempt := tr.leg, tr.leg.Attempt
	if tr.attempted {
		attempt++
	}
	for _, f := range tr.fates {
		d.deps.Log.Info(f.label(), "stage", stageName, "msg_id", l.MessageId, "tenant", tr.plan.tenant, "queue", l.Queue,
			"destination", mail.Printable(l.Destination), "rcpt", mail.Printable(f.rcpt.Address),
			"host", mail.Printable(tr.host), "attempt", attempt, "code", f.status.Code, "reply", mail.Printable(f.status.Text))
	}
}

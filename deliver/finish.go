package deliver

import (
	"context"
	"time"

	"qstream/bus"
	"qstream/mail"
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
	rest := tr.rest()
	ctx, cancel := outlast(ctx)
	defer cancel()
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

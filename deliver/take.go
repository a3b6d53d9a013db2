package deliver

import (
	"fmt"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// task is a leg in hand.
type task struct {
	job  *bus.Job
	leg  *pb.Leg
	item *item
	// looked: whether it is owed an attempt was decided
	looked bool
	sp     *spill // spilled, and its sender is to be told of the delay
}

// take is given each record by the bus; it doesn't block.
func (d *Deliverer) take(job *bus.Job) {
	l, err := bus.ReadLeg(job.Record)
	if err != nil {
		d.metrics.poison.Inc()
		job.Deadletter(err)
		return
	}
	if d.seen.Repeated(job.Record, bus.LegIdentity(l)) {
		d.metrics.duplicates.Inc()
		d.deps.Log.Warn("repeated leg dropped", "stage", stageName, "msg_id", l.MessageId,
			"topic", job.Record.Topic, "partition", job.Record.Partition, "offset", job.Record.Offset)
		job.Finish()
		return
	}
	d.hold(&task{job: job, leg: l})
}

// hold gives a leg to the scheduler.
func (d *Deliverer) hold(t *task) {
	v := d.view()
	p := t.plan(v, d.fresh() == nil)
	t.line(p)
	d.mu.Lock()
	sp, spilled := d.scheduler.add(t.item)
	d.mu.Unlock()
	if spilled {
		d.spill(sp)
	}
	d.dispatch()
}

// line makes the leg's item. What an earlier owner delivered something of is
// settled: spilled, it would be delivered again.
func (t *task) line(p plan) {
	t.item = &item{
		tenant: p.tenant, queue: schemas.Queue(t.leg.Queue, t.leg.Generation), destination: t.leg.Destination,
		partition: fmt.Sprintf("%s %d", t.job.Record.Topic, t.job.Record.Partition),
		size:      len(t.job.Record.Value) + 1024, spills: t.leg.Spills,
		limits: limitsOf(p.queue), settle: p.action != toAttempt || len(t.job.Marks()) > 0,
		gone: revoked(t.job), value: t,
	}
}

// plan is what is to be done with a leg. One that came in time and is found too
// old at the first look by a clock that is known was kept from its attempt by
// an outage of ours: it is owed one, also while there is no room for it.
func (t *task) plan(v view, known bool) plan {
	p, l := planFor(t.leg, v), t.leg
	if t.looked || !known {
		return p
	}
	t.looked = true
	if p.action == toExpire && !l.Expired && t.job.Record.Time.Before(expires(l, p.queue)) ||
		p.action == toAttempt && neverTried(l) && !v.now.Before(expires(l, p.queue)) {
		l.Owed, l.Spills = true, 0
		p = planFor(l, v)
	}
	return p
}

func revoked(job *bus.Job) func() bool {
	return func() bool { return job.Revoked().Err() != nil }
}

// view is the world as it is now.
func (d *Deliverer) view() view {
	s := d.deps.Directory.Snapshot()
	return view{
		number: s.Number, decide: s.Decide, queue: s.Queue, tenant: s.Tenant,
		suspended: d.deps.Control.State().Suspended, resumed: d.deps.Control.State().Resumed,
		again: d.deps.Control.State().ScanAgain, now: d.deps.Now(),
	}
}

// spill sends a leg to delay without an attempt. A leg that is to be settled
// by now is; one whose sender is to be told of the delay is spilled beside the
// rings.
func (d *Deliverer) spill(sp spill) {
	t, v := sp.item.value.(*task), d.view()
	p := t.plan(v, true)
	told := late(t.leg, v.now, d.cfg.DelayAfter)
	if p.action == toAttempt {
		d.metrics.spills.WithLabelValues(whyNames[sp.why]).Inc()
		if !told {
			t.job.Finish(spillRecords(t.leg, p, v, sp)...)
			return
		}
		t.sp = &sp
	}
	t.item = &item{settle: true, gone: revoked(t.job), value: t}
	d.mu.Lock()
	d.scheduler.add(t.item)
	d.mu.Unlock()
}

// owedSpills is how often a leg past its lifetime comes back for the attempt
// that it is owed. A destination that is dead, or a queue on hold, owes none.
const owedSpills = 64

// spilledLeg is the leg as it waits.
func spilledLeg(l *pb.Leg, p plan, v view, sp spill) *pb.Leg {
	next := onward(l, p, v.number)
	next.Spills++
	next.Owed = l.Owed && sp.why == overShare && next.Spills <= owedSpills
	next.Reason = pb.Reason_REASON_BACKPRESSURE
	if sp.why == breakerOpen {
		next.Reason = pb.Reason_REASON_BREAKER
	}
	next.DueMs = inTime(sp.due, expires(l, p.queue), v.now).UnixMilli()
	return next
}

func spillRecords(l *pb.Leg, p plan, v view, sp spill) []bus.Record {
	next := spilledLeg(l, p, v, sp)
	return []bus.Record{bus.NewWaiting(waitTopic(next, v.now), next), bus.NewEvent(spilledEvent(l, next, p, v))}
}

func spilledEvent(l, next *pb.Leg, p plan, v view) *pb.Event {
	e := event(pb.EventType_EVENT_TYPE_SPILLED, l, p, v.number, v.now)
	e.Outcomes, e.DueMs, e.Reason = all(l.Recipients), next.DueMs, next.Reason
	return e
}

// parked is the leg of a suspended scope as it waits.
func parkedLeg(l *pb.Leg, p plan, v view) *pb.Leg {
	next := onward(l, p, v.number)
	next.Reason, next.DueMs, next.ParkedMs = pb.Reason_REASON_SUSPENDED, 0, p.since.UnixMilli()
	if p.held {
		next.Reason = pb.Reason_REASON_HELD
	}
	return next
}

func parkRecords(l *pb.Leg, p plan, v view) []bus.Record {
	next := parkedLeg(l, p, v)
	e := event(pb.EventType_EVENT_TYPE_PARKED, l, p, v.number, v.now)
	e.Outcomes, e.Reason = all(l.Recipients), next.Reason
	return []bus.Record{bus.NewWaiting(schemas.Parked, next), bus.NewEvent(e)}
}

// scanRecords bring a leg to where it is scanned first.
func scanRecords(l *pb.Leg, p plan, v view) []bus.Record {
	next := onward(p.marked(l), p, v.number)
	topic := schemas.LegTopic(p.decision.Scan, next)
	e := event(pb.EventType_EVENT_TYPE_RELEASED, l, p, v.number, v.now)
	e.Outcomes, e.Scan, e.Text = all(l.Recipients), &pb.Scan{State: next.Scan.State, Policy: next.Scan.Policy}, p.why()
	return []bus.Record{bus.NewLeg(topic, next), bus.NewEvent(e)}
}

func rerouteRecords(l *pb.Leg, p plan, v view) []bus.Record {
	e := event(pb.EventType_EVENT_TYPE_REROUTED, l, plan{tenant: l.Tenant}, v.number, v.now)
	e.Outcomes, e.Text = all(l.Recipients), p.why()
	return []bus.Record{bus.NewReinject(schemas.Reroute(p.marked(l), v.number)), bus.NewEvent(e)}
}

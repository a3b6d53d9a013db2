package scanner

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/directory"
	"qstream/directory/ruling"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// take is given each record by the bus; it doesn't block.
func (s *Scanner) take(job *bus.Job) {
	l, err := bus.ReadLeg(job.Record)
	if err != nil {
		s.metrics.poison.Inc()
		job.Deadletter(err)
		return
	}
	if s.seen.Repeated(job.Record, bus.LegIdentity(l)) {
		s.metrics.duplicates.Inc()
		s.deps.Log.Warn("repeated leg dropped", "stage", stageName, "msg_id", l.MessageId,
			"topic", job.Record.Topic, "partition", job.Record.Partition, "offset", job.Record.Offset)
		job.Finish()
		return
	}
	s.tasks.Go(func() { s.run(job, l) })
}

// run takes a leg to its end here.
func (s *Scanner) run(job *bus.Job, l *pb.Leg) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	defer context.AfterFunc(job.Revoked(), cancel)() // a scan has no point of no return
	lane, limit, ok := s.lane(l)
	if ctx.Err() != nil {
		return
	}
	if !ok {
		s.spill(job, l)
		return
	}
	if !s.slots.Enter(ctx, lane, limit) {
		return
	}
	defer s.slots.Leave(lane)
	snap, ok := s.snapshot(ctx, l)
	if !ok {
		if ctx.Err() == nil {
			job.Abandon()
		}
		return
	}
	held, ok := job.Begin(ctx)
	if !ok {
		return
	}
	defer context.AfterFunc(held, cancel)()
	if out, actions := s.end(ctx, job, l, snap); ctx.Err() == nil {
		for _, a := range actions {
			s.metrics.legs.WithLabelValues(a).Inc()
		}
		job.Finish(out...)
		return
	}
	job.Abandon()
}

// lane is whose slots a leg takes; ok is false if too much waits in it already.
func (s *Scanner) lane(l *pb.Leg) (name string, limit int, ok bool) {
	snap := s.deps.Directory.Snapshot()
	name, limit = l.Tenant+"\x00"+l.Queue, 1
	q, t := snap.Queue(l.Queue), snap.Tenant(l.Tenant)
	switch owed := snap.Scan(l.GetScan().GetOwed()); {
	case owed != nil:
		limit = owed.Concurrency
	case t != nil && snap.Scan(t.Scan) != nil:
		limit = snap.Scan(t.Scan).Concurrency
	case q != nil && snap.Scan(q.Scan) != nil:
		limit = snap.Scan(q.Scan).Concurrency
	}
	// In a queue of one tenant the rest of its flood waits in the topic, and
	// keeps nobody else's from being read.
	shared := q != nil && q.Shared
	return name, limit, !shared || s.slots.Waits(name) < spillAbove
}

// Of a shared queue's tenant no more legs wait here than this; what is above
// comes back later, so that it doesn't keep the others' from being read.
const (
	spillAbove = heldOfPart / 2
	spillFirst = 2 * time.Second
	spillLast  = 10 * time.Minute
)

// spill sends a leg to delay unscanned.
func (s *Scanner) spill(job *bus.Job, l *pb.Leg) {
	next, now := proto.CloneOf(l), s.deps.Now()
	due := now.Add(min(spillFirst<<min(l.Spills, 20), spillLast))
	next.Step++
	next.Spills++
	next.DueMs, next.Reason = due.UnixMilli(), pb.Reason_REASON_BACKPRESSURE
	e := plain(pb.EventType_EVENT_TYPE_SPILLED, next, l.Directory, now)
	e.DueMs, e.Reason = next.DueMs, next.Reason
	topic, _ := schemas.Delay(due.Sub(now))
	s.metrics.legs.WithLabelValues("spill").Inc()
	job.Finish(bus.NewWaiting(topic, next), bus.NewEvent(e))
}

// behind is how long a leg waits here for the directory that decided it.
const behind = 5 * time.Second

// snapshot is the newest one, at least that a leg was decided with: by an
// older one it might pass unscanned.
func (s *Scanner) snapshot(ctx context.Context, l *pb.Leg) (*directory.Snapshot, bool) {
	wait, cancel := context.WithTimeout(ctx, behind)
	defer cancel()
	for {
		changed := s.deps.Directory.Changed()
		snap := s.deps.Directory.Snapshot()
		if snap.Number >= l.Directory {
			return snap, true
		}
		select {
		case <-changed:
		case <-wait.Done():
			if ctx.Err() == nil {
				s.deps.Log.Warn("directory is behind a leg", "stage", stageName, "msg_id", l.MessageId, "number", snap.Number, "wanted", l.Directory)
			}
			return nil, false
		}
	}
}

// end is what becomes of a leg.
func (s *Scanner) end(ctx context.Context, job *bus.Job, l *pb.Leg, snap *directory.Snapshot) (out []bus.Record, actions []string) {
	began := s.deps.Now()
	first, same := directory.Resolve(l, snap.Decide)
	switch {
	case l.Refusal != nil || l.Expired: // to be settled: that needs no verdict
		return []bus.Record{bus.NewLeg(schemas.Queue(l.Queue, l.Generation), onward(l, snap))}, []string{"settle"}
	case !same:
		next := onward(l, snap)
		e := plain(pb.EventType_EVENT_TYPE_REROUTED, next, snap.Number, began)
		return []bus.Record{bus.NewReinject(schemas.Reroute(next, snap.Number)), bus.NewEvent(e)}, []string{"reroute"}
	}
	next := onward(l, snap)
	next.Tenant, next.Route = first.Tenant, first.Route
	if owed := next.GetScan().GetOwed(); owed != "" && snap.Scan(owed) == nil {
		s.deps.Log.Warn("policy of a rule is gone", "stage", stageName, "msg_id", l.MessageId, "tenant", l.Tenant, "queue", l.Queue, "policy", owed)
		next.Scan.Owed = ""
	}
	topic := schemas.LegTopic(first.Scan, next)
	if topic == schemas.Queue(l.Queue, l.Generation) { // nobody wants it scanned any more
		e := plain(pb.EventType_EVENT_TYPE_RELEASED, next, snap.Number, began)
		return []bus.Record{bus.NewLeg(topic, next), bus.NewEvent(e)}, []string{"unwanted"}
	}
	l.Tenant, l.Route, l.Scan = next.Tenant, next.Route, next.Scan
	sc := scene{snap: snap, policy: snap.Scan(next.Scan.Policy), own: first.Scan, queue: first.Queue, stored: job.Record.Time, began: began}
	a := s.ask(ctx, l, snap, sc.policy)
	if ctx.Err() != nil {
		return nil, nil
	}
	sc.now = s.deps.Now()
	s.log(l, a)
	if ruling.Waiting(a.rulings) {
		return wait(l, a, sc), []string{directory.ActWait}
	}
	if first.Shadow != "" && sc.policy.Name == first.Scan { // not a rule's: the leg's own is still to be asked
		s.shadow.offer(l, a, sc, first.Shadow)
	}
	return conclude(l, a, sc)
}

// onward is a leg's next step.
func onward(l *pb.Leg, snap *directory.Snapshot) *pb.Leg {
	next := proto.CloneOf(l)
	next.Step++
	next.Directory = snap.Number
	return next
}

func (s *Scanner) log(l *pb.Leg, a answer) {
	for _, v := range a.verdicts {
		s.deps.Log.Info("scanned", "stage", stageName, "msg_id", l.MessageId, "tenant", l.Tenant, "queue", l.Queue,
			"engine", v.Engine, "outcome", v.Outcome.String(), "reason", v.Reason.String(), "found", v.Name)
	}
}

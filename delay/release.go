package delay

import (
	"time"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// world is what a release depends on besides the leg.
type world struct {
	number    uint64 // of the snapshot
	decide    func(directory.Question) directory.Decision
	queue     func(name string) *directory.Queue // nil: no such queue
	scan      func(name string) *directory.ScanPolicy
	orders    func(control.Held) []control.Order // about the quarantine, the newest first
	suspended func(tenant, queue, destination string) (since time.Time, ok bool)
	resumed   func(tenant, queue, destination string, born time.Time) bool // asked of held legs
	again     func(messageID string, of []*pb.Recipient) (number uint64, ok bool)
	flushed   func(*pb.Leg) bool // a flush that runs covers the leg
	now       time.Time
}

// fate is what became of a waiting leg.
type fate string

const (
	fateReleased fate = "released" // to its queue, to be attempted
	fateExpired  fate = "expired"  // to its queue, to be settled
	fateRerouted fate = "rerouted" // ended; its message went to reinject
	fateParked   fate = "parked"   // its scope is suspended
	fateKept     fate = "kept"     // was parked and remains so
	fateRound    fate = "round"    // waits on: not due yet
	fateDropped  fate = "dropped"  // discarded: kept in quarantine for long enough
)

// waits reports whether the leg is still in delay or parked.
func (f fate) waits() bool { return f == fateParked || f == fateKept || f == fateRound }

// move is the outcome of a release: a leg for a topic, or a message put in
// again, and the event that tells of it (none when the leg just waits on).
type move struct {
	fate     fate
	topic    string
	leg      *pb.Leg
	reinject *pb.Reinject
	event    *pb.Event
}

// release decides what becomes of a leg that is due, or that was pulled. It is
// pure: it changes l, and nothing else.
func release(l *pb.Leg, parked bool, w world) move {
	first, same := directory.Resolve(l, w.decide)
	tenant := l.Tenant
	if same {
		tenant = first.Tenant
	}
	since, suspended := w.holds(l, tenant, l.Queue, l.Destination)
	since = stoppedSince(l, parked, since, suspended)
	stopped := time.Duration(l.StoppedMs) * time.Millisecond
	if !since.IsZero() {
		stopped += max(w.now.Sub(since), 0)
	}
	past, owing := pastLifetime(l, parked, stopped, w)
	if past && owing && parked && suspended {
		// Beyond the hold expiry of what is held back no attempt can be made.
		l.Owed, owing = false, false
	}
	if past && !owing {
		schemas.LetGo(l)
		return toQueue(l, stopped, "", w)
	}
	if !same {
		return rerouted(l, w.movedStop(l, first, since, stopped), w)
	}
	l.Tenant, l.Route = first.Tenant, first.Route
	if m, ok := again(l, first, stopped, w); ok {
		return m
	}
	if suspended {
		return park(l, parked, since, w)
	}
	if !parked && l.DueMs > w.now.UnixMilli() && !owing && !w.flushed(l) {
		return round(l, w)
	}
	schemas.LetGo(l)
	return toQueue(l, stopped, schemas.LegTopic(first.Scan, l), w)
}

// holds reports whether a leg would be held back in a scope, and since when.
func (w world) holds(l *pb.Leg, tenant, queue, destination string) (since time.Time, ok bool) {
	since, ok = w.suspended(tenant, queue, destination)
	if born := time.UnixMilli(l.BornMs); !ok && schemas.Held(l) && !w.resumed(tenant, queue, destination, born) {
		return born, true
	}
	return since, ok
}

// stoppedSince is from when on the leg's lifetime stands still, beyond what
// it already carries; zero: it doesn't.
func stoppedSince(l *pb.Leg, parked bool, since time.Time, suspended bool) time.Time {
	switch {
	case parked && l.ParkedMs > 0:
		return time.UnixMilli(l.ParkedMs)
	case suspended:
		return latest(since, time.UnixMilli(l.BornMs))
	}
	return time.Time{}
}

// pastLifetime reports whether the leg is past its lifetime, and whether it is
// owed one attempt more, because it was never attempted, or was due in time
// and only we were late. An attempt that is owed is owed once: it is marked.
func pastLifetime(l *pb.Leg, parked bool, stopped time.Duration, w world) (past, owing bool) {
	q := directory.LiveQueue(l, w.queue)
	if q == nil {
		return false, false
	}
	expires := q.Expires(time.UnixMilli(l.BornMs), stopped, l.ReversePath == "")
	if w.now.Before(expires) {
		return false, false
	}
	if l.Owed { // deliver leaves the mark where it had no room for the attempt
		return true, l.Reason == pb.Reason_REASON_BACKPRESSURE
	}
	never := l.Attempt == 0 && l.Spills == 0
	late := !parked && l.DueMs > 0 && l.DueMs < expires.UnixMilli()
	l.Owed = never || late
	return true, l.Owed
}

// movedStop is the stopped time that a rerouted leg carries on. Where its new
// scope is suspended too, the time from that suspension on is counted when the
// new leg is released from there.
func (w world) movedStop(l *pb.Leg, first directory.Decision, since time.Time, stopped time.Duration) time.Duration {
	if since.IsZero() || first.Queue == nil {
		return stopped
	}
	next, ok := w.holds(l, first.Tenant, first.Queue.Name, first.Destination)
	if !ok {
		return stopped
	}
	return time.Duration(l.StoppedMs)*time.Millisecond + max(next.Sub(since), 0)
}

// toQueue brings a leg to a topic where it is attempted, or scanned first; no
// topic: to its queue as expired, to be settled.
func toQueue(l *pb.Leg, stopped time.Duration, topic string, w world) move {
	due, expired := l.DueMs, topic == ""
	if expired {
		topic = schemas.Queue(l.Queue, l.Generation)
	}
	l.Step++
	l.StoppedMs, l.ParkedMs, l.DueMs = stopped.Milliseconds(), 0, 0
	l.Expired, l.Directory = expired, w.number
	m := move{fate: fateReleased, topic: topic, leg: l, event: event(l, pb.EventType_EVENT_TYPE_RELEASED, w)}
	m.event.DueMs = due
	if !expired && l.Scan.GetState() == pb.ScanState_SCAN_STATE_WANTED {
		m.event.Scan = &pb.Scan{State: l.Scan.State, Policy: l.Scan.Policy}
	}
	if expired {
		m.fate, m.event.Text = fateExpired, "past its lifetime"
	}
	return m
}

func rerouted(l *pb.Leg, stopped time.Duration, w world) move {
	l.Step++
	l.StoppedMs = stopped.Milliseconds()
	return move{fate: fateRerouted, reinject: schemas.Reroute(l, w.number),
		event: event(l, pb.EventType_EVENT_TYPE_REROUTED, w)}
}

func park(l *pb.Leg, parked bool, since time.Time, w world) move {
	l.Step++
	l.ParkedMs, l.DueMs, l.Reason, l.Owed = since.UnixMilli(), 0, pb.Reason_REASON_SUSPENDED, false
	if schemas.Held(l) && !w.resumed(l.Tenant, l.Queue, l.Destination, time.UnixMilli(l.BornMs)) {
		l.Reason = pb.Reason_REASON_HELD
	}
	m := move{fate: fateKept, topic: schemas.Parked, leg: l}
	if !parked {
		m.fate, m.event = fateParked, event(l, pb.EventType_EVENT_TYPE_PARKED, w)
	}
	return m
}

// round is another wait for a leg that isn't due, without an event.
func round(l *pb.Leg, w world) move {
	l.Step++
	l.Reason = pb.Reason_REASON_ROUND
	topic, _ := schemas.Delay(time.UnixMilli(l.DueMs).Sub(w.now))
	return move{fate: fateRound, topic: topic, leg: l}
}

// event tells of a leg after its step was counted.
func event(l *pb.Leg, t pb.EventType, w world) *pb.Event {
	e := &pb.Event{
		Type: t, AtMs: w.now.UnixMilli(), MessageId: l.MessageId, Leg: l.Number, Step: l.Step,
		Tenant: l.Tenant, Queue: l.Queue, Destination: l.Destination, Route: l.Route,
		Attempt: l.Attempt, Reason: l.Reason, Directory: w.number,
		ReversePath: l.ReversePath, HeaderMessageId: l.HeaderMessageId, Stage: stageName,
	}
	for _, r := range l.Recipients {
		e.Outcomes = append(e.Outcomes, &pb.Outcome{Number: r.Number, Address: r.Address})
	}
	return e
}

// records are what the move puts on the topics.
func (m move) records() []bus.Record {
	var out []bus.Record
	switch {
	case m.fate == fateDropped:
	case m.fate.waits() && m.topic == schemas.Quarantine:
		out = append(out, bus.NewQuarantined(m.leg))
	case m.reinject != nil:
		out = append(out, bus.NewReinject(m.reinject))
	case m.fate.waits():
		out = append(out, bus.NewWaiting(m.topic, m.leg))
	default:
		out = append(out, bus.NewLeg(m.topic, m.leg))
	}
	if m.event != nil {
		out = append(out, bus.NewEvent(m.event))
	}
	return out
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

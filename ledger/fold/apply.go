package fold

import (
	"cmp"
	"strings"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// At is where an event stands in the events topic, and how many events the
// view has folded with it.
type At struct {
	Partition int32
	Offset    int64
	Seq       int64
}

// ends are the events that end recipients.
var ends = map[pb.EventType]State{
	pb.EventType_EVENT_TYPE_DELIVERED: Delivered,
	pb.EventType_EVENT_TYPE_BOUNCED:   Bounced,
	pb.EventType_EVENT_TYPE_EXPIRED:   Expired,
	pb.EventType_EVENT_TYPE_DISCARDED: Discarded,
}

// moves are the events that bring a leg, or leave it, where it then is.
var moves = map[pb.EventType]Place{
	pb.EventType_EVENT_TYPE_ROUTED:       Queue,
	pb.EventType_EVENT_TYPE_RELEASED:     Queue,
	pb.EventType_EVENT_TYPE_DEFERRED:     Delay,
	pb.EventType_EVENT_TYPE_SPILLED:      Delay,
	pb.EventType_EVENT_TYPE_PARKED:       Parked,
	pb.EventType_EVENT_TYPE_REROUTED:     Reinject,
	pb.EventType_EVENT_TYPE_DEADLETTERED: Deadletter,
	pb.EventType_EVENT_TYPE_SCANNED:      Queue,
	pb.EventType_EVENT_TYPE_QUARANTINED:  Quarantine,
	pb.EventType_EVENT_TYPE_UNSCANNED:    Delay,
}

// placed is where a move leads: on its way to a queue a leg may have to be
// scanned first.
func placed(e *pb.Event, place Place) Place {
	if place == Queue && e.Scan.GetState() == pb.ScanState_SCAN_STATE_WANTED {
		return Scan
	}
	return place
}

// Apply folds an event about the message. It returns false if it repeats
// another, which changes nothing.
func (m *Message) Apply(e *pb.Event, at At, r *Rates) bool {
	k := mark{Partition: at.Partition, Offset: at.Offset, Type: e.Type, Leg: e.Leg, Step: e.Step, First: -1}
	if len(e.Outcomes) > 0 {
		k.First = int64(e.Outcomes[0].Number)
	}
	if !m.Told.add(k) {
		return false
	}
	m.describe(e)
	if state, ok := ends[e.Type]; ok {
		m.end(e, at, state, r)
	} else if place, ok := moves[e.Type]; ok {
		m.move(e, at, placed(e, place), r)
	} else {
		m.tell(e, at)
	}
	m.sweep()
	return true
}

// describe takes what an event tells about the message itself.
func (m *Message) describe(e *pb.Event) {
	m.changed = true
	if m.Opened == Unopened {
		switch {
		case e.Type == pb.EventType_EVENT_TYPE_ACCEPTED:
			m.Opened = Accepted
		case schemas.Generated(e.Origin):
			m.Opened = Generated
		}
	}
	// Later ones don't count: legs that aren't at hand carry the time too.
	if e.Type == pb.EventType_EVENT_TYPE_ACCEPTED && e.AtMs > 0 && m.Told.Len() == 1 {
		m.BornMs = e.AtMs
		m.known(Unrouted)
	}
	if m.ReversePath == "" {
		m.ReversePath = bounded(e.ReversePath)
	}
	if m.HeaderID == "" {
		m.HeaderID = bounded(e.HeaderMessageId)
	}
	if m.Size == 0 {
		m.Size = e.Size
	}
	if parent, ok := ParseID(e.ParentId); ok && parent != m.ID {
		m.Parent = parent
	}
}

// opens is how recipients come to be that an event names first.
func (m *Message) opens(e *pb.Event) Opened {
	switch {
	case e.Type == pb.EventType_EVENT_TYPE_ACCEPTED:
		return Accepted
	case m.Opened == Generated:
		return Generated
	}
	return Unopened
}

// move takes a leg, and the recipients that the event names, to a place.
func (m *Message) move(e *pb.Event, at At, place Place, rates *Rates) {
	number := int64(e.Leg)
	for _, o := range e.Outcomes {
		r := m.recipient(o, m.opens(e))
		r.touch(e, at)
		if r.State != Open {
			continue
		}
		r.Tenant = e.Tenant
		m.attach(r, number)
	}
	l := m.known(number)
	if l == nil || l.Recipients == 0 {
		return // all of it had ended: told late, or twice
	}
	l.take(e, at)
	l.Place, l.SinceMs, l.DueMs, l.Reason = place, e.AtMs, 0, pb.Reason_REASON_UNSPECIFIED
	switch e.Type {
	case pb.EventType_EVENT_TYPE_ROUTED:
		l.Size, l.Report = e.Size, e.ReversePath == ""
		rates.came(e)
	case pb.EventType_EVENT_TYPE_REROUTED:
		rates.left(e)
	case pb.EventType_EVENT_TYPE_DEFERRED:
		rates.deferred(e)
	}
	if place == Delay || place == Parked || place == Quarantine {
		l.DueMs, l.Reason = e.DueMs, e.Reason
	}
	l.reply(e)
}

// end ends the recipients that the event names.
func (m *Message) end(e *pb.Event, at At, state State, rates *Rates) {
	for _, o := range e.Outcomes {
		r := m.recipient(o, m.opens(e))
		r.touch(e, at)
		r.Ends++
		if r.State != Open {
			continue
		}
		if r.Tenant == "" {
			r.Tenant = e.Tenant
		}
		r.State, r.EndedMs = state, e.AtMs
		if l := m.known(r.Leg); l != nil {
			l.Recipients--
			l.Offset, l.Seq = at.Offset, at.Seq
			if l.Recipients == 0 && l.Number >= 0 {
				rates.left(e)
			}
		}
		// A recipient whose leg nobody told of ended in this one.
		r.Leg = int64(e.Leg)
	}
}

// tell folds an event that moves and ends nothing.
func (m *Message) tell(e *pb.Event, at At) {
	if e.Type == pb.EventType_EVENT_TYPE_ACCEPTED {
		for _, o := range e.Outcomes {
			m.recipient(o, Accepted).touch(e, at)
		}
		if l := m.known(Unrouted); l != nil {
			l.User = bounded(e.GetSession().GetAuthUser())
		}
		return
	}
	if l := m.known(int64(e.Leg)); l != nil && e.Type == pb.EventType_EVENT_TYPE_ATTEMPTED {
		l.Attempt, l.Host, l.Offset, l.Seq = e.Attempt, bounded(e.Host), at.Offset, at.Seq
	}
}

// attach takes an open recipient to a leg, from the one it was in.
func (m *Message) attach(r *Recipient, number int64) {
	if r.Leg == number {
		return
	}
	user := ""
	if from := m.known(r.Leg); from != nil {
		from.Recipients--
		user = from.User
	}
	r.Leg = number
	l := m.leg(number)
	l.Recipients++
	l.User = cmp.Or(l.User, user)
}

func (r *Recipient) touch(e *pb.Event, at At) {
	r.Last, r.LastMs, r.Offset, r.Seq = e.Type, e.AtMs, at.Offset, at.Seq
}

// take is what every event about a leg tells of it.
func (l *Leg) take(e *pb.Event, at At) {
	l.Tenant, l.Queue, l.Destination = e.Tenant, e.Queue, bounded(e.Destination)
	l.Step, l.Attempt, l.Offset, l.Seq = e.Step, e.Attempt, at.Offset, at.Seq
}

// reply keeps the last reply, of the first recipient that has one.
func (l *Leg) reply(e *pb.Event) {
	if e.Host != "" {
		l.Host = bounded(e.Host)
	}
	switch e.Type {
	case pb.EventType_EVENT_TYPE_DEADLETTERED, pb.EventType_EVENT_TYPE_UNSCANNED, pb.EventType_EVENT_TYPE_QUARANTINED:
		l.Code, l.Reply = 0, bounded(e.Text)
	}
	for _, o := range e.Outcomes {
		if s := o.Status; s != nil {
			l.Code, l.Reply = s.Code, bounded(strings.TrimSpace(s.Enhanced+" "+s.Text))
			return
		}
	}
}

// sweep forgets legs without open recipients. What a store has is forgotten
// there, and until then looks like new.
func (m *Message) sweep() {
	kept := m.Legs[:0]
	for _, l := range m.Legs {
		if l.Recipients == 0 && l.stored {
			l = Leg{Number: l.Number, SinceMs: m.BornMs, stored: true, changed: true, was: l.was}
		}
		if l.Recipients > 0 || l.stored {
			kept = append(kept, l)
		}
	}
	m.Legs = kept
}

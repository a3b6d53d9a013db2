package trace

import (
	"slices"
	"time"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Life is what became of one message.
type Life struct {
	ID         string
	Parent     string    // the message that this one was made of or is about
	Origin     pb.Origin // how
	Events     []*pb.Event
	Recipients []*Recipient // by number
	Children   []*Life      // DSNs about it, and replays of it

	seen map[string]bool // event ids: a repetition is dropped
}

// State is where a recipient stands.
type State string

// States of a recipient; the last six are final.
const (
	Accepted     State = "accepted"
	Queued       State = "queued"
	Deferred     State = "deferred"
	Spilled      State = "waiting for a slot"
	Parked       State = "suspended"
	Rerouted     State = "being rerouted"
	Scanning     State = "waiting to be scanned"
	Unscanned    State = "waiting for an engine"
	Quarantined  State = "in quarantine"
	Delivered    State = "delivered"
	Bounced      State = "bounced"
	Expired      State = "expired"
	Discarded    State = "discarded"
	Deadlettered State = "in the deadletter topic"
	Expanded     State = "expanded"
)

// states are what events with outcomes say about their recipients.
var states = map[pb.EventType]State{
	pb.EventType_EVENT_TYPE_ACCEPTED:     Accepted,
	pb.EventType_EVENT_TYPE_ROUTED:       Queued,
	pb.EventType_EVENT_TYPE_RELEASED:     Queued,
	pb.EventType_EVENT_TYPE_DEFERRED:     Deferred,
	pb.EventType_EVENT_TYPE_SPILLED:      Spilled,
	pb.EventType_EVENT_TYPE_PARKED:       Parked,
	pb.EventType_EVENT_TYPE_REROUTED:     Rerouted,
	pb.EventType_EVENT_TYPE_DELIVERED:    Delivered,
	pb.EventType_EVENT_TYPE_BOUNCED:      Bounced,
	pb.EventType_EVENT_TYPE_EXPIRED:      Expired,
	pb.EventType_EVENT_TYPE_DISCARDED:    Discarded,
	pb.EventType_EVENT_TYPE_DEADLETTERED: Deadlettered,
	pb.EventType_EVENT_TYPE_EXPANDED:     Expanded,
	pb.EventType_EVENT_TYPE_SCANNED:      Queued,
	pb.EventType_EVENT_TYPE_QUARANTINED:  Quarantined,
	pb.EventType_EVENT_TYPE_UNSCANNED:    Unscanned,
}

// Final reports whether nothing more happens.
func (s State) Final() bool {
	switch s {
	case Delivered, Bounced, Expired, Discarded, Expanded:
		return true
	}
	return false
}

// Recipient is the fate of one recipient.
type Recipient struct {
	Number  uint32
	Address string
	State   State
	At      time.Time // of the state
	Due     time.Time // of the next attempt, when it waits
	Status  *pb.Status
	Host    string
	Queue   string
}

func newLife(id string) *Life { return &Life{ID: id, seen: map[string]bool{}} }

func (l *Life) add(e *pb.Event) {
	if e.Id != "" && l.seen[e.Id] {
		return
	}
	l.seen[e.Id] = true
	l.Events = append(l.Events, e)
	if schemas.Generated(e.Origin) && e.ParentId != "" {
		l.Parent, l.Origin = e.ParentId, e.Origin
	}
	if _, ok := states[e.Type]; !ok {
		return
	}
	for _, o := range e.Outcomes {
		l.recipient(o).take(e, o)
	}
}

func (l *Life) recipient(o *pb.Outcome) *Recipient {
	i, ok := slices.BinarySearchFunc(l.Recipients, o.Number, func(r *Recipient, n uint32) int {
		return int(int64(r.Number) - int64(n))
	})
	if !ok {
		l.Recipients = slices.Insert(l.Recipients, i, &Recipient{Number: o.Number, Address: o.Address})
	}
	return l.Recipients[i]
}

// take moves the recipient on. What is final stays: events of different
// writers may be out of order by little.
func (r *Recipient) take(e *pb.Event, o *pb.Outcome) {
	if r.State.Final() {
		return
	}
	r.State, r.At, r.Due = states[e.Type], time.UnixMilli(e.AtMs).UTC(), time.Time{}
	if r.State == Queued && e.Scan.GetState() == pb.ScanState_SCAN_STATE_WANTED {
		r.State = Scanning
	}
	if e.DueMs > 0 && (r.State == Deferred || r.State == Spilled || r.State == Unscanned || r.State == Quarantined) {
		r.Due = time.UnixMilli(e.DueMs).UTC()
	}
	if e.Queue != "" {
		r.Queue = e.Queue
	}
	if o.Status != nil {
		r.Status, r.Host = o.Status, e.Host
	}
}

// first is the event that tells most about the message itself.
func (l *Life) first() *pb.Event {
	for _, e := range l.Events {
		if e.Type == pb.EventType_EVENT_TYPE_ACCEPTED {
			return e
		}
	}
	if len(l.Events) == 0 {
		return &pb.Event{}
	}
	return l.Events[0]
}

package replay

import (
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// ends are the events that end a recipient, and what they are called.
var ends = map[pb.EventType]string{
	pb.EventType_EVENT_TYPE_DELIVERED: Delivered,
	pb.EventType_EVENT_TYPE_BOUNCED:   Bounced,
	pb.EventType_EVENT_TYPE_EXPIRED:   Expired,
	pb.EventType_EVENT_TYPE_DISCARDED: Discarded,
}

// told is what the events say of recipients that may be meant.
type told struct {
	selection Selection
	limit     int
	of        map[recipient]string // its outcome; Waiting before one
	places    map[recipient]*place // where it is, or ended; nil: nobody asks
	shared    map[place]*place     // of many recipients
	said      map[recipient]bool   // scanning said last what is meant
}

// verdict is what scanning came to.
type verdict struct{ finding, action string }

// judges are the events that tell what scanning came to, where it came to
// anything: an accepted event of the edge's, the others of a leg's.
var judges = []pb.EventType{
	pb.EventType_EVENT_TYPE_ACCEPTED, pb.EventType_EVENT_TYPE_SCANNED, pb.EventType_EVENT_TYPE_QUARANTINED,
	pb.EventType_EVENT_TYPE_DISCARDED, pb.EventType_EVENT_TYPE_FOUND_BAD,
}

type recipient struct {
	id     ulid.ULID
	number uint32
}

// take folds a record of the events topic; garbage tells nothing.
func (t *told) take(r bus.Record) error {
	var e pb.Event
	if proto.Unmarshal(r.Value, &e) != nil {
		return nil
	}
	return t.fold(&e)
}

func (t *told) fold(e *pb.Event) error {
	// An accepted event names recipients of every tenant, and no leg.
	accepted := e.Type == pb.EventType_EVENT_TYPE_ACCEPTED
	if !accepted && !t.selection.scope(e) || !t.selection.ids(e.MessageId) || t.never(e) {
		return nil
	}
	if err := t.judged(e); err != nil || accepted {
		return err
	}
	outcome, ended := ends[e.Type]
	bad := e.Type == pb.EventType_EVENT_TYPE_FOUND_BAD
	if beside(e) && !bad {
		return nil
	}
	if !ended && !t.asksWaiting() && !(bad && t.places != nil) {
		return nil // only the end is asked for, and it will be told
	}
	id, err := ulid.ParseStrict(e.MessageId)
	if err != nil {
		return nil
	}
	if t.of == nil {
		t.of = map[recipient]string{}
	}
	for _, o := range e.Outcomes {
		k := recipient{id, o.Number}
		if bad {
			t.found(k, e.Id)
			continue
		}
		if before, ok := t.of[k]; ok && before != Waiting {
			continue // the first end counts
		}
		if !ended {
			outcome = Waiting
		}
		t.of[k] = outcome
		t.at(k, e)
	}
	return t.bounded(len(t.of))
}

// never reports an event of a message that isn't selected whatever else is
// told of it: one that qstream made, or that came in after the selection's end.
// Much may have happened since, none of which must be remembered.
func (t *told) never(e *pb.Event) bool {
	if schemas.Generated(e.Origin) {
		return true
	}
	made, ok := mail.IDTime(e.MessageId)
	return ok && !t.selection.Until.IsZero() && made.After(t.selection.Until.Add(clocks))
}

// judged remembers what scanning said last of recipients.
func (t *told) judged(e *pb.Event) error {
	v := verdict{e.GetScan().GetFinding(), e.GetScan().GetAction()}
	if !t.selection.asksVerdict() || v == (verdict{}) || !slices.Contains(judges, e.Type) {
		return nil
	}
	id, err := ulid.ParseStrict(e.MessageId)
	if err != nil {
		return nil
	}
	if t.said == nil {
		t.said = map[recipient]bool{}
	}
	for _, o := range e.Outcomes {
		k := recipient{id, o.Number}
		if t.selection.verdict(v) {
			t.said[k] = true
		} else {
			delete(t.said, k) // said before, or not at all
		}
	}
	return t.bounded(len(t.said))
}

func (t *told) bounded(n int) error {
	if n > t.limit {
		return fmt.Errorf("%w (more than %d)", ErrTooMany, t.limit)
	}
	return nil
}

// beside reports an event that tells nothing of where mail is: others find out
// about it, maybe later, whatever has become of it.
func beside(e *pb.Event) bool {
	switch e.Type {
	case pb.EventType_EVENT_TYPE_FOUND_BAD, pb.EventType_EVENT_TYPE_COMPARED, pb.EventType_EVENT_TYPE_TALLIED:
		return true
	}
	return false
}

// asksWaiting reports whether recipients without an outcome may be meant.
func (t *told) asksWaiting() bool {
	return len(t.selection.Outcomes) == 0 || slices.Contains(t.selection.Outcomes, Waiting)
}

// meant reports whether the events make a recipient one that is meant.
func (t *told) meant(id string, number uint32) bool {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return false
	}
	k := recipient{u, number}
	if t.selection.asksVerdict() && !t.said[k] {
		return false
	}
	outcome, ok := t.of[k]
	return ok && (len(t.selection.Outcomes) == 0 || slices.Contains(t.selection.Outcomes, outcome))
}

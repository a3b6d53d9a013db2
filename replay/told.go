package replay

import (
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
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
	if e.Type == pb.EventType_EVENT_TYPE_ACCEPTED || !t.selection.scope(e) || !t.selection.ids(e.MessageId) {
		return nil
	}
	if e.Type == pb.EventType_EVENT_TYPE_COMPARED {
		return nil // nothing became of the mail by this
	}
	outcome, ended := ends[e.Type]
	bad := e.Type == pb.EventType_EVENT_TYPE_FOUND_BAD // tells nothing of where it is
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
	if len(t.of) > t.limit {
		return fmt.Errorf("%w (more than %d)", ErrTooMany, t.limit)
	}
	return nil
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
	outcome, ok := t.of[recipient{u, number}]
	return ok && (len(t.selection.Outcomes) == 0 || slices.Contains(t.selection.Outcomes, outcome))
}

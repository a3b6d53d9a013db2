package delay

import (
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/control"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// heldOf is what orders call a leg in quarantine by.
func heldOf(l *pb.Leg) control.Held {
	return control.Held{MessageID: l.MessageId, Leg: l.Number, Since: l.ParkedMs}
}

// order is what somebody wants done with a leg in quarantine, if it is about
// any of its recipients.
func order(l *pb.Leg, orders func(control.Held) (control.Order, bool)) (control.Order, bool) {
	o, ok := orders(heldOf(l))
	if !ok {
		return o, false
	}
	for _, r := range l.Recipients {
		if o.Of(r.Number) {
			return o, true
		}
	}
	return o, false
}

// obeyed does with a leg in quarantine what was ordered. Recipients that the
// order isn't about remain there; the others leave by reinject then, since
// two legs can't have one number. It changes l, and nothing else.
func obeyed(l *pb.Leg, o control.Order, w world) []move {
	var meant, rest []*pb.Recipient
	for _, r := range l.Recipients {
		if o.Of(r.Number) {
			meant = append(meant, r)
		} else {
			rest = append(rest, r)
		}
	}
	word := map[string]string{control.Release: "released from", control.Delete: "deleted from"}[o.Verb]
	text := mail.Printable(word + " quarantine by " + control.Because(o.Actor, o.Reason))
	var moves []move
	if len(rest) > 0 {
		remains := proto.CloneOf(l)
		remains.Recipients = rest
		remains.Step++
		e := event(remains, pb.EventType_EVENT_TYPE_QUARANTINED, w)
		e.DueMs, e.Text = remains.DueMs, "remains in quarantine"
		moves = append(moves, move{fate: fateKept, topic: schemas.Quarantine, leg: remains, event: e})
		l.Recipients = meant
	}
	var m move
	switch {
	case o.Verb == control.Delete:
		l.Step++
		m = move{fate: fateDropped, event: event(l, pb.EventType_EVENT_TYPE_DISCARDED, w)}
	case len(rest) > 0:
		free(l, o.Rescan)
		stopped := time.Duration(l.StoppedMs)*time.Millisecond + max(w.now.Sub(time.UnixMilli(l.ParkedMs)), 0)
		m = rerouted(l, stopped, w)
	default:
		m = freeQuarantined(l, o.Rescan, w)
	}
	m.event.Text = text
	// Whoever folds the events sees them leave before the rest remains.
	return append([]move{m}, moves...)
}

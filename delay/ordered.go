package delay

import (
	"slices"
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

// order is what somebody wants done with a leg in quarantine, for those of its
// recipients that are meant; the others remain. ok is false if none is. Of orders
// about different recipients one is obeyed at a time: what remains is looked at again.
func order(l *pb.Leg, orders func(control.Held) []control.Order) (o control.Order, meant, rest []*pb.Recipient, ok bool) {
	all := orders(heldOf(l))
	obeyed := -1
	for _, r := range l.Recipients {
		i := slices.IndexFunc(all, func(o control.Order) bool { return o.Of(r.Number) })
		if obeyed < 0 {
			obeyed = i
		}
		if i >= 0 && i == obeyed {
			meant = append(meant, r)
		} else {
			rest = append(rest, r)
		}
	}
	if obeyed < 0 {
		return o, nil, l.Recipients, false
	}
	return all[obeyed], meant, rest, true
}

// obeyed does with a leg in quarantine what was ordered. Recipients that the
// order isn't about remain there; the others leave by reinject then, since
// two legs can't have one number. It changes l, and nothing else.
func obeyed(l *pb.Leg, o control.Order, meant, rest []*pb.Recipient, w world) []move {
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

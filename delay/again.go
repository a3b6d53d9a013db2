package delay

import (
	"time"

	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// dueAgain is the number of an order by which a leg has to be scanned before
// anything of it is delivered; ok is false if none is left to obey.
func (w world) dueAgain(l *pb.Leg) (number uint64, ok bool) {
	number, ok = w.again(l.MessageId, l.Recipients)
	return number, ok && schemas.DueAgain(l, number)
}

// again brings a leg to its scan topic that was ordered to be scanned, also
// before it is due, and out of a suspended scope: if it is clean it is parked
// again.
func again(l *pb.Leg, first directory.Decision, stopped time.Duration, w world) (move, bool) {
	number, ok := w.dueAgain(l)
	if !ok {
		return move{}, false
	}
	policy, anew := directory.OrderedScan(l, first, w.decide)
	if policy == "" {
		l.Rescanned = number
		return move{}, false
	}
	schemas.Again(l, number)
	var m move
	if anew {
		m = rerouted(l, stopped, w)
	} else {
		m = toQueue(l, stopped, schemas.LegTopic(policy, l), w)
	}
	m.event.Text = schemas.FoundBad
	return m, true
}

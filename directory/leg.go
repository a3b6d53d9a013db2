package directory

import pb "qstream/schemas/qstream/v1"

// Resolve asks again where a leg belongs: first is the answer about its first
// recipient, zero if it has none. It is the same leg while all its recipients
// have its queue, of its generation, and its destination, and one tenant and one
// way out. A refusal for now is an attempt's outcome; one for good is the
// router's to say. Decide is that of a Snapshot.
func Resolve(l *pb.Leg, decide func(Question) Decision) (first Decision, same bool) {
	for i, r := range l.Recipients {
		d := decide(QuestionOf(l, r))
		if i == 0 {
			first = d
		}
		if d.Queue.Name != l.Queue || d.Queue.Generation != l.Generation || d.Destination != l.Destination ||
			d.Tenant != first.Tenant || d.Via != first.Via || d.Refusal != nil && d.Refusal.Permanent() {
			return first, false
		}
	}
	return first, len(l.Recipients) > 0
}

// LiveQueue is a leg's own queue, nil if its generation is gone: then the queue
// that takes the leg over decides about it. Queue is that of a Snapshot.
func LiveQueue(l *pb.Leg, queue func(name string) *Queue) *Queue {
	if q := queue(l.Queue); q != nil && q.Generation == l.Generation {
		return q
	}
	return nil
}

// OrderedScan is the policy by which a leg is scanned that somebody ordered to be
// scanned again, empty if none is left and nobody can be asked; first is of
// Resolve. Anew is a leg that a policy redirected: it has to be routed anew, for
// its queue needn't have a scan topic.
func OrderedScan(l *pb.Leg, first Decision, decide func(Question) Decision) (policy string, anew bool) {
	if l.GetScan().GetQueue() == "" || len(l.Recipients) == 0 {
		return first.Scan, false
	}
	q := QuestionOf(l, l.Recipients[0])
	q.Queue = ""
	return decide(q).Scan, true
}

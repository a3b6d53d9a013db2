package delay

import (
	"time"

	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// quarantined decides about a leg in quarantine that somebody gave an order
// about, whose time is up, or that was pulled for something else: the order is
// obeyed, or it remains, or it ends by the policy that put it there. A policy that is gone discards. It changes l, and nothing else.
func quarantined(l *pb.Leg, w world) []move {
	if o, meant, rest, ok := order(l, w.orders); ok {
		return obeyed(l, o, meant, rest, w)
	}
	return []move{outstayed(l, w)}
}

func outstayed(l *pb.Leg, w world) move {
	p := w.scan(l.GetScan().GetPolicy())
	if p != nil {
		l.DueMs = time.UnixMilli(l.ParkedMs).Add(p.Keep).UnixMilli()
	}
	if l.DueMs > w.now.UnixMilli() {
		l.Step++
		return move{fate: fateKept, topic: schemas.Quarantine, leg: l}
	}
	if p != nil && p.Then == directory.ActRelease {
		_, again := w.dueAgain(l)
		return freeQuarantined(l, again, w)
	}
	l.Step++
	e := event(l, pb.EventType_EVENT_TYPE_DISCARDED, w)
	e.Text = "policy: scan " + l.GetScan().GetPolicy() + ": kept in quarantine for " + directory.FormatDuration(w.now.Sub(time.UnixMilli(l.ParkedMs)))
	return move{fate: fateDropped, event: e}
}

// freeQuarantined releases a leg from quarantine: to be delivered whatever was
// found in it, or to be scanned again. The time that it was there doesn't count
// against its lifetime.
func freeQuarantined(l *pb.Leg, rescan bool, w world) move {
	free(l, rescan)
	return release(l, true, w)
}

func free(l *pb.Leg, rescan bool) {
	l.DueMs = 0
	if l.Scan == nil {
		l.Scan = &pb.Scan{}
	}
	if rescan {
		l.Scan = schemas.Anew(l.Scan)
	} else {
		l.Scan.State = pb.ScanState_SCAN_STATE_EXEMPT
	}
}

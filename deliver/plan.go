package deliver

import (
	"time"

	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// view is what a decision about a leg depends on besides the leg.
type view struct {
	number    uint64 // of the snapshot
	decide    func(directory.Question) directory.Decision
	queue     func(name string) *directory.Queue // nil: no such queue
	tenant    func(name string) *directory.Tenant
	suspended func(tenant, queue, destination string) (since time.Time, ok bool)
	resumed   func(tenant, queue, destination string, born time.Time) bool // asked of held legs
	again     func(messageID string, of []*pb.Recipient) (number uint64, ok bool)
	now       time.Time
}

// action is what is to be done with a leg.
type action int

const (
	toAttempt action = iota
	toRefuse         // the router, or the route, refused it for good
	toExpire         // past its lifetime
	toPark           // its scope is suspended
	toReroute        // the directory puts it elsewhere now
	toScan           // a policy wants it scanned first
)

// plan is an action and what it needs.
type plan struct {
	action   action
	queue    *directory.Queue // live; as decided now if the leg's own is gone
	decision directory.Decision
	tenant   string
	status   mail.Status // of a refusal
	since    time.Time   // of a suspension
	held     bool        // at a quota
	again    uint64      // the order by which it is scanned, 0: none
}

// planFor decides about a leg as it lies on its queue topic. Refusal and
// expiry come before everything else.
func planFor(l *pb.Leg, v view) plan {
	first, same := directory.Resolve(l, v.decide)
	p := plan{tenant: l.Tenant, decision: first, queue: first.Queue}
	if same {
		p.tenant = first.Tenant
	}
	if q := directory.LiveQueue(l, v.queue); q != nil {
		p.queue = q
	}
	since, suspended := v.suspended(p.tenant, l.Queue, l.Destination)
	if born := time.UnixMilli(l.BornMs); !suspended && schemas.Held(l) && !v.resumed(p.tenant, l.Queue, l.Destination, born) {
		since, suspended, p.held = born, true, true
	}
	switch {
	case l.Refusal != nil && status(l.Refusal).Permanent():
		p.action, p.status = toRefuse, status(l.Refusal)
	case l.Expired || past(l, v, since, suspended):
		p.action = toExpire
	case !same:
		p.action = toReroute
	case suspended:
		p.action, p.since = toPark, later(since, time.UnixMilli(l.BornMs))
	case p.scansAgain(l, v):
	case schemas.WantsScan(p.decision.Scan, l.Scan):
		p.action = toScan
	}
	return p
}

// past reports whether a leg gets no further attempt because of its age. One
// is owed to a leg that never had any, and where delay says so.
func past(l *pb.Leg, v view, since time.Time, suspended bool) bool {
	q := directory.LiveQueue(l, v.queue)
	if q == nil || l.Owed || neverTried(l) {
		return false
	}
	return over(l, q, v.now, since, suspended)
}

// over reports whether a leg's lifetime has ended, which stands still in a
// suspension.
func over(l *pb.Leg, q *directory.Queue, now, since time.Time, suspended bool) bool {
	born, stopped := time.UnixMilli(l.BornMs), time.Duration(l.StoppedMs)*time.Millisecond
	if suspended {
		stopped += max(0, now.Sub(later(since, born)))
	}
	return !now.Before(q.Expires(born, stopped, l.ReversePath == ""))
}

func neverTried(l *pb.Leg) bool { return l.Attempt == 0 && l.Spills == 0 }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// expires is when a leg's lifetime ends if nothing stops it any more.
func expires(l *pb.Leg, q *directory.Queue) time.Time {
	return q.Expires(time.UnixMilli(l.BornMs), time.Duration(l.StoppedMs)*time.Millisecond, l.ReversePath == "")
}

func status(s *pb.Status) mail.Status {
	return mail.Status{Code: int(s.GetCode()), Enhanced: s.GetEnhanced(), Text: s.GetText()}
}

func recorded(s mail.Status) *pb.Status {
	return &pb.Status{Code: uint32(max(0, s.Code)), Enhanced: valid(s.Enhanced), Text: valid(s.Text)}
}

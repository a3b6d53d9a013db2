package delay

import (
	"time"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	pb "qstream/schemas/qstream/v1"
)

// suspended is control.State's predicate.
type suspended func(tenant, queue, destination string) (since time.Time, ok bool)

// resumed is control.State's predicate about held legs.
type resumed func(tenant, queue, destination string, born time.Time) bool

// freed matches parked legs that nothing holds back any more: their scope is
// not suspended, and they were not held at a quota, or let go on; or either was so for longer than their queue's hold expiry.
func freed(s suspended, r resumed, queue func(string) *directory.Queue, now time.Time) func(bus.Entry) bool {
	return func(e bus.Entry) bool {
		if e.Kind&kindParked == 0 {
			return false
		}
		name := queueName(e.Queue)
		_, ok := s(e.Tenant, name, e.Destination)
		if !ok && (e.Kind&kindOverQuota == 0 || r(e.Tenant, name, e.Destination, e.Born)) {
			return true
		}
		q := queue(name)
		if q == nil || q.HoldExpiry == 0 {
			return false
		}
		return !now.Before(q.Expires(e.Born, q.HoldExpiry, e.Kind&kindBounce != 0))
	}
}

// outlived matches legs in the tiers that are past their lifetime before they
// are due: somebody shortened it.
func outlived(s suspended, queue func(string) *directory.Queue, now time.Time) func(bus.Entry) bool {
	return func(e bus.Entry) bool {
		if e.Kind&(kindParked|kindQuarantined) != 0 {
			return false
		}
		name := queueName(e.Queue)
		q := queue(name)
		if q == nil || now.Before(q.Expires(e.Born, 0, e.Kind&kindBounce != 0)) {
			return false
		}
		_, stopped := s(e.Tenant, name, e.Destination)
		return !stopped
	}
}

// probe is where a directory puts mail of an entry's scope.
type probe struct {
	tenant, queue, destination string
	gone                       bool
}

// moved matches parked legs whose owner, queue or destination the directory
// changed. It asks about one made-up recipient for each scope; where the
// destination is a host or a store, a change shows at the resume only.
func moved(before, after *directory.Snapshot) func(bus.Entry) bool {
	type scope struct {
		tenant, queue, destination string
		bounce                     bool
	}
	known := map[scope]bool{}
	return func(e bus.Entry) bool {
		if e.Kind&kindParked == 0 {
			return false
		}
		s := scope{e.Tenant, e.Queue, e.Destination, e.Kind&kindBounce != 0}
		changed, ok := known[s]
		if !ok {
			changed = probed(before, e) != probed(after, e)
			known[s] = changed
		}
		return changed
	}
}

func probed(s *directory.Snapshot, e bus.Entry) probe {
	d := s.Decide(directory.Question{
		Recipient: "postmaster@" + e.Destination, NullSender: e.Kind&kindBounce != 0, Tenant: e.Tenant,
	})
	q := s.Queue(queueName(e.Queue))
	return probe{
		tenant: d.Tenant, destination: d.Destination,
		queue: generational(d.Queue.Name, d.Queue.Generation),
		gone:  s.Tenant(e.Tenant) == nil || q == nil || generational(q.Name, q.Generation) != e.Queue,
	}
}

// unsafe matches at most limit legs whose content has to be copied by now.
func unsafe(k kept, now time.Time, limit int) func(bus.Entry) bool {
	return func(e bus.Entry) bool {
		if limit == 0 || !k.ending(e, now) {
			return false
		}
		limit--
		return true
	}
}

// flush matches the legs in the tiers that a flush covers.
func flush(s control.Scope) func(bus.Entry) bool {
	return func(e bus.Entry) bool {
		return e.Kind&(kindParked|kindQuarantined) == 0 && s.Matches(e.Tenant, queueName(e.Queue), e.Destination, e.ID)
	}
}

// flushes reports whether a flush covers a leg.
func flushes(s *control.Scope, l *pb.Leg) bool {
	return s != nil && s.Matches(l.Tenant, l.Queue, l.Destination, l.MessageId)
}

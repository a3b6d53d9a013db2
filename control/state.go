package control

import (
	"cmp"
	"slices"
	"time"
)

// State is the standing state at one command number; immutable.
type State struct {
	Number uint64

	standing map[Scope]Suspension
	shapes   []Scope             // which fields the scopes use: "*" where set
	resumed  map[Scope]time.Time // when held mail was last let go on
	webhooks map[string]Webhook  // those about which something stands

	orders map[Held][]Order // about the quarantine
	again  agains
}

// Suspension is a standing order not to attempt a scope.
type Suspension struct {
	Scope  Scope
	Since  time.Time // append time of the command
	Actor  string
	Reason string
}

// newState makes a state; it keeps standing and orders.
func newState(number uint64, standing map[Scope]Suspension, orders map[Held][]Order) *State {
	s := &State{Number: number, standing: standing, orders: orders}
	for scope := range standing {
		if shape := scope.shape(); !slices.Contains(s.shapes, shape) {
			s.shapes = append(s.shapes, shape)
		}
	}
	return s
}

// shape tells which fields a scope uses: at most eight shapes exist, so that
// a lookup costs the same with one suspension and with thousands.
func (s Scope) shape() Scope {
	mark := func(v string) string {
		if v == "" {
			return ""
		}
		return "*"
	}
	return Scope{mark(s.Tenant), mark(s.Queue), mark(s.Destination), mark(s.MessageID)}
}

// Suspended reports whether a suspension covers a leg, and since when the
// oldest of them does.
func (s *State) Suspended(tenant, queue, destination string) (since time.Time, ok bool) {
	for _, shape := range s.shapes {
		var at Scope
		if shape.Tenant != "" {
			at.Tenant = tenant
		}
		if shape.Queue != "" {
			at.Queue = queue
		}
		if shape.Destination != "" {
			at.Destination = destination
		}
		if found, covered := s.standing[at]; covered && (!ok || found.Since.Before(since)) {
			since, ok = found.Since, true
		}
	}
	return since, ok
}

// Resumed reports whether mail that was held at a quota may go on: its scope,
// or one that covers it, was resumed after it was born.
func (s *State) Resumed(tenant, queue, destination string, born time.Time) bool {
	for scope, at := range s.resumed {
		if born.Before(at) && scope.Matches(tenant, queue, destination, "") {
			return true
		}
	}
	return false
}

// Suspensions are all that stand, oldest first.
func (s *State) Suspensions() []Suspension {
	all := make([]Suspension, 0, len(s.standing))
	for _, one := range s.standing {
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Suspension) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Scope.String(), b.Scope.String()))
	})
	return all
}

package replay

import (
	"github.com/oklog/ulid/v2"

	pb "qstream/schemas/qstream/v1"
)

// place is where a recipient's mail was told of last.
type place struct {
	leg                               uint32
	step                              uint64
	tenant, queue, destination, route string
	held                              bool   // in quarantine
	found                             string // id of the event that told that it is bad
}

// asked reports whether events have to be read.
func (t *told) asked() bool { return t.places != nil || t.selection.asksEvents() }

// at remembers where a recipient is by an event.
func (t *told) at(k recipient, e *pb.Event) {
	if t.places == nil {
		return
	}
	p := place{
		leg: e.Leg, step: e.Step, tenant: e.Tenant, queue: e.Queue, destination: e.Destination, route: e.Route,
		held: e.Type == pb.EventType_EVENT_TYPE_QUARANTINED,
	}
	if before := t.places[k]; before != nil {
		p.found = before.found
	}
	t.places[k] = t.share(p)
}

// found remembers that a recipient's mail was told to be bad.
func (t *told) found(k recipient, id string) {
	if p := t.places[k]; p != nil {
		bad := *p
		bad.found = id
		t.places[k] = t.share(bad)
	}
}

// share is one place for all who have it.
func (t *told) share(p place) *place {
	if same := t.shared[p]; same != nil {
		return same
	}
	if t.shared == nil {
		t.shared = map[place]*place{}
	}
	t.shared[p] = &p
	return &p
}

// where is what is known of a recipient.
func (t *told) where(id string, number uint32) (p *place, outcome string) {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return nil, ""
	}
	k := recipient{u, number}
	return t.places[k], t.of[k]
}

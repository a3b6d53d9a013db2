package router

import (
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Bounds of a routing.
const (
	// legRecipients is how many recipients a leg has at most.
	legRecipients = 100
	// maxReroutes is how often a message may return; beyond it circles.
	maxReroutes = 10
	// eventRecipients bounds an event's size.
	eventRecipients = 1000
)

// looping is what a message that returns again and again is refused with.
var looping = mail.Status{Code: 554, Enhanced: "5.4.6", Text: "routing loop: rerouted more than 10 times"}

// view is what a decision depends on besides the message.
type view struct {
	number uint64 // of the snapshot
	decide func(directory.Question) directory.Decision
	now    time.Time
}

// route makes the legs of a message and the events that tell about them. It
// is pure: the same message, position and view give the same result.
func route(m *message, v view) ([]*pb.Leg, []*pb.Event) {
	legs := m.legs(v)
	events := m.accepted()
	for _, l := range legs {
		events = append(events, m.routed(l, v.now))
	}
	return legs, events
}

// group is what the recipients of a leg have in common.
type group struct {
	tenant      string
	queue       string
	generation  uint32
	destination string
	route       string
	scan        string
	refused     bool
	refusal     mail.Status
	held        bool // at a quota
}

// decide is the group of one recipient.
func (m *message) decide(r *pb.Recipient, v view) group {
	d := v.decide(directory.Question{
		Recipient:  r.Address,
		NullSender: m.envelope.ReversePath == "",
		Tenant:     m.tenant,
		Queue:      m.scan.GetQueue(),
		Route:      m.byRoute,
	})
	g := group{
		tenant: d.Tenant, queue: d.Queue.Name, generation: d.Queue.Generation,
		destination: d.Destination, route: d.Route, scan: d.Scan, held: r.Held,
	}
	// What is refused just for now waits like any deferred leg: the attempt
	// finds the refusal again, or a route that has changed.
	if d.Refusal != nil && !d.Refusal.Temporary() {
		g.refused, g.refusal = true, *d.Refusal
	}
	if m.reroutes > maxReroutes {
		g.refused, g.refusal = true, looping
	}
	return g
}

// legs groups the recipients, in the order in which the envelope first names
// each group.
func (m *message) legs(v view) []*pb.Leg {
	var legs []*pb.Leg
	open := map[group]*pb.Leg{}
	for _, r := range m.envelope.Recipients {
		g := m.decide(r, v)
		l := open[g]
		if l == nil || len(l.Recipients) == legRecipients {
			l = m.leg(g, v)
			open[g] = l
			legs = append(legs, l)
		}
		l.Recipients = append(l.Recipients, r)
	}
	for i, l := range legs {
		l.Number = m.number(i, l)
	}
	return legs
}

// number is a leg's number in its message.
func (m *message) number(i int, l *pb.Leg) uint32 {
	if m.origin != pb.Origin_ORIGIN_REROUTE {
		return m.nextLeg + uint32(i)
	}
	lowest := l.Recipients[0].Number
	for _, r := range l.Recipients {
		lowest = min(lowest, r.Number)
	}
	return m.reroutes*schemas.RerouteSpan + lowest
}

func (m *message) leg(g group, v view) *pb.Leg {
	l := &pb.Leg{
		MessageId: m.id, Step: 1, Attempt: m.attempt,
		Tenant: g.tenant, Queue: g.queue, Generation: g.generation,
		Destination: g.destination, Route: g.route,
		ReversePath: m.envelope.ReversePath, EnvId: m.envelope.EnvId,
		Ret: m.envelope.Ret, Body: m.envelope.Body, Smtputf8: m.envelope.Smtputf8,
		Content: m.content, Prepend: m.prepend,
		BornMs: m.bornMs, StoppedMs: m.stoppedMs, Last: m.last,
		Directory: v.number, Origin: m.origin, ParentId: m.parentID,
		HeaderMessageId: m.headerMessageID, Reroutes: m.reroutes, Session: m.session,
		DelayNotified: m.notified, Owed: m.owed, Verified: m.verified, Rescanned: m.rescanned, ByRoute: m.byRoute,
	}
	if m.scan != nil {
		l.Scan = proto.CloneOf(m.scan)
	}
	if g.refused {
		l.Refusal = &pb.Status{
			Code: uint32(g.refusal.Code), Enhanced: g.refusal.Enhanced, Text: g.refusal.Text,
		}
		return l
	}
	schemas.LegTopic(g.scan, l) // marks it
	return l
}

// believe drops what the edge's scan said if its policy has changed since then
// and asks other engines now: the scanners ask them.
func (m *message) believe(s *directory.Snapshot) {
	if m.origin == pb.Origin_ORIGIN_UNSPECIFIED {
		m.scan = s.Believed(m.scan)
	}
}

// topic is where a leg goes: one that is refused is settled unscanned.
func topic(l *pb.Leg) string {
	if l.Refusal == nil && l.Scan.GetState() == pb.ScanState_SCAN_STATE_WANTED {
		return schemas.Scan(l.Queue, l.Generation)
	}
	return schemas.Queue(l.Queue, l.Generation)
}

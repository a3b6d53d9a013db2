package deliver

import (
	"fmt"
	"slices"
	"strings"
	"time"

	pb "qstream/schemas/qstream/v1"
	"qstream/transport"
)

const stageName = "deliver"

// peerReports is the text of a delivered event whose peer took the duty to
// report (RFC 3461 5.2.2): we then don't.
const peerReports = "reports are the peer's duty"

// event is an event about a leg where it stands.
func event(kind pb.EventType, l *pb.Leg, p plan, number uint64, at time.Time) *pb.Event {
	e := &pb.Event{
		Type: kind, AtMs: at.UnixMilli(), MessageId: l.MessageId, Leg: l.Number, Step: l.Step, Attempt: l.Attempt,
		Tenant: p.tenant, Queue: l.Queue, Destination: l.Destination, Route: l.Route, Directory: number,
		ReversePath: l.ReversePath, HeaderMessageId: l.HeaderMessageId, Size: l.GetContent().GetSize(),
		Origin: l.Origin, ParentId: l.ParentId, Stage: stageName,
	}
	if p.decision.Route != "" {
		e.Route = p.decision.Route
	}
	return e
}

func all(rs []*pb.Recipient) []*pb.Outcome {
	os := make([]*pb.Outcome, len(rs))
	for i, r := range rs {
		os[i] = &pb.Outcome{Number: r.Number, Address: r.Address}
	}
	return os
}

// kinds are the events that tell fates, in the order in which they are told.
var kinds = []pb.EventType{
	pb.EventType_EVENT_TYPE_DELIVERED, pb.EventType_EVENT_TYPE_DISCARDED, pb.EventType_EVENT_TYPE_DEFERRED,
	pb.EventType_EVENT_TYPE_BOUNCED, pb.EventType_EVENT_TYPE_EXPIRED,
}

func (f fate) eventType() pb.EventType {
	switch {
	case f.dropped:
		return pb.EventType_EVENT_TYPE_DISCARDED
	case f.verdict == delivered:
		return pb.EventType_EVENT_TYPE_DELIVERED
	case f.expired:
		return pb.EventType_EVENT_TYPE_EXPIRED
	case f.verdict == bounced:
		return pb.EventType_EVENT_TYPE_BOUNCED
	}
	return pb.EventType_EVENT_TYPE_DEFERRED
}

// events tell a trip: the attempt, then one event for each outcome that
// occurred, with its recipients. rest is the deferred leg, or nil.
func (t *trip) events(rest *pb.Leg) []*pb.Event {
	var es []*pb.Event
	if t.attempted && !t.plainSuccess() {
		e := t.event(pb.EventType_EVENT_TYPE_ATTEMPTED)
		e.Text = passed(t.tries)
		es = append(es, e)
	}
	for _, kind := range kinds {
		if e := t.tell(kind, rest); e != nil {
			es = append(es, e)
		}
	}
	return es
}

// plainSuccess reports whether the delivered event tells all there is to tell
// of an attempt: its number, its duration, and the host, which was the first.
// That is nearly every attempt, and each event is stored and read by others.
func (t *trip) plainSuccess() bool {
	return len(t.tries) == 0 && !slices.ContainsFunc(t.fates, func(f fate) bool { return f.verdict != delivered || f.dropped })
}

func (t *trip) event(kind pb.EventType) *pb.Event {
	e := event(kind, t.leg, t.plan, t.number, t.ended)
	e.Host, e.HostIp, e.TlsVersion = valid(t.host), t.ip, t.tls
	if t.attempted {
		e.Attempt = t.leg.Attempt + 1
		e.TookMs = t.ended.Sub(t.began).Milliseconds()
	}
	return e
}

func (t *trip) tell(kind pb.EventType, rest *pb.Leg) *pb.Event {
	if !slices.ContainsFunc(t.fates, func(f fate) bool { return f.eventType() == kind }) {
		return nil
	}
	e := t.event(kind)
	for _, f := range t.fates {
		if f.eventType() != kind {
			continue
		}
		e.Outcomes = append(e.Outcomes, &pb.Outcome{Number: f.rcpt.Number, Address: f.rcpt.Address, Status: recorded(f.status)})
		if f.peer {
			e.Text = peerReports
		}
		if f.dropped {
			e.Text = "policy: route " + e.Route
		}
	}
	if kind == pb.EventType_EVENT_TYPE_DEFERRED && rest != nil {
		e.DueMs, e.Reason = rest.DueMs, rest.Reason
	}
	return e
}

// passed tells which hosts an attempt passed over, and why.
func passed(tries []transport.Try) string {
	const most = 10
	var b strings.Builder
	for i, t := range tries {
		if i == most {
			fmt.Fprintf(&b, "; and %d more", len(tries)-most)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s [%s] at %s: %s", t.Host, t.IP, t.At, t.Status)
	}
	return valid(b.String())
}

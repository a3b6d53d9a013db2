package router

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

// stageName is this stage's name in events, logs and deadletter records.
const stageName = "router"

// accepted tells that the edge's 250 is durable: only the router reads every
// received record. It names all recipients and therefore no tenant: it is for
// operators. A message put in again was accepted before, or by nobody.
func (m *message) accepted() []*pb.Event {
	if m.origin != pb.Origin_ORIGIN_UNSPECIFIED {
		return nil
	}
	var events []*pb.Event
	for part := range slices.Chunk(m.envelope.Recipients, eventRecipients) {
		events = append(events, &pb.Event{
			Type: pb.EventType_EVENT_TYPE_ACCEPTED, AtMs: m.bornMs, MessageId: m.id,
			Outcomes: outcomes(part), Directory: m.directory,
			ReversePath: m.envelope.ReversePath, HeaderMessageId: m.headerMessageID,
			Size: m.content.Size, Session: m.session, Stage: stageName, Scan: inSession(m.scan),
		})
	}
	return events
}

// inSession is what scanning at the edge said, without what isn't told by
// events.
func inSession(s *pb.Scan) *pb.Scan {
	if s == nil {
		return nil
	}
	told := proto.CloneOf(s)
	told.Changes = nil
	return told
}

// routed tells of a leg; it names the leg's own recipients only, so that its
// tenant may see it.
func (m *message) routed(l *pb.Leg, now time.Time) *pb.Event {
	e := &pb.Event{
		Type: pb.EventType_EVENT_TYPE_ROUTED, AtMs: now.UnixMilli(),
		MessageId: l.MessageId, Leg: l.Number, Step: l.Step, Attempt: l.Attempt,
		Tenant: l.Tenant, Queue: l.Queue, Destination: l.Destination, Route: l.Route,
		Outcomes: outcomes(l.Recipients), Directory: l.Directory,
		ReversePath: l.ReversePath, HeaderMessageId: l.HeaderMessageId,
		Size: m.content.Size, Origin: m.origin, ParentId: m.parentID, Stage: stageName,
	}
	if l.Refusal == nil && l.Scan.GetState() == pb.ScanState_SCAN_STATE_WANTED {
		e.Scan = &pb.Scan{State: l.Scan.State, Policy: l.Scan.Policy}
	}
	for _, o := range e.Outcomes {
		o.Status = l.Refusal
	}
	return e
}

func outcomes(rs []*pb.Recipient) []*pb.Outcome {
	os := make([]*pb.Outcome, len(rs))
	for i, r := range rs {
		os[i] = &pb.Outcome{Number: r.Number, Address: r.Address}
	}
	return os
}

package scanner

import (
	"time"

	"qstream/directory/ruling"
	pb "qstream/schemas/qstream/v1"
)

// stageName is this stage's name in events, logs and deadletter records.
const stageName = "scanner"

// maxSymbols is how many of an engine's symbols an event tells.
const maxSymbols = 50

// event tells of a leg after its step was counted.
func event(kind pb.EventType, l *pb.Leg, a answer, sc scene) *pb.Event {
	e := plain(kind, l, sc.snap.Number, sc.now)
	if l.Scan != nil {
		e.Scan = &pb.Scan{
			State: l.Scan.State, Policy: sc.policy.Name, Directory: sc.snap.Number, Verdicts: ruling.Recorded(a.verdicts, maxSymbols),
			Action: l.Scan.Action, Finding: l.Scan.Finding, Queue: l.Scan.Queue, Tries: l.Scan.Tries,
		}
	}
	e.TookMs = sc.now.Sub(sc.began).Milliseconds()
	return e
}

// plain is an event about a leg where it stands.
func plain(kind pb.EventType, l *pb.Leg, number uint64, now time.Time) *pb.Event {
	e := &pb.Event{
		Type: kind, AtMs: now.UnixMilli(), MessageId: l.MessageId, Leg: l.Number, Step: l.Step, Attempt: l.Attempt,
		Tenant: l.Tenant, Queue: l.Queue, Destination: l.Destination, Route: l.Route, Directory: number,
		ReversePath: l.ReversePath, HeaderMessageId: l.HeaderMessageId, Size: l.GetContent().GetSize(),
		Origin: l.Origin, ParentId: l.ParentId, Stage: stageName,
	}
	for _, r := range l.Recipients {
		e.Outcomes = append(e.Outcomes, &pb.Outcome{Number: r.Number, Address: r.Address})
	}
	return e
}

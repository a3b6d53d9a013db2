package schemas

import (
	"fmt"

	pb "qstream/schemas/qstream/v1"
)

// Reroute is the message that takes the place of a leg whose tenant, queue or
// destination changed while it waited, for the reinject topic: same message
// id, age, attempts and content, and one reroute more. The leg ends with it;
// the caller publishes a rerouted event beside it. Number is the snapshot that
// decided.
func Reroute(l *pb.Leg, number uint64) *pb.Reinject {
	return &pb.Reinject{
		Id: l.MessageId, Origin: pb.Origin_ORIGIN_REROUTE, ParentId: l.MessageId, ParentLeg: l.Number,
		Envelope: &pb.Envelope{
			ReversePath: l.ReversePath, Recipients: l.Recipients, EnvId: l.EnvId,
			Ret: l.Ret, Body: l.Body, Smtputf8: l.Smtputf8,
		},
		Content: &pb.Content{
			Where: &pb.Content_Ref{Ref: l.Content},
			Size:  l.GetContent().GetSize(), Sha256: l.GetContent().GetSha256(),
		},
		Prepend: l.Prepend, Tenant: l.Tenant, BornMs: l.BornMs, StoppedMs: l.StoppedMs,
		Directory: number, HeaderMessageId: l.HeaderMessageId, Reroutes: l.Reroutes + 1,
		Attempt: l.Attempt, Session: l.Session, Last: l.Last,
		DelayNotified: l.DelayNotified, Owed: l.Owed, Scan: l.Scan, Verified: l.Verified,
		Rescanned: l.Rescanned, ByRoute: l.ByRoute,
	}
}

// forwardMark is the field that a forwarded message begins with; by says who
// forwards it.
const forwardMark = "X-Qstream-Forwarded"

// Forward is a message with a leg's content for somebody else, for the reinject
// topic: it has an id of its own, a null reverse-path and the leg's message as
// parent, and is never scanned again. By is a policy, or "by hand"; number is
// the snapshot that decided.
func Forward(l *pb.Leg, id, to, by string, changes []*pb.HeaderChange, finding string, number uint64) *pb.Reinject {
	return &pb.Reinject{
		Id: id, Origin: pb.Origin_ORIGIN_FORWARD, ParentId: l.MessageId, ParentLeg: l.Number,
		Envelope: &pb.Envelope{Recipients: []*pb.Recipient{{Address: to}}, Body: l.Body, Smtputf8: l.Smtputf8},
		Content:  &pb.Content{Where: &pb.Content_Ref{Ref: l.Content}, Size: l.GetContent().GetSize(), Sha256: l.GetContent().GetSha256()},
		Prepend:  fmt.Appendf(nil, "%s: %s\r\n%s", forwardMark, by, l.Prepend), Tenant: l.Tenant, Directory: number,
		HeaderMessageId: l.HeaderMessageId,
		Scan:            &pb.Scan{State: pb.ScanState_SCAN_STATE_EXEMPT, Policy: l.GetScan().GetPolicy(), Finding: finding, Changes: changes},
		Session:         &pb.Session{Protocol: pb.Protocol_PROTOCOL_INTERNAL, Tenant: l.Tenant},
	}
}

// Generated reports whether a message of this origin is one that qstream made:
// nobody handed it in, and it has an id of its own.
func Generated(o pb.Origin) bool {
	switch o {
	case pb.Origin_ORIGIN_DSN, pb.Origin_ORIGIN_FORWARD, pb.Origin_ORIGIN_REPLAY, pb.Origin_ORIGIN_DIGEST:
		return true
	}
	return false
}

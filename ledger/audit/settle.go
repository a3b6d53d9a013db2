package audit

import (
	"time"

	pb "qstream/schemas/qstream/v1"
)

// policyLost is the policy by which a recipient ends whose loss is settled.
const policyLost = "policy: lost"

// Settle is the event that ends a missing recipient: somebody took care of the
// loss. It is told to everybody who reads the events, for as long as they are
// kept.
func Settle(f Finding, actor, reason string, now time.Time) *pb.Event {
	return &pb.Event{
		Type: pb.EventType_EVENT_TYPE_DISCARDED, AtMs: now.UnixMilli(), MessageId: f.MessageID, Tenant: f.Tenant, Queue: f.Queue,
		Outcomes: []*pb.Outcome{{Number: f.Recipient, Address: f.Address}},
		Text:     policyLost + ", settled by " + actor + ": " + reason, Stage: "audit",
	}
}

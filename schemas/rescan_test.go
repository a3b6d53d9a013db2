package schemas

import (
	"maps"

	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

// golden are all records that are kept for ever.
func golden() map[string]proto.Message {
	all := samples()
	maps.Copy(all, rescans())
	return all
}

// rescans are the golden records about mail that is scanned again.
func rescans() map[string]proto.Message {
	return map[string]proto.Message{
		"rescan": &pb.Rescan{
			Job: "01J0000000000000000000000J", Leg: quarantined(), Waiting: true, Found: "01J00000000000000000000000.bad",
			OfferedMs: 1_700_000_000_000, UntilMs: 1_700_021_600_000, DueMs: 1_700_000_060_000,
		},
		"rescan-result": &pb.Rescan{
			Job: "01J0000000000000000000000J", Leg: &pb.Leg{MessageId: "01J00000000000000000000000", Number: 1, Tenant: "acme"}, OfferedMs: 1_700_000_000_000,
			Result: &pb.RescanResult{Outcome: "bad", Policy: "p", Finding: "malware", Action: "quarantine", Text: "Eicar-Test-Signature", Told: true},
		},
		"event-found-bad": &pb.Event{
			Id: "01J00000000000000000000000.bad.1", Type: pb.EventType_EVENT_TYPE_FOUND_BAD, AtMs: 1_700_000_000_000, MessageId: "01J00000000000000000000000",
			Leg: 1, Tenant: "acme", Queue: "acme", Job: "01J0000000000000000000000J", Waiting: true, Stage: "scanner",
			Scan: &pb.Scan{Policy: "p", Directory: 9, Action: "quarantine", Finding: "malware", Verdicts: verdicts()[:1]},
		},
		"command-again": &pb.Command{
			Number: 8, Base: 7, Verb: pb.Verb_VERB_SCAN_AGAIN, Actor: "scanner", Job: "01J0000000000000000000000J",
			Held: []*pb.HeldLeg{{MessageId: "01J00000000000000000000000", Recipients: []uint32{0, 2}}},
		},
	}
}

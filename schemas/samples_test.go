package schemas

import (
	"bytes"
	"maps"

	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

// samples are what golden records are made of.
func samples() map[string]proto.Message {
	all := mailSamples()
	for _, more := range []map[string]proto.Message{custodySamples(), rescanSamples(), archiveSamples()} {
		maps.Copy(all, more)
	}
	all["event-compared"], all["event-tallied"] = differing(), tallied()
	return all
}

func custodySamples() map[string]proto.Message {
	return map[string]proto.Message{
		"checkpoint": &pb.Checkpoint{
			Body: []byte("\x08\x01\x18\x02"), Signature: bytes.Repeat([]byte{7}, 64), Key: bytes.Repeat([]byte{9}, 32),
		},
	}
}

func rescanSamples() map[string]proto.Message {
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

// differing is an event of a leg that a shadow policy would have sent another way.
func differing() *pb.Event {
	return &pb.Event{
		Id: "01JD0000000000000000000001.1.3.24.0", Type: pb.EventType_EVENT_TYPE_COMPARED, AtMs: 1_763_900_001_500,
		MessageId: "01JD0000000000000000000001", Leg: 1, Step: 3, Tenant: "acme", Queue: "acme", Destination: "one.example",
		Directory: 18, Stage: "scanner", Outcomes: []*pb.Outcome{{Address: "ann@one.example"}},
		Comparison: &pb.Comparison{
			Policy: "standard", Shadow: "next", Verdicts: verdicts()[1:], ShadowVerdicts: verdicts(),
			Partings: []*pb.Parting{{Action: "redirect junk", Finding: "spam", ShadowAction: "reject", ShadowFinding: "malware"}},
		},
	}
}

// tallied is an event with counts of comparisons.
func tallied() *pb.Event {
	return &pb.Event{
		Id: "01JD0000000000000000000009", Type: pb.EventType_EVENT_TYPE_TALLIED, AtMs: 1_763_900_010_000, Tenant: "acme", Queue: "acme", Stage: "scanner",
		Tally: &pb.Tally{
			Policy: "standard", Shadow: "next", SinceMs: 1_763_900_001_500, Missed: 2,
			Cells: []*pb.Cell{{Action: "pass", ShadowAction: "pass", Recipients: 1200}, {Action: "redirect junk", ShadowAction: "reject", Recipients: 1}},
			Times: []*pb.Times{{Engine: "clamav", Scans: []uint64{0, 3, 1100, 90}}}, ShadowTimes: []*pb.Times{{Engine: "rspamd", Scans: []uint64{0, 0, 0, 0, 0, 1201}}},
		},
	}
}

package schemas

import (
	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

// samples are all records that there are golden ones of.
func samples() map[string]proto.Message {
	all := records()
	all["event-compared"], all["event-tallied"] = differing(), tallied()
	return all
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

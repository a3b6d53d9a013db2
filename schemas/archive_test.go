package schemas

import (
	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

// archiveSamples are of what archives copy, and how their sinks do.
func archiveSamples() map[string]proto.Message {
	return map[string]proto.Message{
		"tapped": &pb.Tapped{
			Archive: "acme", MessageId: "01JD0000000000000000000001", Full: true, Session: session,
			Envelope: &pb.Envelope{
				ReversePath: "sender@acme.example", Recipients: recipients, EnvId: "QQ314159",
				Ret: pb.Ret_RET_FULL, Body: pb.Body_BODY_8BITMIME, Smtputf8: true,
			},
			Content: ref(), Prepend: []byte("Received: here\r\n"), HeaderMessageId: "m1@sender.example",
			AcceptedMs: 1_763_900_000_456, Directory: 17, Decided: 18, Checks: []*pb.Check{{Method: "spf", Result: "pass"}},
			Origin: pb.Origin_ORIGIN_DSN, ParentId: "01JD0000000000000000000000",
		},
		"archive": &pb.ArchiveState{
			Archive: "acme", Partition: 2, AtMs: 1_763_900_000_999, FailingMs: 1_763_900_000_456, Error: "refused", Offset: 8, Kept: ref(),
		},
	}
}

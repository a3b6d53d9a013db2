package control

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	pb "qstream/schemas/qstream/v1"
)

// FuzzTake: no record makes a reader panic; one that is refused changes
// nothing, one that counts moves the head by one.
func FuzzTake(f *testing.F) {
	for _, c := range []*pb.Command{
		{Number: 1, Verb: pb.Verb_VERB_SUSPEND},
		{Number: 1, Verb: pb.Verb_VERB_RESUME, Scope: &pb.Scope{Tenant: "acme"}},
		{Number: 1, Verb: pb.Verb_VERB_SNAPSHOT, Suspensions: []*pb.Suspension{{}, {}}},
		{Number: 1, Verb: pb.Verb_VERB_RELEASE, Held: []*pb.HeldLeg{{}, {MessageId: "x", Recipients: []uint32{3, 1}}}},
		{Number: 1, Verb: pb.Verb_VERB_SNAPSHOT, Orders: []*pb.Command{{}, {Held: []*pb.HeldLeg{{}}}}},
		{Number: 1, Verb: 99},
	} {
		value, err := proto.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		head := newFold()
		_, err := head.take(bus.Record{Value: value})
		if err == nil && head.state.Number != 1 || err != nil && (head.state.Number != 0 || len(head.state.standing) != 0) {
			t.Fatalf("at number %d after %v", head.state.Number, err)
		}
		head.state.Suspended("acme", "acme", "acme.example")
	})
}

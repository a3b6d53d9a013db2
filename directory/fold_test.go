package directory

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	pb "qstream/schemas/qstream/v1"
)

// FuzzTake: no record makes a reader panic; one that is refused changes
// nothing, one that counts moves the head by one.
func FuzzTake(f *testing.F) {
	for _, a := range []*pb.Apply{
		{Number: 1, Full: true, Generations: map[string]uint32{"acme": 3}},
		{Number: 1, Documents: []*pb.Document{{Kind: KindQueue, Name: "acme", Yaml: "kind: queue\nname: acme\n"}}},
		{Number: 1, Documents: []*pb.Document{{}}, Retired: []*pb.Retired{{Name: "\xff", Generation: 1}}},
	} {
		value, err := proto.MarshalOptions{AllowPartial: true}.Marshal(a)
		if err == nil {
			f.Add(value)
		}
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		head := newFold()
		_, err := head.take(bus.Record{Value: value})
		if want := uint64(1); err == nil && head.number != want || err != nil && (head.number != 0 || len(head.docs) != 0) {
			t.Fatalf("at number %d with %d documents after %v", head.number, len(head.docs), err)
		}
		if s, err := head.snapshot(); err == nil {
			s.Decide(Question{Recipient: "bob@acme.example"})
			s.Retired()
		}
	})
}

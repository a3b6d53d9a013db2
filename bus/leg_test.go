package bus

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

func TestReadLeg(t *testing.T) {
	whole := &pb.Leg{MessageId: "01A", Number: 2, Step: 3, Queue: "acme", Recipients: []*pb.Recipient{{Address: "a@acme.example"}}, Content: &pb.ContentRef{}}
	for name, change := range map[string]func(*pb.Leg){
		"": func(*pb.Leg) {}, "no message id": func(l *pb.Leg) { l.MessageId = "" }, "no queue": func(l *pb.Leg) { l.Queue = "" },
		"no recipients": func(l *pb.Leg) { l.Recipients = nil }, "no content": func(l *pb.Leg) { l.Content = nil },
	} {
		l := proto.CloneOf(whole)
		change(l)
		value, err := proto.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadLeg(Record{Topic: "t", Value: value})
		if name == "" {
			if err != nil || !proto.Equal(got, l) {
				t.Errorf("%v, %v", got, err)
			}
		} else if want := ErrPoison.Error() + ": leg on t: " + name; got != nil || !errors.Is(err, ErrPoison) || err.Error() != want {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
	if _, err := ReadLeg(Record{Value: []byte("\xff garbage")}); !errors.Is(err, ErrPoison) {
		t.Errorf("garbage: %v", err)
	}
}

func TestLegIdentity(t *testing.T) {
	if got := LegIdentity(&pb.Leg{MessageId: "01A", Number: 2, Step: 3}); got != "01A 2 3" {
		t.Errorf("%q", got)
	}
}

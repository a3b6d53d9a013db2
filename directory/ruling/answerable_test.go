package ruling

import (
	"testing"

	pb "qstream/schemas/qstream/v1"
)

func TestAnswerable(t *testing.T) {
	for _, c := range []struct {
		l    *pb.Leg
		want bool
	}{
		{&pb.Leg{ReversePath: "a@x.example"}, false},
		{&pb.Leg{ReversePath: "a@x.example", Session: &pb.Session{AuthUser: "a"}}, true},
		{&pb.Leg{ReversePath: "a@x.example", Session: &pb.Session{Relay: true}}, true},
		{&pb.Leg{ReversePath: "a@x.example", Verified: true}, true},
		{&pb.Leg{Session: &pb.Session{AuthUser: "a", Relay: true}, Verified: true}, false},
	} {
		if got := Answerable(c.l.ReversePath, c.l.Session, c.l.Verified); got != c.want {
			t.Errorf("%v: %t", c.l, got)
		}
	}
}

package directory

import (
	"testing"

	pb "qstream/schemas/qstream/v1"
)

func TestVerified(t *testing.T) {
	for _, c := range []struct {
		from  string
		check *pb.Check
		want  bool
	}{
		{"a@x.example", &pb.Check{Method: "spf", Result: "pass", Domain: "x.example"}, true},
		{"a@x.example", &pb.Check{Method: "dmarc", Result: "pass", Domain: "X.example"}, true},
		{"a@x.example", &pb.Check{Method: "spf", Result: "softfail", Domain: "x.example"}, false},
		{"a@x.example", &pb.Check{Method: "spf", Result: "pass", Domain: "helo.example"}, false},
		{"a@x.example", &pb.Check{Method: "dkim", Result: "pass", Domain: "x.example"}, false},
		{"", &pb.Check{Method: "spf", Result: "pass"}, false},
	} {
		if got := Verified(&pb.Envelope{ReversePath: c.from}, []*pb.Check{c.check}); got != c.want {
			t.Errorf("%s, %v: %t", c.from, c.check, got)
		}
	}
}

package deliver

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// noneAgain is a view without orders to scan again.
func noneAgain(string, []*pb.Recipient) (uint64, bool) { return 0, false }

// What was ordered to be scanned isn't attempted before.
func TestPlanScansAgain(t *testing.T) {
	const order = 7
	done := pb.ScanState_SCAN_STATE_DONE
	for _, c := range []struct {
		name   string
		policy string
		change func(*pb.Leg)
		want   action
	}{
		{"scanned before", "p", func(*pb.Leg) {}, toScan},
		{"by an older order", "p", func(l *pb.Leg) { l.Rescanned = order - 1 }, toScan},
		{"by this order", "p", func(l *pb.Leg) { l.Rescanned = order }, toAttempt},
		{"exempt", "p", func(l *pb.Leg) { l.Scan.State = pb.ScanState_SCAN_STATE_EXEMPT }, toAttempt},
		{"redirected", "p", func(l *pb.Leg) { l.Scan.Queue = "acme" }, toReroute},
		{"nobody to ask", "", func(*pb.Leg) {}, toAttempt},
		{"redirected, nobody to ask", "", func(l *pb.Leg) { l.Scan.Queue = "acme" }, toAttempt},
		{"refused", "p", func(l *pb.Leg) { l.Refusal = &pb.Status{Code: 550} }, toRefuse},
		{"other recipients", "p", func(l *pb.Leg) { l.Recipients = l.Recipients[:1] }, toAttempt},
	} {
		v := testView(t)
		decide := v.decide
		v.decide = func(q directory.Question) directory.Decision {
			d := decide(q)
			d.Scan = c.policy
			return d
		}
		v.again = func(id string, of []*pb.Recipient) (uint64, bool) {
			return order, id == "01M" && of[len(of)-1].Number == 1
		}
		l := testLeg("a@acme.example", "b@acme.example")
		l.Scan = &pb.Scan{State: done, Policy: c.policy, Changes: []*pb.HeaderChange{{Name: "X"}}}
		c.change(l)
		p := planFor(l, v)
		if p.action != c.want {
			t.Errorf("%s: %v, want %v", c.name, actionNames[p.action], actionNames[c.want])
		}
		switch p.action {
		case toScan:
			rs, next := scanRecords(l, p, v), &pb.Leg{}
			if err := proto.Unmarshal(rs[0].Value, next); err != nil || rs[0].Topic != schemas.Scan(l.Queue, l.Generation) || next.Rescanned != order || len(next.Scan.Changes) > 0 {
				t.Errorf("%s: %v on %s, %v", c.name, next, rs[0].Topic, err)
			}
		case toReroute:
			rs, next := rerouteRecords(l, p, v), &pb.Reinject{}
			if err := proto.Unmarshal(rs[0].Value, next); err != nil || next.Rescanned != order || next.Scan.Queue != "" {
				t.Errorf("%s: %v, %v", c.name, next, err)
			}
		}
		if len(l.Scan.Changes) == 0 {
			t.Errorf("%s: the leg itself is changed", c.name)
		}
	}
}

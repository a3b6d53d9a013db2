package router

import (
	"testing"

	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Legs of a policy go to the scan topic and say so; what is refused, exempt or
// scanned by that policy before goes to its queue.
func TestRoutesThroughScanning(t *testing.T) {
	v := viewed()
	var asked []string
	v.decide = func(q directory.Question) directory.Decision {
		asked = append(asked, q.Queue)
		d := decideByDomain(q)
		if d.Refusal == nil {
			d.Scan = "p"
		}
		return d
	}
	re := func(scan *pb.Scan) *message {
		return mustDecode(t, reinjectRecord(t, &pb.Reinject{
			Id: "01A", Origin: pb.Origin_ORIGIN_REROUTE, ParentId: "01A", Envelope: envelope("a@blue.example", "b@x.example"), Content: inline("x"), Scan: scan, Verified: true,
		}))
	}
	fresh := mustDecode(t, receivedRecord(t, &pb.Received{
		Id: "01A", Envelope: envelope("a@blue.example", "b@x.example"), Content: inline("x"),
		Checks: []*pb.Check{{Method: "spf", Result: "pass", Domain: "Blue.Example"}},
	}))
	for name, c := range map[string]struct {
		m    *message
		scan bool
	}{
		"received":             {fresh, true},
		"scanned by it":        {re(&pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "p"}), false},
		"scanned by another":   {re(&pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "o"}), true},
		"redirected":           {re(&pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "o", Queue: "junk"}), false},
		"our own, or released": {re(&pb.Scan{State: pb.ScanState_SCAN_STATE_EXEMPT}), false},
	} {
		legs, events := route(c.m, v)
		l, e := legs[0], events[len(events)-1]
		want := schemas.Queue(l.Queue, l.Generation)
		if c.scan {
			want = schemas.Scan(l.Queue, l.Generation)
		}
		if topic(l) != want || (e.Scan.GetPolicy() == "p") != c.scan || !l.Verified {
			t.Errorf("%s: to %s, told as %v, leg %v", name, topic(l), e.Scan, l)
		}
	}
	found := false
	for _, q := range asked {
		found = found || q == "junk"
	}
	if !found {
		t.Error("a redirected leg is routed as if it were not")
	}
	l := fresh.leg(group{queue: "q", refused: true, scan: "p"}, v)
	if topic(l) != schemas.Queue("q", 0) {
		t.Errorf("what is refused goes to %s", topic(l))
	}
}

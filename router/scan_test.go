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

// What the edge has scanned for a rule isn't scanned again by that policy, what it
// has left is, and the tenant's own policy is asked in any case.
func TestRoutesWhatTheEdgeScanned(t *testing.T) {
	docs, err := directory.Parse(directory.File{Name: "x", Data: []byte(`
kind: engine
name: clam
type: unpack
---
kind: engine
name: more
type: unpack
---
kind: scan
name: r
engines: clam
---
kind: scan
name: grown
engines: [clam, more]
`)})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	done := func(policy string, number uint64) *pb.Scan {
		return &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: policy, OfRule: true, Directory: number, Action: "pass", Verdicts: []*pb.Verdict{{Engine: "clam", Outcome: "clean"}}}
	}
	by := func(engines []byte) *pb.Scan {
		s := done("r", 9)
		s.Engines = engines
		return s
	}
	for name, c := range map[string]struct {
		scan *pb.Scan
		own  string
		want string // the policy that is asked; empty: none
	}{
		"by the same engines":             {by(snap.EnginesOf(snap.Scan("r"))), "", ""},
		"by engines that were set up so":  {by([]byte("otherwise")), "", "r"},
		"clean":                           {done("r", 9), "", ""},
		"clean, with the same policy":     {done("r", 9), "r", ""},
		"clean, with another policy":      {done("r", 9), "p", "p"},
		"left":                            {schemas.Owed("r", nil), "", "r"},
		"left, with another policy":       {schemas.Owed("r", nil), "p", "r"},
		"by the same directory":           {done("grown", snap.Number), "", ""},
		"by a policy that asks more now":  {done("grown", 9), "", "grown"},
		"by a policy that is gone by now": {done("gone", 9), "", ""},
	} {
		v := viewed()
		v.decide = func(q directory.Question) directory.Decision {
			d := decideByDomain(q)
			d.Scan = c.own
			return d
		}
		m := mustDecode(t, receivedRecord(t, &pb.Received{Id: "01A", Envelope: envelope("a@blue.example", "b@x.example"), Content: inline("x"), Scan: c.scan}))
		m.believe(snap)
		legs, events := route(m, v)
		l := legs[0]
		if scanned := topic(l) == schemas.Scan(l.Queue, l.Generation); scanned != (c.want != "") || scanned && l.Scan.Policy != c.want {
			t.Errorf("%s: to %s, %v", name, topic(l), l.Scan)
		}
		if e := events[0]; e.Scan.GetPolicy() != c.scan.Policy || len(e.Scan.GetVerdicts()) != len(c.scan.Verdicts) {
			t.Errorf("%s: told as %v", name, e.Scan)
		}
	}
}

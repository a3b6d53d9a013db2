package schemas_test

import (
	"testing"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestLegTopic(t *testing.T) {
	const queue, scan = "qstream.queue.acme.2.v1", "qstream.scan.acme.2.v1"
	wanted := func(policy string) *pb.Scan {
		return &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: policy, Tries: 2, Waits: 3, SinceMs: 4}
	}
	done := &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "p"}
	moved := &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "p", Queue: "acme"}
	exempt := &pb.Scan{State: pb.ScanState_SCAN_STATE_EXEMPT}
	ruled := &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "r", OfRule: true}
	after := wanted("p")
	after.Before = ruled
	owed := wanted("r")
	owed.Owed = "r"
	for _, c := range []struct {
		name   string
		policy string
		scan   *pb.Scan
		topic  string
		state  pb.ScanState
		tries  uint32
	}{
		{"no policy", "", nil, queue, pb.ScanState_SCAN_STATE_UNSPECIFIED, 0},
		{"policy", "p", nil, scan, pb.ScanState_SCAN_STATE_WANTED, 0},
		{"still wanted", "p", wanted("p"), scan, pb.ScanState_SCAN_STATE_WANTED, 2},
		{"wanted by another", "p", wanted("o"), scan, pb.ScanState_SCAN_STATE_WANTED, 0},
		{"wanted no more", "", wanted("p"), queue, pb.ScanState_SCAN_STATE_UNSPECIFIED, 0},
		{"done", "p", done, queue, pb.ScanState_SCAN_STATE_DONE, 0},
		{"done by another", "o", done, scan, pb.ScanState_SCAN_STATE_WANTED, 0},
		{"done, policy gone", "", done, queue, pb.ScanState_SCAN_STATE_DONE, 0},
		{"redirected", "o", moved, queue, pb.ScanState_SCAN_STATE_DONE, 0},
		{"owed", "p", owed, scan, pb.ScanState_SCAN_STATE_WANTED, 2},
		{"owed, no policy", "", owed, scan, pb.ScanState_SCAN_STATE_WANTED, 2},
		{"done for a rule", "p", ruled, scan, pb.ScanState_SCAN_STATE_WANTED, 0},
		{"done for a rule by the same", "r", ruled, queue, pb.ScanState_SCAN_STATE_DONE, 0},
		{"done for a rule, no policy", "", ruled, queue, pb.ScanState_SCAN_STATE_DONE, 0},
		{"wanted no more after a rule's", "", after, queue, pb.ScanState_SCAN_STATE_DONE, 0},
		{"exempt", "p", exempt, queue, pb.ScanState_SCAN_STATE_EXEMPT, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &pb.Leg{Queue: "acme", Generation: 2, Scan: c.scan}
			if got := schemas.LegTopic(c.policy, l); got != c.topic {
				t.Errorf("goes to %s, want %s", got, c.topic)
			}
			if l.GetScan().GetState() != c.state || l.GetScan().GetTries() != c.tries {
				t.Errorf("is %v", l.Scan)
			}
			if again := schemas.LegTopic(c.policy, l); again != c.topic {
				t.Errorf("goes to %s the second time", again)
			}
		})
	}
}

// What a connection's rule is owed comes first and is asked again as such; what
// was done for it stays with the leg.
func TestScanOfARule(t *testing.T) {
	ruled := &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "r", OfRule: true}
	if w := schemas.Wanted("p", schemas.Owed("r", nil)); w.Policy != "r" || w.Owed != "r" {
		t.Errorf("owed: %v", w)
	}
	w := schemas.Wanted("p", ruled)
	if w.Policy != "p" || w.Owed != "" || w.Before.GetPolicy() != "r" {
		t.Errorf("after a rule's: %v", w)
	}
	if w = schemas.Wanted("q", w); w.Policy != "q" || w.Before.GetPolicy() != "r" {
		t.Errorf("by another policy: %v", w)
	}
	done := &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "p", Before: ruled}
	if w := schemas.Anew(done); w.Policy != "p" || w.Owed != "" || w.Before.GetPolicy() != "r" {
		t.Errorf("again: %v", w)
	}
	if w := schemas.Anew(ruled); w.Owed != "r" {
		t.Errorf("again for a rule: %v", w)
	}
}

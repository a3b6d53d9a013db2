package schemas

import pb "qstream/schemas/qstream/v1"

// WantsScan reports whether a leg has to be scanned before anything of it is
// delivered: policy is the one of its tenant and queue now, empty for none,
// scan what the leg carries. What a policy has done holds as long as that
// policy is the leg's, or, once it was redirected, for good.
func WantsScan(policy string, scan *pb.Scan) bool {
	if policy == "" {
		return false
	}
	switch scan.GetState() {
	case pb.ScanState_SCAN_STATE_EXEMPT:
		return false
	case pb.ScanState_SCAN_STATE_DONE:
		return scan.Queue == "" && scan.Policy != policy
	}
	return true
}

// Wanted is the scan state of a leg that policy wants scanned. How often it was
// tried and what it waited for is kept while the policy is the same.
func Wanted(policy string, before *pb.Scan) *pb.Scan {
	s := &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: policy}
	if before.GetState() == pb.ScanState_SCAN_STATE_WANTED && before.Policy == policy {
		s.Tries, s.Waits, s.SinceMs = before.Tries, before.Waits, before.SinceMs
	}
	return s
}

// Again has a leg scanned by order of a command, whatever was made of it
// before. Where a policy had redirected it, routes decide again.
func Again(l *pb.Leg, number uint64) {
	l.Rescanned = number
	l.Scan = &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: l.GetScan().GetPolicy()}
}

// DueAgain reports whether a command to scan again, of this number, is still to be
// obeyed by a leg: neither what is exempt from scanning nor what was scanned by
// a later one is meant.
func DueAgain(l *pb.Leg, number uint64) bool {
	return number > l.Rescanned && l.GetScan().GetState() != pb.ScanState_SCAN_STATE_EXEMPT
}

// LegTopic is where a leg goes next that is to be attempted: through its scan
// topic if policy wants that, and then it is marked so, or to its queue.
func LegTopic(policy string, l *pb.Leg) string {
	if WantsScan(policy, l.Scan) {
		l.Scan = Wanted(policy, l.Scan)
		return Scan(l.Queue, l.Generation)
	}
	if l.GetScan().GetState() == pb.ScanState_SCAN_STATE_WANTED {
		l.Scan = nil
	}
	return Queue(l.Queue, l.Generation)
}

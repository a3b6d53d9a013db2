package schemas

import pb "qstream/schemas/qstream/v1"

// WantsScan reports whether a leg has to be scanned before anything of it is
// delivered: policy is the one of its tenant and queue now, empty for none,
// scan what the leg carries. What a policy has done holds as long as that
// policy is the leg's, or, once it was redirected, for good. What is owed to a
// connection's rule is, whatever the leg's policy.
func WantsScan(policy string, scan *pb.Scan) bool {
	switch {
	case scan.GetState() == pb.ScanState_SCAN_STATE_EXEMPT:
		return false
	case scan.GetOwed() != "":
		return true
	case policy == "":
		return false
	case scan.GetState() == pb.ScanState_SCAN_STATE_DONE:
		return scan.Queue == "" && scan.Policy != policy
	}
	return true
}

// Wanted is the scan state of a leg that policy wants scanned, or first the
// policy that is owed to its connection's rule. How often it was tried and what
// it waited for is kept while the policy is the same, and what was done for a
// rule is for good.
func Wanted(policy string, before *pb.Scan) *pb.Scan {
	s := &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: policy, Before: before.GetBefore()}
	if before.GetOwed() != "" {
		s.Policy, s.Owed = before.Owed, before.Owed
	}
	if before.GetState() == pb.ScanState_SCAN_STATE_DONE && before.OfRule {
		s.Before = before
	}
	if before.GetState() == pb.ScanState_SCAN_STATE_WANTED && before.Policy == s.Policy {
		s.Tries, s.Waits, s.SinceMs = before.Tries, before.Waits, before.SinceMs
	}
	return s
}

// Again has a leg scanned by order of a command, whatever was made of it
// before. Where a policy had redirected it, routes decide again.
func Again(l *pb.Leg, number uint64) {
	l.Rescanned = number
	l.Scan = Anew(l.GetScan())
}

// DueAgain reports whether a command to scan again, of this number, is still to be
// obeyed by a leg: neither what is exempt from scanning nor what was scanned by
// a later one is meant.
func DueAgain(l *pb.Leg, number uint64) bool {
	return number > l.Rescanned && l.GetScan().GetState() != pb.ScanState_SCAN_STATE_EXEMPT
}

// Owed is the scan state of mail that the edge leaves to the scanners: policy
// is asked, whatever its tenant's and queue's policy. verdicts are what engines
// said so far.
func Owed(policy string, verdicts []*pb.Verdict) *pb.Scan {
	return &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: policy, Owed: policy, Verdicts: verdicts}
}

// Anew is the scan state of a leg that is to be scanned as it was before.
func Anew(done *pb.Scan) *pb.Scan {
	s := &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: done.GetPolicy(), Before: done.GetBefore()}
	if done.GetOfRule() {
		s.Owed = done.Policy
	}
	return s
}

// LegTopic is where a leg goes next that is to be attempted: through its scan
// topic if a policy wants that, and then it is marked so, or to its queue.
func LegTopic(policy string, l *pb.Leg) string {
	if WantsScan(policy, l.Scan) {
		l.Scan = Wanted(policy, l.Scan)
		return Scan(l.Queue, l.Generation)
	}
	if l.GetScan().GetState() == pb.ScanState_SCAN_STATE_WANTED {
		l.Scan = l.Scan.Before
	}
	return Queue(l.Queue, l.Generation)
}

// Outcomes of mail that was offered to engines again, as results tell them.
const (
	OfferClean       = "clean"
	OfferBad         = "bad"
	OfferUnscannable = "unscannable"
	OfferUnwanted    = "unwanted" // no policy asks for it any more
	OfferGivenUp     = "given up" // no engine gave a verdict in time
)

// FoundBad is what the trace says of a leg that was ordered to be scanned again.
const FoundBad = "found bad by a later scan"

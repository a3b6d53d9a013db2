package trace

import (
	"fmt"
	"strings"
	"time"

	pb "qstream/schemas/qstream/v1"
)

// scanned is what scanning came to, in words.
func scanned(e *pb.Event) string {
	s := e.Scan
	var word string
	switch e.Type {
	case pb.EventType_EVENT_TYPE_QUARANTINED:
		word = "to quarantine until " + time.UnixMilli(e.DueMs).UTC().Format(clock)
	case pb.EventType_EVENT_TYPE_UNSCANNED:
		word = "not scanned yet, waits until " + time.UnixMilli(e.DueMs).UTC().Format(clock)
	default:
		word = fmt.Sprintf("scanned in %s", time.Duration(e.TookMs)*time.Millisecond)
		if s.GetAction() != "" {
			word += ", " + s.Action
		}
		if s.GetQueue() != "" {
			word += " to queue " + s.Queue
		}
	}
	return word + ruled(s)
}

// foundBad is what a scan of the past found.
func foundBad(e *pb.Event) string {
	word := "delivered but found bad since"
	if e.Waiting {
		word = "found bad while it waits, to be scanned before it is delivered"
	}
	return word + ruled(e.Scan) + "; job " + e.Job
}

// inSession is what scanning came to before the mail was accepted; empty: it
// wasn't scanned then.
func inSession(s *pb.Scan) string {
	switch s.GetState() {
	case pb.ScanState_SCAN_STATE_DONE:
		return ", scanned in its session, " + s.Action + ruled(s)
	case pb.ScanState_SCAN_STATE_WANTED:
		return ", left to the scanners" + ruled(s)
	}
	return ""
}

// ruled tells the policy, what was found, and what engines said.
func ruled(s *pb.Scan) (word string) {
	if s.GetPolicy() != "" {
		word += " by policy " + s.Policy
	}
	if s.GetFinding() != "" {
		word += " for " + s.Finding
	}
	for _, v := range s.GetVerdicts() {
		word += "; " + verdict(v)
	}
	return word
}

// compared is what another policy would have made of a leg, in words.
func compared(c *pb.Comparison) string {
	word := "by policy " + c.GetShadow() + ", which decides nothing,"
	for i, p := range c.GetPartings() {
		if i > 0 && p.ShadowAction == c.Partings[i-1].ShadowAction && p.ShadowFinding == c.Partings[i-1].ShadowFinding && p.Action == c.Partings[i-1].Action {
			continue
		}
		if word += " " + p.ShadowAction; p.ShadowFinding != "" {
			word += " for " + p.ShadowFinding
		}
		word += " instead of " + p.Action
	}
	for _, v := range c.GetShadowVerdicts() {
		word += "; " + verdict(v)
	}
	return word
}

// verdict is "clamav malware Eicar", "rspamd spam 17.5 of 15".
func verdict(v *pb.Verdict) string {
	parts := []string{v.Engine, v.Outcome}
	if v.Reason != "" {
		parts = append(parts, "("+v.Reason+")")
	}
	if v.Name != "" {
		parts = append(parts, v.Name)
	}
	if v.Score != 0 || v.Threshold != 0 {
		parts = append(parts, fmt.Sprintf("%.4g of %.4g", v.Score, v.Threshold))
	}
	if v.Outcome == "failed" && v.Detail != "" {
		parts = append(parts, v.Detail)
	}
	return strings.Join(parts, " ")
}

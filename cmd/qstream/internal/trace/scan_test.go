package trace

import (
	"strings"
	"testing"

	pb "qstream/schemas/qstream/v1"
)

// Verdicts are told in words, and made printable.
func TestScanned(t *testing.T) {
	scan := &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "p", Action: "redirect", Finding: "spam", Queue: "junk", Verdicts: []*pb.Verdict{
		{Engine: "clam", Outcome: "malware", Name: "Eicar\x1b[2J"}, {Engine: "rspamd", Outcome: "spam", Score: 7.25, Threshold: 15},
		{Engine: "measure", Outcome: "unscannable", Reason: "too deep"}, {Engine: "icap", Outcome: "failed", Reason: "late", Detail: "no answer"},
	}}
	life := newLife("01A")
	for i, e := range []*pb.Event{
		{Type: pb.EventType_EVENT_TYPE_ROUTED, Scan: &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: "p"}},
		{Type: pb.EventType_EVENT_TYPE_UNSCANNED, DueMs: 1_800_000_000_000, Scan: &pb.Scan{Policy: "p", Verdicts: scan.Verdicts[3:]}},
		{Type: pb.EventType_EVENT_TYPE_SCANNED, TookMs: 12, Scan: scan},
		{Type: pb.EventType_EVENT_TYPE_QUARANTINED, DueMs: 1_800_000_000_000, Scan: &pb.Scan{Policy: "p", Finding: "malware"}},
	} {
		e.MessageId, e.Step, e.Outcomes = "01A", uint64(i), []*pb.Outcome{{Address: "b@x.example"}}
		life.add(e)
		want := []State{Scanning, Unscanned, Queued, Quarantined}[i]
		if got := life.Recipients[0].State; got != want {
			t.Errorf("after %s the recipient is %q, want %q", e.Type, got, want)
		}
	}
	var b strings.Builder
	if err := Text(&b, Found{Roots: []*Life{life}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"to be scanned by policy p", "not scanned yet, waits until 2027-01-15 08:00:00.000Z by policy p; icap failed (late) no answer",
		"scanned in 12ms, redirect to queue junk by policy p for spam; clam malware Eicar [2J; rspamd spam 7.25 of 15; measure unscannable (too deep)",
		"to quarantine until 2027-01-15 08:00:00.000Z by policy p for malware", "in quarantine until 2027-01-15 08:00:00.000",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

// What a shadow would have done is told, and the recipient's state is what it
// was.
func TestCompared(t *testing.T) {
	life := newLife("01A")
	out := []*pb.Outcome{{Address: "a@x.example"}, {Number: 1, Address: "b@x.example"}}
	life.add(&pb.Event{Type: pb.EventType_EVENT_TYPE_SCANNED, MessageId: "01A", Step: 1, Outcomes: out, Scan: &pb.Scan{Policy: "p"}})
	p := &pb.Parting{Action: "pass", ShadowAction: "quarantine", ShadowFinding: "malware"}
	life.add(&pb.Event{Type: pb.EventType_EVENT_TYPE_COMPARED, MessageId: "01A", Step: 1, Outcomes: out, Comparison: &pb.Comparison{
		Policy: "p", Shadow: "next", Partings: []*pb.Parting{p, p}, ShadowVerdicts: []*pb.Verdict{{Engine: "clam", Outcome: "malware", Name: "Eicar\x1b[2J"}},
	}})
	if got := life.Recipients[0].State; got != Queued {
		t.Errorf("the recipient is %q", got)
	}
	var b strings.Builder
	if err := Text(&b, Found{Roots: []*Life{life}}); err != nil {
		t.Fatal(err)
	}
	if want := "by policy next, which decides nothing, quarantine for malware instead of pass; clam malware Eicar [2J\n"; !strings.Contains(b.String(), want) {
		t.Errorf("%q is missing in\n%s", want, b.String())
	}
}

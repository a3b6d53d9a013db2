package delay

import (
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func heldBack(since time.Time, keep time.Duration) *pb.Leg {
	return &pb.Leg{
		MessageId: "01M", Number: 2, Step: 5, Tenant: "acme", Queue: "acme", Generation: 1, Destination: "acme.example",
		ReversePath: "a@x.example", Recipients: []*pb.Recipient{{Number: 1, Address: "b@acme.example"}},
		Content: &pb.ContentRef{Topic: schemas.Received}, BornMs: since.Add(-time.Hour).UnixMilli(),
		Reason: pb.Reason_REASON_QUARANTINE, ParkedMs: since.UnixMilli(), DueMs: since.Add(keep).UnixMilli(),
		Scan: &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "p", Action: "quarantine", Finding: "malware"},
	}
}

const scanSite = `
kind: engine
name: measure
type: unpack
---
kind: scan
name: p
engines: measure
quarantine: {keep: 10d}
---
kind: scan
name: freeing
engines: measure
quarantine: {keep: 10d, then: release}
---
kind: queue
name: acme
scan: p
---
kind: tenant
name: acme
domains: [acme.example]
---
kind: route
name: all
match: {domain: "*"}
via: smtp://mx
`

func TestQuarantined(t *testing.T) {
	docs, err := directory.Parse(directory.File{Name: "x", Data: []byte(scanSite)})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	since := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, c := range []struct {
		name    string
		policy  string
		kept    time.Duration // as recorded
		after   time.Duration
		fate    fate
		topic   string
		state   pb.ScanState
		stopped time.Duration
	}{
		{"not yet", "p", 10 * day, 9 * day, fateKept, schemas.Quarantine, pb.ScanState_SCAN_STATE_DONE, 0},
		{"the policy keeps longer now", "p", 5 * day, 6 * day, fateKept, schemas.Quarantine, pb.ScanState_SCAN_STATE_DONE, 0},
		{"the policy keeps shorter now", "p", 30 * day, 11 * day, fateDropped, "", pb.ScanState_SCAN_STATE_DONE, 0},
		{"over", "p", 10 * day, 10 * day, fateDropped, "", pb.ScanState_SCAN_STATE_DONE, 0},
		{"over, policy gone", "gone", 10 * day, 10 * day, fateDropped, "", pb.ScanState_SCAN_STATE_DONE, 0},
		{"over, to be released", "freeing", 10 * day, 11 * day, fateReleased, schemas.Queue("acme", 1), pb.ScanState_SCAN_STATE_EXEMPT, 11 * day},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := heldBack(since, c.kept)
			l.Scan.Policy = c.policy
			w := world{decide: snap.Decide, queue: snap.Queue, scan: snap.Scan, orders: noOrder, again: noneAgain, now: since.Add(c.after),
				suspended: func(string, string, string) (time.Time, bool) { return time.Time{}, false },
				flushed:   func(*pb.Leg) bool { return true }}
			m := quarantined(l, w)[0]
			if m.fate != c.fate || m.topic != c.topic || l.Scan.State != c.state || l.Step != 6 || l.StoppedMs != c.stopped.Milliseconds() {
				t.Errorf("%s to %q, leg %v", m.fate, m.topic, l)
			}
			ends := false
			for _, r := range m.records() {
				ends = ends || r.Topic == schemas.Events
			}
			if ends == (c.fate == fateKept) {
				t.Error("a leg that remains tells of it, or one that doesn't tells nothing")
			}
			if c.fate == fateDropped && (len(m.records()) != 1 || m.event.Type != pb.EventType_EVENT_TYPE_DISCARDED || len(m.event.Outcomes) != 1) {
				t.Errorf("dropped with %v", m.records())
			}
		})
	}
	again := heldBack(since, day)
	w := world{decide: snap.Decide, queue: snap.Queue, scan: snap.Scan, orders: noOrder, again: noneAgain, now: since.Add(day),
		suspended: func(string, string, string) (time.Time, bool) { return time.Time{}, false }}
	if m := freeQuarantined(again, true, w); m.topic != schemas.Scan("acme", 1) || m.event.Scan.GetPolicy() != "p" || m.event.Type != pb.EventType_EVENT_TYPE_RELEASED {
		t.Errorf("to be scanned again: %+v", m)
	}
}

// The stage ends what has been kept for long enough, and holds the rest whatever
// is flushed.
func TestQuarantineExpires(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, scanSite)
	old, young := heldBack(time.Now().Add(-11*24*time.Hour), 24*time.Hour), heldBack(time.Now(), 24*time.Hour)
	young.MessageId = "01N"
	waits := heldBack(time.Now(), 0)
	waits.MessageId, waits.Scan, waits.Reason, waits.ParkedMs = "01O", &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: "p", Waits: 3}, pb.Reason_REASON_SCAN, 0
	bustest.Put(t, b, bus.NewQuarantined(young), bus.NewQuarantined(old), bus.NewWaiting(schemas.DelayTopics()[0], waits))
	start(t, b, Config{})
	got := bustest.Want(t, b, schemas.Scan("acme", 1), 1)
	if l, err := bus.ReadLeg(got[0]); err != nil || l.Scan.Waits != 3 || l.MessageId != "01O" {
		t.Errorf("%v, %v", l, err)
	}
	bustest.WantMatch(t, b, schemas.Events, 1, func(r bus.Record) bool { return headerIs(r, bus.HeaderEvent, "EVENT_TYPE_DISCARDED") })
	left := 0
	err := b.Waiting(t.Context(), schemas.DelayGroup, []string{schemas.Quarantine}, bus.Look{}, func(r bus.Record) error {
		left++
		if l, err := bus.ReadLeg(r); err != nil || l.MessageId != "01N" {
			t.Errorf("%v waits, %v", l, err)
		}
		return nil
	})
	if err != nil || left != 1 {
		t.Errorf("%d wait, %v", left, err)
	}
}

func headerIs(r bus.Record, key, value string) bool {
	for _, h := range r.Headers {
		if h.Key == key && string(h.Value) == value {
			return true
		}
	}
	return false
}

func noOrder(control.Held) []control.Order { return nil }

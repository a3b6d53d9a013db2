package scanner

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/directory"
	"qstream/directory/ruling"
	"qstream/engine"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Mail that an engine failed together doesn't come back together: beside what
// breaks the engine good mail would be counted as poison, too.
func TestWaitsAreSpread(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	sc := scene{snap: &directory.Snapshot{}, policy: &directory.ScanPolicy{Name: "p"}, began: now, now: now}
	broken := []ruling.Said{{Verdict: engine.Verdict{Engine: "clam", Outcome: engine.Failed, Reason: engine.Broken}}}
	for name, c := range map[string]struct {
		waits       uint32
		until       time.Time
		least, most time.Duration
	}{
		"first":          {0, time.Time{}, 5 * time.Second, 10 * time.Second},
		"third":          {2, time.Time{}, 20 * time.Second, 40 * time.Second},
		"last":           {100, time.Time{}, 450 * time.Second, 15 * time.Minute},
		"engine is down": {0, now.Add(time.Minute), time.Minute, 70 * time.Second},
	} {
		slots := map[int64]bool{}
		for i := range 200 {
			l := &pb.Leg{MessageId: mail.DerivedID(now, fmt.Sprint(i)), Number: 1, Step: 3, Scan: &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: "p", Waits: c.waits}}
			out := wait(l, answer{verdicts: broken, until: c.until}, sc)
			var next pb.Leg
			if err := proto.Unmarshal(out[0].Value, &next); err != nil {
				t.Fatal(err)
			}
			waits := time.UnixMilli(next.DueMs).Sub(now)
			if waits < c.least || waits > c.most {
				t.Fatalf("%s: waits for %s, want %s to %s", name, waits, c.least, c.most)
			}
			slots[int64(10*(waits-c.least)/(c.most-c.least))] = true
		}
		if len(slots) < 10 {
			t.Errorf("%s: waits are of %d kinds, want 10", name, len(slots))
		}
	}
}

package fold

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	pb "qstream/schemas/qstream/v1"
)

// TestCounts: what a leg counts for, and whether it should have had an attempt.
func TestCounts(t *testing.T) {
	const born = 1_800_000_000_000
	for _, tt := range []struct {
		name   string
		change func(*Leg)
		fresh  bool
		none   bool
	}{
		{"routed", func(*Leg) {}, true, false},
		{"for its share", func(l *Leg) { l.Place, l.Reason = Delay, pb.Reason_REASON_BACKPRESSURE }, true, false},
		{"rerouted", func(l *Leg) { l.Place = Reinject }, true, false},
		{"a destination without answer", func(l *Leg) { l.Place, l.Reason = Delay, pb.Reason_REASON_BREAKER }, false, false},
		{"deferred", func(l *Leg) { l.Place, l.Attempt, l.Reason = Delay, 1, pb.Reason_REASON_DEFERRED }, false, false},
		{"suspended", func(l *Leg) { l.Place, l.Reason = Parked, pb.Reason_REASON_SUSPENDED }, false, false},
		{"held", func(l *Leg) { l.Place, l.Reason = Parked, pb.Reason_REASON_HELD }, false, false},
		{"to be scanned", func(l *Leg) { l.Place = Scan }, true, false},
		{"in quarantine", func(l *Leg) { l.Place = Quarantine }, false, false},
		{"dead", func(l *Leg) { l.Place = Deadletter }, false, false},
		{"a report", func(l *Leg) { l.Report = true }, false, true},
		{"in front of the router", func(l *Leg) { l.Number = Unrouted }, false, true},
		{"ended", func(l *Leg) { l.Recipients = 0 }, false, true},
	} {
		l := Leg{Number: 1, Tenant: "acme", User: "ann", Place: Queue, Recipients: 3, Size: 100}
		tt.change(&l)
		got, want := Waits{}, Waits{}
		l.counts(born).add(got, 1)
		if !tt.none {
			for _, o := range []Owner{{"acme", ""}, {"acme", "ann"}} {
				want[o] = &Waiting{Wait: Wait{1, 3, 100}, Fresh: map[int64]int64{}}
				if tt.fresh {
					want[o].Fresh[born/1000] = 1
				}
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
		gone := Waits{}
		gone.Join(got)
		back := Waits{}
		l.counts(born).add(back, -1)
		if gone.Join(back); len(gone) != 0 {
			t.Errorf("%s: %v is left", tt.name, gone)
		}
	}
	w := &Waiting{Fresh: map[int64]int64{7: 1, 3: 2, 9: 1}}
	if at, ok := w.Oldest(); at != 3 || !ok {
		t.Errorf("oldest %d %v", at, ok)
	}
	if _, ok := (&Waiting{}).Oldest(); ok {
		t.Error("something is the oldest of nothing")
	}
}

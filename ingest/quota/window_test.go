package quota

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestWindow holds the sliding hour against a list of all that was counted.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type counted struct {
			at  time.Time
			use Use
		}
		var w window
		var all []counted
		now := time.Unix(1_700_000_000, 0)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "seconds")) * time.Second)
			// What other edges counted comes late, and their clocks differ.
			at := now.Add(time.Duration(rapid.IntRange(-300, 60).Draw(t, "late")) * time.Second)
			use := Use{rapid.Int64Range(0, 9).Draw(t, "messages"), rapid.Int64Range(0, 99).Draw(t, "recipients"), rapid.Int64Range(0, 1<<40).Draw(t, "bytes")}
			w.add(minuteOf(at), use)
			all = append(all, counted{at, use})
			w.advance(minuteOf(now))
			var exact, least, most Use
			for _, c := range all {
				if minuteOf(c.at) > minuteOf(now)-span {
					exact = exact.plus(c.use)
				}
				if c.at.After(now.Add(-59 * time.Minute)) {
					least = least.plus(c.use)
				}
				if c.at.After(now.Add(-60 * time.Minute)) {
					most = most.plus(c.use)
				}
			}
			if w.sum != exact {
				t.Fatalf("counts %+v, want %+v", w.sum, exact)
			}
			if least.since(w.sum) != (Use{}) || w.sum.since(most) != (Use{}) {
				t.Fatalf("%+v is not between the last 59 minutes' %+v and an hour's %+v", w.sum, least, most)
			}
			if len(w.minutes) > span+early {
				t.Fatalf("%d minutes are kept", len(w.minutes))
			}
			for i := range w.minutes[1:] {
				if w.minutes[i].at >= w.minutes[i+1].at {
					t.Fatalf("minutes out of order: %v", w.minutes)
				}
			}
		}
		w.advance(minuteOf(now) + 2*span)
		if !w.empty() || w.sum != (Use{}) {
			t.Fatalf("after two hours %+v is left in %v", w.sum, w.minutes)
		}
	})
}

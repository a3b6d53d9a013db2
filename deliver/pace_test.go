package deliver

import (
	"slices"
	"testing"
	"time"
)

// What a destination takes in a second and is spilled together comes back
// together: it is read together. All of it comes back evenly.
func TestBacklogComesBackInNeighbours(t *testing.T) {
	const legs, rate = 20_000, 20
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := pace{since: now.Add(-time.Hour), at: now, served: rate * paceSpan.Seconds()}
	p.horizon = now.Add(paceLast)
	type leg struct {
		number int
		due    time.Time
	}
	all := make([]leg, legs)
	for i := range all {
		all[i] = leg{i, p.turn(now, now, 0, rate)}
	}
	slices.SortFunc(all, func(a, b leg) int { return a.due.Compare(b.due) })
	beside, minutes := 0, map[int]int{}
	for i, l := range all {
		minutes[int(l.due.Sub(now).Minutes())]++
		// Others may fall due in the same second.
		if slices.ContainsFunc(all[i+1:min(i+21, legs)], func(next leg) bool { return next.number == l.number+1 }) {
			beside++
		}
	}
	if beside < legs*9/10 {
		t.Errorf("%d of %d legs come back with the one spilled after them", beside, legs)
	}
	for m := 5; m < 10; m++ {
		if n := minutes[m]; n < legs/5*9/10 || n > legs/5*11/10 {
			t.Errorf("%d legs in minute %d, %v in all", n, m, minutes)
		}
	}
}

package deliver

import (
	"fmt"
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

// Destinations that a leg found no room for leave nothing behind, and those
// that took their mail little: sweeps look at all there are.
func TestManyDestinationsAreForgotten(t *testing.T) {
	m := newSim(t, SchedulerConfig{}, func(*item) time.Duration { return time.Second })
	start, n := m.now, 0
	m.offer(2000, start.Add(10*time.Second), func() *item {
		n++
		return &item{tenant: "a", queue: "q", destination: fmt.Sprint("d", n), partition: fmt.Sprint(n % 3), size: 1000,
			limits: Limits{Concurrency: 120, DestinationConcurrency: 20, Shared: true}}
	})
	m.run(start.Add(10 * time.Second))
	if got, most := len(m.s.gates), m.s.held+len(m.done)+m.s.running; n < 19_000 || got > most {
		t.Errorf("%d destinations remembered of %d: %d have or had an attempt or a leg", got, n, most)
	}
	for len(m.done) < n && m.now.Before(start.Add(time.Hour)) {
		m.run(m.now.Add(10 * time.Second))
		m.now = m.now.Add(time.Millisecond)
		if got := len(m.s.gates); got > 15_000 {
			t.Fatalf("%d destinations remembered %v after the start", got, m.now.Sub(start))
		}
	}
	if len(m.done) < n {
		t.Errorf("%d of %d delivered", len(m.done), n)
	}
}

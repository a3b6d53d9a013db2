package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"qstream/test/fakemx"
)

// unexplained are duplicates without a fault before them.
const unexplained Kind = "no fault"

// lingering is how long after its end a fault may still make a duplicate: an
// attempt that it left unconfirmed is made again later.
const lingering = 3 * time.Minute

// attribute counts and lists arrivals beyond the first by the kind of fault
// that made them, and the faults that made more than so many processes that
// deliver may have had under way.
func attribute(arrivals []fakemx.Message, ids map[string]string, spans []span, workers int) (kinds map[Kind]int, repeats, excess []string) {
	kinds = map[Kind]int{}
	last, made := map[string]time.Time{}, make([]int, len(spans))
	for _, m := range arrivals {
		if m.ID == "" {
			continue
		}
		if before, again := last[m.ID]; again {
			kind := unexplained
			if i := blame(before, m.Time, spans); i >= 0 {
				kind = spans[i].Kind
				made[i]++
			}
			kinds[kind]++
			repeats = append(repeats, fmt.Sprintf("%s %s %s at %s and %s: %s", m.ID, ids[m.ID], recipient(number(m.ID)),
				before.Format(clockTime), m.Time.Format(clockTime), kind))
		}
		last[m.ID] = m.Time
	}
	for i, n := range made {
		if bound := allowed(i, spans, arrivals, workers); n > bound {
			excess = append(excess, fmt.Sprintf("%d by fault %d (%s %s), which may make %d", n, spans[i].N, spans[i].Kind, spans[i].Victim, bound))
		}
	}
	return kinds, repeats, excess
}

// unjournaled is how long arrivals may go on whose journal entries are under
// way: bus lets nothing begin beyond it.
const unjournaled = 500 * time.Millisecond

// allowed is how many duplicates a fault may make by guarantee 5: what those
// that deliver had open, and what arrived while the journal was silent and they
// went on. Faults that overlap may each have had its part in it.
func allowed(i int, spans []span, arrivals []fakemx.Message, workers int) int {
	near := func(at time.Time, s span) bool {
		return !at.Before(s.Began.Add(-time.Second)) && !at.After(s.Ended.Add(time.Second))
	}
	var times []time.Time
	for _, m := range arrivals {
		if near(m.Time, spans[i]) {
			times = append(times, m.Time)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	busiest, from := 0, 0
	for to, at := range times {
		for at.Sub(times[from]) > unjournaled {
			from++
		}
		busiest = max(busiest, to-from+1)
	}
	parts := 0
	for _, s := range spans {
		if disturbs(s.Fault) && !s.Began.After(spans[i].Ended.Add(time.Second)) && !s.Ended.Before(spans[i].Began.Add(-time.Second)) {
			parts++
		}
	}
	return parts * (workers*concurrency*queues + busiest)
}

// disturbs reports whether a fault may take from a process that delivers what
// it has under way.
func disturbs(f Fault) bool {
	if slices.Contains(clean, f.Kind) || strings.HasPrefix(f.Victim, "source>") {
		return false
	}
	role, _, _ := strings.Cut(f.Victim, ">")
	role, _, _ = strings.Cut(role, "-")
	return !slices.Contains([]string{"ingest", "router", "delay", "ledger"}, role)
}

// deliverers are how many processes deliver.
func deliverers(broker string) int {
	n := 0
	for _, name := range stages(broker) {
		if name == "up" || strings.HasPrefix(name, "deliver") {
			n++
		}
	}
	return n
}

// clockTime is how times are shown.
const clockTime = "15:04:05.000"

// blame is the fault that made a mail arrive again, -1 if none did: one that was
// under way at the first arrival, else the last one that began before the repetition.
// Those that must make none are blamed last, those of brokers and of processes
// that deliver first.
func blame(first, again time.Time, spans []span) int {
	best, score := -1, 0
	for i, s := range spans {
		if s.Began.After(again) || first.Sub(s.Ended) > lingering {
			continue
		}
		n := 2
		if strings.Contains(s.Victim, ">") || !disturbs(s.Fault) {
			n = 1
		}
		if !first.Before(s.Began.Add(-time.Second)) && !first.After(s.Ended.Add(time.Second)) {
			n += 2
		}
		if slices.Contains(clean, s.Kind) {
			n = 0
		}
		if n >= score {
			best, score = i, n
		}
	}
	return best
}

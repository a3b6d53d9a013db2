package deliver

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// sim drives a scheduler with virtual time: mail arrives, is attempted, is
// spilled and comes back.
type sim struct {
	t      *testing.T
	now    time.Time
	s      *scheduler
	events timeline
	rnd    *rand.Rand
	took   func(*item) time.Duration
	failed func(*item) bool

	done   map[string]int // attempts ended, by destination
	waited map[string][]time.Duration
	spills int
}

type happening struct {
	at  time.Time
	do  func()
	seq int
}

type timeline []happening

func (t timeline) Len() int { return len(t) }
func (t timeline) Less(i, j int) bool {
	return t[i].at.Before(t[j].at) || t[i].at.Equal(t[j].at) && t[i].seq < t[j].seq
}
func (t timeline) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timeline) Push(x any)   { *t = append(*t, x.(happening)) }
func (t *timeline) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}

func newSim(t *testing.T, cfg SchedulerConfig, took func(*item) time.Duration) *sim {
	m := &sim{
		t: t, now: time.Unix(1_000_000, 0), rnd: rand.New(rand.NewPCG(1, 2)), took: took,
		done: map[string]int{}, waited: map[string][]time.Duration{},
	}
	m.s = newScheduler(cfg, func() time.Time { return m.now })
	m.at(m.now.Add(sweepEvery), m.sweep)
	return m
}

func (m *sim) at(at time.Time, do func()) {
	heap.Push(&m.events, happening{at, do, m.rnd.Int()})
}

// offer lets mail arrive at a rate until the end.
func (m *sim) offer(rate float64, end time.Time, make func() *item) {
	var arrive func()
	arrive = func() {
		m.add(make())
		if next := m.now.Add(time.Duration(float64(time.Second) / rate)); next.Before(end) {
			m.at(next, arrive)
		}
	}
	m.at(m.now, arrive)
}

// sweep sweeps every few seconds, as the stage does.
func (m *sim) sweep() {
	for _, sp := range m.s.sweep() {
		m.spilled(sp)
	}
	m.dispatch()
	m.at(m.now.Add(sweepEvery), m.sweep)
}

func (m *sim) add(it *item) {
	it.value = m.now
	if sp, ok := m.s.add(it); ok {
		m.spilled(sp)
	}
	m.dispatch()
}

func (m *sim) spilled(sp spill) {
	m.spills++
	sp.item.spills++
	sp.item.lane = nil
	born := sp.item.value
	m.at(sp.due, func() {
		m.add(sp.item)
		sp.item.value = born
	})
}

func (m *sim) dispatch() {
	for it := m.s.next(); it != nil; it = m.s.next() {
		if wait := m.now.Sub(it.added); !it.settle && wait > holdLast+sweepEvery {
			m.t.Errorf("a leg was held for %v", wait)
		}
		m.waited[it.tenant] = append(m.waited[it.tenant], m.now.Sub(it.value.(time.Time)))
		m.at(m.now.Add(m.took(it)), func() { m.finish(it) })
	}
	if !m.s.wake.IsZero() {
		m.at(m.s.wake, m.dispatch)
	}
}

func (m *sim) finish(it *item) {
	c := contactMade
	if m.failed != nil && m.failed(it) {
		c = contactFailed
	} else {
		m.done[it.destination]++
	}
	for _, sp := range m.s.done(it, c) {
		m.spilled(sp)
	}
	m.dispatch()
}

func (m *sim) run(end time.Time) {
	for len(m.events) > 0 && m.events[0].at.Before(end) {
		e := heap.Pop(&m.events).(happening)
		if e.at.After(m.now) {
			m.now = e.at
		}
		e.do()
	}
}

// One slow destination among 200 healthy ones, 200 slots: with a plain window
// of 1,000 unfinished records the rate falls from 950 to 17 a second.
func TestTarpitLeavesOthersAtFullRate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		share float64
		rate  float64 // offered
		want  float64 // to healthy destinations
		lasts time.Duration
	}{
		{0.02, 950, 925, 5 * time.Minute}, // all of the healthy 931
		{0.10, 950, 850, 5 * time.Minute}, // all of the healthy 855
		{0.02, 2000, 900, time.Minute},
		{0.10, 2000, 900, time.Minute},
	} {
		t.Run(fmt.Sprintf("%v of %v", c.share, c.rate), func(t *testing.T) {
			t.Parallel()
			m := newSim(t, SchedulerConfig{}, func(it *item) time.Duration {
				if it.destination == "tarpit" {
					return time.Minute
				}
				return 200 * time.Millisecond
			})
			start, end := m.now, m.now.Add(c.lasts)
			m.offer(c.rate, end, func() *item {
				d := fmt.Sprintf("d%d", m.rnd.IntN(200))
				if m.rnd.Float64() < c.share {
					d = "tarpit"
				}
				return &item{tenant: "a", queue: "a", destination: d, partition: "0", size: 1000,
					limits: Limits{Concurrency: 200, DestinationConcurrency: 10}}
			})
			pinned := 0
			m.at(start.Add(c.lasts*4/5), func() { pinned = m.s.partition("0").held })
			m.run(end)
			healthy := 0
			for d, n := range m.done {
				if d != "tarpit" {
					healthy += n
				}
			}
			rate := float64(healthy) / end.Sub(start).Seconds()
			t.Logf("healthy %.0f/s, tarpit %d, spills %d, held of the partition %d", rate, m.done["tarpit"], m.spills, pinned)
			if rate < c.want {
				t.Errorf("healthy destinations got %.0f mails a second, want at least %.0f", rate, c.want)
			}
			if pinned > 1000 {
				t.Errorf("%d legs pin the partition, want at most 1000", pinned)
			}
		})
	}
}

// A tenant that floods leaves another's legs at their pace.
func TestFloodLeavesOtherTenantsAlone(t *testing.T) {
	t.Parallel()
	lim := Limits{Concurrency: 1000, DestinationConcurrency: 1000}
	m := newSim(t, SchedulerConfig{Slots: 100}, func(*item) time.Duration { return time.Second })
	end := m.now.Add(2 * time.Minute)
	m.offer(2000, end, func() *item {
		return &item{tenant: "flood", queue: "f", destination: "x", partition: "0", size: 1000, limits: lim}
	})
	m.offer(10, end, func() *item {
		return &item{tenant: "quiet", queue: "q", destination: "y", partition: "1", size: 1000, limits: lim}
	})
	m.run(end)
	worst := time.Duration(0)
	for _, w := range m.waited["quiet"] {
		worst = max(worst, w)
	}
	t.Logf("quiet: %d attempts, worst wait %v; flood: %d attempts", len(m.waited["quiet"]), worst, len(m.waited["flood"]))
	if worst > 0 {
		t.Errorf("a leg of the quiet tenant waited %v", worst)
	}
	if n := len(m.waited["flood"]); n < 80*110 {
		t.Errorf("the flooding tenant had %d attempts of 100 slots in 120 s", n)
	}
}

// A tenant whose hosts never answer leaves others in the same queue their
// turns, though it fills what it may of the queue's concurrency.
func TestTarpitLeavesOthersOfItsQueueAlone(t *testing.T) {
	t.Parallel()
	lim := Limits{Concurrency: 120, DestinationConcurrency: 20, Shared: true}
	m := newSim(t, SchedulerConfig{}, func(it *item) time.Duration {
		if it.tenant == "stuck" {
			return 5 * time.Minute
		}
		return 20 * time.Millisecond
	})
	end := m.now.Add(2 * time.Minute)
	m.offer(50, end, func() *item {
		return &item{tenant: "stuck", queue: "shared", destination: fmt.Sprintf("t%d", m.rnd.IntN(1000)), partition: "0", size: 1000, limits: lim}
	})
	m.offer(50, end, func() *item {
		return &item{tenant: "quiet", queue: "shared", destination: "y", partition: "0", size: 1000, limits: lim}
	})
	m.run(end)
	worst := time.Duration(0)
	for _, w := range m.waited["quiet"] {
		worst = max(worst, w)
	}
	if n := len(m.waited["quiet"]); n < 5990 || worst > 0 {
		t.Errorf("the other tenant had %d attempts of 6000, the worst after %v", n, worst)
	}
	if n := len(m.waited["stuck"]); n < 100 {
		t.Errorf("the stuck tenant had %d attempts of a concurrency of 120", n)
	}
}

// Destinations of a tenant that hang, in whatever number, leave its others
// alone: those that were known before, and those that are new.
func TestHangingDestinationsLeaveOthersOfTheirTenantAlone(t *testing.T) {
	t.Parallel()
	lim := Limits{Concurrency: 120, DestinationConcurrency: 20}
	for _, c := range []struct {
		hanging int
		later   time.Duration // when they begin to hang; until then they answer
		fresh   bool          // a new destination is healthy too
		shared  bool
	}{
		{1, 0, true, false}, {10, 0, true, false}, {25, 0, true, false}, {25, 0, true, true},
		{200, 0, false, false}, {200, 0, false, true},
		{5, 10 * time.Second, true, false}, {5, 10 * time.Second, false, true},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			t.Parallel()
			m := newSim(t, SchedulerConfig{}, nil)
			start, end := m.now, m.now.Add(3*time.Minute)
			m.took = func(it *item) time.Duration {
				if it.tenant == "a" && it.destination[0] == 'h' && m.now.Sub(start) >= c.later {
					return 5 * time.Minute
				}
				return 20 * time.Millisecond
			}
			worst := map[string]time.Duration{}
			note := func(it *item) time.Duration {
				worst[it.destination] = max(worst[it.destination], m.now.Sub(it.value.(time.Time)))
				return 0
			}
			took := m.took
			m.took = func(it *item) time.Duration { return note(it) + took(it) }
			make := func(destination string) func() *item {
				return func() *item {
					return &item{tenant: "a", queue: "q", destination: destination, partition: "0", size: 1000, limits: Limits{
						Concurrency: lim.Concurrency, DestinationConcurrency: lim.DestinationConcurrency, Shared: c.shared}}
				}
			}
			m.offer(20, end, make("known"))
			m.at(start.Add(time.Second), func() {
				for i := range c.hanging {
					m.offer(100/float64(c.hanging), end, make(fmt.Sprintf("h%d", i)))
				}
			})
			if c.fresh {
				m.at(start.Add(time.Minute), func() { m.offer(20, end, make("new")) })
			}
			m.run(end)
			if worst["known"] > 0 || worst["new"] > 0 {
				t.Errorf("healthy destinations waited %v and %v", worst["known"], worst["new"])
			}
			if m.done["known"] < 3550 || c.fresh && m.done["new"] < 2350 {
				t.Errorf("%d and %d attempts to healthy destinations", m.done["known"], m.done["new"])
			}
		})
	}
}

// Tenants that all want everything share evenly.
func TestTenantsShareEvenly(t *testing.T) {
	t.Parallel()
	m := newSim(t, SchedulerConfig{Slots: 100}, func(*item) time.Duration { return 100 * time.Millisecond })
	end := m.now.Add(30 * time.Second)
	for i, rate := range []float64{3000, 1000, 1000, 1000} {
		name := fmt.Sprintf("t%d", i)
		m.offer(rate, end, func() *item {
			return &item{tenant: name, queue: "shared", destination: fmt.Sprintf("d%d", m.rnd.IntN(50)), partition: name,
				size: 1000, limits: Limits{Concurrency: 100, DestinationConcurrency: 20}}
		})
	}
	m.run(end)
	for name, w := range m.waited {
		t.Logf("%s: %d", name, len(w))
		if len(w) < 6300 || len(w) > 8000 { // a quarter of 100 slots at 10/s for 30 s is 7500
			t.Errorf("%s had %d attempts, want about 7200", name, len(w))
		}
	}
}

// A dead destination costs few attempts; what waits for it comes back with
// the probe.
func TestBreakerProbes(t *testing.T) {
	t.Parallel()
	m := newSim(t, SchedulerConfig{}, func(*item) time.Duration { return 30 * time.Second })
	start, tries := m.now, 0
	m.failed = func(*item) bool { tries++; return true }
	end := m.now.Add(time.Hour)
	m.offer(5, end, func() *item {
		return &item{tenant: "a", queue: "a", destination: "dead", partition: "0", size: 1000,
			limits: Limits{Concurrency: 100, DestinationConcurrency: 20}}
	})
	m.run(end)
	t.Logf("%d connection attempts in an hour, %d spills", tries, m.spills)
	if tries > 40 { // 20 at once, then a probe after 1, 2, 4 ... minutes
		t.Errorf("a dead destination was tried %d times in %v", tries, m.now.Sub(start))
	}
}

// A backlog for one healthy destination is worked off at nearly its speed,
// although most of it is spilled at first.
func TestBacklogDrains(t *testing.T) {
	t.Parallel()
	m := newSim(t, SchedulerConfig{}, func(*item) time.Duration { return 200 * time.Millisecond })
	start, other := m.now, time.Duration(0)
	for range 20_000 {
		m.add(&item{tenant: "a", queue: "a", destination: "giant", partition: "0", size: 1000,
			limits: Limits{Concurrency: 120, DestinationConcurrency: 100}})
	}
	m.took = func(it *item) time.Duration {
		if it.destination == "other" {
			other = m.now.Sub(it.value.(time.Time))
		}
		return 200 * time.Millisecond
	}
	m.at(m.now.Add(time.Second), func() {
		m.add(&item{tenant: "a", queue: "a", destination: "other", partition: "0", size: 1000,
			limits: Limits{Concurrency: 120, DestinationConcurrency: 100}})
	})
	for m.done["giant"] < 20_000 && m.now.Before(start.Add(10*time.Minute)) {
		m.run(m.now.Add(time.Second))
		m.now = m.now.Add(time.Millisecond)
	}
	took := m.now.Sub(start)
	t.Logf("20,000 legs at 500 a second took %v, %d spills; another destination waited %v", took, m.spills, other)
	if took > 80*time.Second { // 40 s at best
		t.Errorf("%d of 20,000 legs after %v", m.done["giant"], took)
	}
	if other > 200*time.Millisecond {
		t.Errorf("a leg for another destination waited %v", other)
	}
}

// A backlog that a slow destination needs an hour and a half for keeps it busy
// all the time, and comes round neither at once nor often: each return costs
// two records and their commits.
func TestGreatBacklogComesRoundEvenly(t *testing.T) {
	t.Parallel()
	const legs = 100_000
	m := newSim(t, SchedulerConfig{}, func(*item) time.Duration { return time.Second })
	start := m.now
	lim := Limits{Concurrency: 120, DestinationConcurrency: 20}
	m.offer(1000, start.Add(legs*time.Millisecond), func() *item {
		return &item{tenant: "a", queue: "a", destination: "slow", partition: "0", size: 1000, limits: lim}
	})
	m.run(start.Add(legs * time.Millisecond)) // about 1,000 a second are spilled while they come
	m.s.sweep()
	worst, last, was := 0, m.spills, m.done["slow"]
	for m.now.Before(start.Add(time.Hour)) {
		m.run(m.now.Add(10 * time.Second))
		m.now = m.now.Add(time.Millisecond)
		worst, last = max(worst, m.spills-last), m.spills
	}
	rate := float64(m.done["slow"]-was) / time.Hour.Seconds()
	t.Logf("%.1f a second, %d spills of %d legs in an hour, at most %d in 10 s", rate, m.spills, legs, worst)
	if rate < 18.5 {
		t.Errorf("the destination got %.1f a second of 20", rate)
	}
	if m.spills > 3*legs || worst > 4000 {
		t.Errorf("%d spills in an hour, %d of them in 10 s", m.spills, worst)
	}
}

// A backlog for as many destinations as legs, of which nothing is known, takes
// turns: it uses what the tenant may, and comes round seldom.
func TestBacklogForManyDestinationsTakesTurns(t *testing.T) {
	t.Parallel()
	const legs = 20_000
	m := newSim(t, SchedulerConfig{}, func(*item) time.Duration { return time.Second })
	start, n := m.now, 0
	m.offer(1000, start.Add(legs*time.Millisecond), func() *item {
		n++
		return &item{tenant: "a", queue: "q", destination: fmt.Sprint("d", n), partition: fmt.Sprint(n % 3), size: 1000,
			limits: Limits{Concurrency: 120, DestinationConcurrency: 20, Shared: true}}
	})
	m.run(start.Add(3 * time.Minute))
	rate := float64(len(m.done)) / m.now.Sub(start).Seconds()
	t.Logf("%.0f a second, %d spills of %d legs", rate, m.spills, legs)
	if rate < 95 {
		t.Errorf("%.0f attempts a second of 102", rate)
	}
	if m.spills > 2*legs {
		t.Errorf("%d spills of %d legs", m.spills, legs)
	}
}

// What a queue on hold has returns ever more rarely, at last once an hour, and
// is taken within that hour once the queue is off hold.
func TestHoldDoesNotSpin(t *testing.T) {
	t.Parallel()
	const legs, day = 500, 24 * time.Hour
	m := newSim(t, SchedulerConfig{}, func(*item) time.Duration { return 10 * time.Millisecond })
	var all []*item
	for range legs {
		it := &item{tenant: "a", queue: "q", destination: "d", partition: "p", size: 100, limits: Limits{DestinationConcurrency: 5}}
		all = append(all, it)
		m.add(it)
	}
	start := m.now
	m.run(start.Add(day))
	if most := legs * (24 + 7); m.spills > most || m.done["d"] > 0 {
		t.Errorf("%d spills in a day, want %d at most; %d attempts", m.spills, most, m.done["d"])
	}
	m.now = start.Add(day)
	for _, it := range all {
		it.limits.Concurrency = 10
	}
	m.run(start.Add(day + time.Hour + time.Minute))
	if m.done["d"] != legs {
		t.Errorf("%d of %d taken within an hour", m.done["d"], legs)
	}
}

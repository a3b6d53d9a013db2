package deliver

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// machine drives a scheduler at random and checks what must always hold.
type machine struct {
	s       *scheduler
	now     time.Time
	gone    map[string]bool // partitions given up
	waiting map[*item]bool  // added, not yet started
	running map[*item]bool
	batch   int            // legs added at once
	away    map[*item]bool // left, not yet done
}

var limitsFor = map[string]Limits{
	"q0": {Concurrency: 3, DestinationConcurrency: 2},
	"q1": {Concurrency: 5, DestinationConcurrency: 5, Rate: 20},
	"q3": {Concurrency: 12, DestinationConcurrency: 12, Shared: true},
	"q4": {Concurrency: 60, DestinationConcurrency: 50},
	"q2": {Concurrency: 0, DestinationConcurrency: 5},
}

func newMachine(cfg SchedulerConfig, batch int) *machine {
	m := &machine{batch: batch, now: time.Unix(1_000_000, 0), gone: map[string]bool{}, waiting: map[*item]bool{}, running: map[*item]bool{}, away: map[*item]bool{}}
	m.s = newScheduler(cfg, func() time.Time { return m.now })
	return m
}

func (m *machine) add(t *rapid.T) {
	pick := func(prefix string, n int) string { return fmt.Sprint(prefix, rapid.IntRange(0, n-1).Draw(t, prefix)) }
	it := item{tenant: pick("t", 3), queue: pick("q", 5), destination: pick("d", 4), partition: pick("p", 3), size: 100}
	it.settle = rapid.IntRange(0, 9).Draw(t, "settle") == 0
	for range m.batch {
		m.addOne(t, it)
	}
}

func (m *machine) addOne(t *rapid.T, like item) {
	it := &like
	it.limits = limitsFor[it.queue]
	delete(m.gone, it.partition)
	given := new(bool)
	it.gone = func() bool { return *given }
	it.value = given
	sp, spilled := m.s.add(it)
	switch {
	case !spilled:
		m.waiting[it] = true
	case sp.item != it || !sp.due.After(m.now) || sp.why == 0:
		t.Fatalf("spilled: %+v", sp)
	}
}

func (m *machine) next(t *rapid.T) {
	for range m.batch {
		it := m.s.next()
		if it == nil {
			m.idle(t)
			return
		}
		m.start(t, it)
	}
}

func (m *machine) start(t *rapid.T, it *item) {
	if !m.waiting[it] {
		t.Fatal("a leg was started twice, or never added")
	}
	if it.isGone() {
		t.Fatal("a leg of a partition given up was started")
	}
	delete(m.waiting, it)
	m.running[it] = true
}

// idle: nothing is left that might start now.
func (m *machine) idle(t *rapid.T) {
	for it := range m.waiting {
		if !it.isGone() && m.mayStart(it) {
			t.Fatalf("%s %s %s waits for no reason", it.tenant, it.queue, it.destination)
		}
	}
}

func (m *machine) mayStart(it *item) bool {
	if it.settle {
		return m.s.settling < m.s.cfg.SettleSlots
	}
	l := it.lane
	q := l.shelf.queue
	return m.s.running < m.s.cfg.Slots && l.house.running < slotShare*(m.s.cfg.Slots-m.s.running) &&
		m.share(l.shelf) > 0 && m.mayOpen(l) && l.gate.running < l.gate.limit(q.limits) &&
		q.tokens.ready(m.now, q.limits.Rate).IsZero()
}

// share counts how many attempts a tenant may start in a queue, one by one.
func (m *machine) share(sh *shelf) int {
	q := sh.queue
	n := 0
	for q.running+n < q.limits.Concurrency &&
		(!q.limits.Shared || sh.running+n < slotShare*(q.limits.Concurrency-q.running-n)) {
		n++
	}
	return n
}

// mayOpen: a twentieth of its share a tenant leaves to destinations that
// answer, a fortieth to such that have nothing running.
func (m *machine) mayOpen(l *lane) bool {
	free, running, doubtful := m.share(l.shelf), l.gate.running, 0
	all := l.shelf.running + free
	for it := range m.running {
		if !it.settle && it.lane.shelf == l.shelf && it.lane.gate.doubtful {
			doubtful++
		}
	}
	left := min(free-all/20, max(1, all-all/20)-doubtful)
	if l.gate.doubtful {
		return left > 0 && (running == 0 || running < left/10)
	}
	return running == 0 || free > all/40
}

func (m *machine) done(t *rapid.T) {
	for it := range m.running {
		delete(m.running, it)
		m.spilled(t, m.s.done(it, contact(rapid.IntRange(0, 2).Draw(t, "contact"))))
		return
	}
}

// leave and goneAway are done in two steps.
func (m *machine) leave(t *rapid.T) {
	for it := range m.running {
		delete(m.running, it)
		m.away[it] = true
		m.spilled(t, m.s.left(it, contact(rapid.IntRange(0, 2).Draw(t, "contact"))))
		return
	}
}

func (m *machine) goneAway(t *rapid.T) {
	for it := range m.away {
		delete(m.away, it)
		if len(m.s.done(it, contactNone)) != 0 {
			t.Fatal("spilled twice")
		}
		return
	}
}

func (m *machine) spilled(t *rapid.T, spilled []spill) {
	for _, sp := range spilled {
		if !m.waiting[sp.item] || sp.why != breakerOpen || !sp.due.After(m.now) {
			t.Fatalf("spilled: %+v", sp)
		}
		delete(m.waiting, sp.item)
	}
}

func (m *machine) giveUp(t *rapid.T) {
	name := fmt.Sprint("p", rapid.IntRange(0, 2).Draw(t, "partition"))
	for it := range m.waiting {
		if it.partition == name {
			*it.value.(*bool) = true
		}
	}
}

func (m *machine) sweep(t *rapid.T) {
	for _, sp := range m.s.sweep() {
		if !m.waiting[sp.item] || m.now.Sub(sp.item.added) <= holdLast || !sp.due.After(m.now) {
			t.Fatalf("spilled: %+v", sp)
		}
		delete(m.waiting, sp.item)
	}
}

func (m *machine) check(t *rapid.T) {
	queues, gates, settling := map[string]int{}, map[gateKey]int{}, 0
	for it := range m.running {
		if it.settle {
			settling++
			continue
		}
		queues[it.queue]++
		gates[gateKey{it.queue, it.destination}]++
	}
	for q, n := range queues {
		if n > limitsFor[q].Concurrency {
			t.Fatalf("%d attempts of queue %s", n, q)
		}
	}
	for k, n := range gates {
		if n > limitsFor[k.queue].DestinationConcurrency {
			t.Fatalf("%d attempts to %v", n, k)
		}
	}
	if len(m.running)-settling != m.s.running || m.s.running > m.s.cfg.Slots || settling != m.s.settling {
		t.Fatalf("%d running, %d settling, want %d and %d", m.s.running, m.s.settling, len(m.running)-settling, settling)
	}
	if m.s.held > m.s.cfg.Held || m.s.held < 0 || m.s.bytes != 100*m.s.held {
		t.Fatalf("%d legs, %d bytes held", m.s.held, m.s.bytes)
	}
}

func TestSchedulerAlways(t *testing.T) {
	schedulerAlways(t, SchedulerConfig{Slots: 14, SettleSlots: 2, Held: 40, PartitionHeld: 10}, 1)
}

// Large enough for a fortieth of a queue to be something.
func TestSchedulerAlwaysAtLarge(t *testing.T) {
	schedulerAlways(t, SchedulerConfig{Slots: 70, SettleSlots: 2, Held: 300, PartitionHeld: 100}, 15)
}

func schedulerAlways(t *testing.T, cfg SchedulerConfig, batch int) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(cfg, batch)
		t.Repeat(map[string]func(*rapid.T){
			"add":    m.add,
			"add2":   m.add,
			"next":   m.next,
			"done":   m.done,
			"leave":  m.leave,
			"away":   m.goneAway,
			"giveUp": m.giveUp,
			"sweep":  m.sweep,
			"pass": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(1, 100_000).Draw(t, "ms")) * time.Millisecond)
			},
			"": m.check,
		})
		m.drain(t)
	})
}

// drain: everything that was added comes out, and nothing remains counted.
func (m *machine) drain(t *rapid.T) {
	for range len(m.away) {
		m.goneAway(t)
	}
	for range 1000 {
		for it := m.s.next(); it != nil; it = m.s.next() {
			delete(m.waiting, it)
			m.running[it] = true
		}
		for it := range m.running {
			delete(m.running, it)
			for _, sp := range m.s.done(it, contactMade) {
				delete(m.waiting, sp.item)
			}
		}
		m.now = m.now.Add(time.Second)
		m.sweep(t)
	}
	for it := range m.waiting {
		if !it.isGone() {
			t.Fatalf("%s %s %s never came out", it.tenant, it.queue, it.destination)
		}
	}
	if m.s.held != 0 || m.s.bytes != 0 || m.s.running != 0 || m.s.settling != 0 {
		t.Fatalf("held %d, running %d, settling %d at the end", m.s.held, m.s.running, m.s.settling)
	}
	m.now = m.now.Add(2 * time.Hour)
	m.s.sweep()
	m.s.sweep()
	if n := len(m.s.gates) + len(m.s.houses) + len(m.s.lines) + len(m.s.partitions); n != 0 {
		t.Fatalf("%d things remembered for ever: %v %v %v %v", n, m.s.gates, m.s.houses, m.s.lines, m.s.partitions)
	}
}

// A rate is kept to, and spread evenly.
func TestRate(t *testing.T) {
	m := newSim(t, SchedulerConfig{}, func(*item) time.Duration { return time.Millisecond })
	end := m.now.Add(time.Minute)
	m.offer(50, end, func() *item {
		return &item{tenant: "a", queue: "a", destination: "d", partition: "0", size: 1, limits: Limits{Concurrency: 10, DestinationConcurrency: 10, Rate: 5}}
	})
	m.run(end)
	if n := m.done["d"]; n < 295 || n > 305 {
		t.Errorf("%d attempts in a minute at 5 a second", n)
	}
}

func TestBreaker(t *testing.T) {
	now := noon
	var b breaker
	for range breakerFails - 1 {
		if b.fail(now) {
			t.Fatal("opened too soon")
		}
	}
	want := breakerFirst
	for range 8 {
		if !b.fail(now) || !b.open(now.Add(want-1)) || b.open(now.Add(want)) {
			t.Fatalf("not open for %v: %+v", want, b)
		}
		if b.fail(now.Add(want / 2)) {
			t.Error("a failure of before counts")
		}
		now = now.Add(want)
		want = min(2*want, breakerLast)
	}
	if b.succeed(); !b.closed() {
		t.Error("a success doesn't close it")
	}
}

package deliver

import "time"

// Shares of the process that are left to others. A tenant may take another
// slot while it runs no more than slotShare times what is free: one alone
// gets 8/9 of them, and a newcomer always finds one. So it is with the
// concurrency of a queue that tenants share. Likewise a tenant may hold no
// more than what is free, and so may a destination of a partition, and a
// tenant of a shared queue's partition: one with many destinations would fill
// it, each of them within its own share.
const slotShare = 8

// SchedulerConfig bounds what one process holds and runs.
type SchedulerConfig struct {
	Slots         int // attempts at once; default 1000
	SettleSlots   int // refused and expired legs settled at once; default 32
	Held          int // legs held; default 8192
	HeldBytes     int // bytes of legs held; default 64 MiB
	PartitionHeld int // legs held of a partition with several destinations; default 1000
}

func (c *SchedulerConfig) defaults() {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&c.Slots, 1000)
	set(&c.SettleSlots, 32)
	set(&c.Held, 8192)
	set(&c.HeldBytes, 64<<20)
	set(&c.PartitionHeld, 1000)
}

// scheduler decides which leg is attempted next: round robin over tenants,
// then over their destinations, within the limits of queue and destination.
// It does no I/O, starts nothing and isn't safe for concurrent use.
type scheduler struct {
	cfg    SchedulerConfig
	now    func() time.Time
	settle ring[*item]

	settling, running, held, bytes int

	houses     map[string]*house
	robin      ring[*house]
	lines      map[string]*line
	gates      map[gateKey]*gate
	partitions map[string]*partition
	paused     bool      // nothing is spilled: what time it is, or what is suspended, isn't known
	wake       time.Time // when next may have something by time alone; zero: never
}

type gateKey struct{ queue, destination string }

func newScheduler(cfg SchedulerConfig, now func() time.Time) *scheduler {
	cfg.defaults()
	return &scheduler{
		cfg: cfg, now: now,
		houses: map[string]*house{}, lines: map[string]*line{},
		gates: map[gateKey]*gate{}, partitions: map[string]*partition{},
	}
}

// add takes a leg, or says that it is spilled.
func (s *scheduler) add(it *item) (spill, bool) {
	if it.settle {
		s.settle.push(it)
		return spill{}, false
	}
	now := s.now()
	l := s.lane(it)
	l.shelf.queue.limits, l.gate.used = it.limits, now
	if sp, ok := s.refuse(it, l, now); ok {
		return sp, true
	}
	it.lane, it.added = l, now
	l.items.push(it)
	s.account(it, 1)
	s.list(l)
	return spill{}, false
}

func (s *scheduler) refuse(it *item, l *lane, now time.Time) (spill, bool) {
	mixed := s.partition(it.partition).mixed(l.gate, now)
	switch {
	case s.paused:
	case it.limits.Concurrency <= 0:
		return held(it, now), true
	case l.gate.breaker.open(now):
		return spill{it, breakerOpen, l.gate.breaker.until}, true
	case s.over(it, l, mixed):
		due := l.back(now, it)
		s.forget(it, l.gate)
		return spill{it, overShare, due}, true
	}
	return spill{}, false
}

// over reports whether another leg of the lane would be above its share. What
// a tenant may hold its destinations share as tenants do, so that some which
// take nothing leave room for the others; doubtful ones also leave the last
// twentieth.
func (s *scheduler) over(it *item, l *lane, mixed bool) bool {
	left := l.modest(s.cfg.Held-s.held-l.house.held, s.cfg.Held)
	if l.gate.held >= left || l.house.bytes >= s.cfg.HeldBytes-s.bytes {
		return true
	}
	p := s.partition(it.partition)
	free := s.cfg.PartitionHeld - p.held
	if !mixed {
		// One destination alone: its unfinished records are one run, but what
		// comes for another finds room.
		return free <= s.cfg.PartitionHeld/slotShare
	}
	if it.limits.Shared {
		free -= p.of[l.house]
	}
	return l.gate.held >= l.modest(free, s.cfg.PartitionHeld)
}

// modest is what is left for a lane of all there is.
func (l *lane) modest(left, all int) int {
	if l.gate.doubtful {
		left -= all / spareDoubt
	}
	return left
}

// next is a leg to attempt or to settle now; nil: none. Its slot is taken
// until done.
func (s *scheduler) next() *item {
	if it := s.nextSettled(); it != nil {
		return it
	}
	s.wake = time.Time{}
	for range s.robin.len() {
		if s.running >= s.cfg.Slots {
			return nil
		}
		h := s.robin.pop()
		it := s.nextOf(h)
		if h.listed = h.shelves.len() > 0; h.listed {
			s.robin.push(h)
		}
		if it != nil {
			return it
		}
	}
	return nil
}

func (s *scheduler) nextSettled() *item {
	for s.settle.len() > 0 && s.settling < s.cfg.SettleSlots {
		if it := s.settle.pop(); !it.isGone() {
			s.settling++
			return it
		}
	}
	return nil
}

func (s *scheduler) nextOf(h *house) *item {
	if h.running >= slotShare*(s.cfg.Slots-s.running) {
		return nil
	}
	for range h.shelves.len() {
		sh := h.shelves.pop()
		it := s.nextOn(sh)
		if sh.listed = sh.lanes.len() > 0; sh.listed {
			h.shelves.push(sh)
		}
		if it != nil {
			return it
		}
	}
	return nil
}

func (s *scheduler) nextOn(sh *shelf) *item {
	q, now := sh.queue, s.now()
	if sh.room() == 0 {
		return nil
	}
	if at := q.tokens.ready(now, q.limits.Rate); !at.IsZero() {
		if s.wake.IsZero() || at.Before(s.wake) {
			s.wake = at
		}
		return nil
	}
	for sh.lanes.len() > 0 {
		l := sh.lanes.pop()
		l.gate.look(now)
		if l.block() {
			continue
		}
		l.listed = false
		if it := s.first(l); it != nil {
			s.list(l)
			s.start(it)
			return it
		}
	}
	return nil
}

// first takes the lane's oldest leg whose partition is still ours.
func (s *scheduler) first(l *lane) *item {
	for l.items.len() > 0 {
		it := l.items.pop()
		if !it.isGone() {
			return it
		}
		s.account(it, -1)
	}
	return nil
}

func (s *scheduler) start(it *item) {
	l := it.lane
	if l.gate.running == 0 {
		l.gate.pace.begin(s.now())
		l.gate.heard = s.now()
	}
	if l.shelf.running == 0 {
		l.shelf.pace.begin(s.now())
	}
	s.running++
	l.house.running++
	l.run(1)
	l.shelf.queue.tokens.take(l.shelf.queue.limits.Rate)
}

// contact is what an attempt learned about its destination.
type contact int

const (
	contactNone   contact = iota // nothing was tried
	contactMade                  // a host answered
	contactFailed                // no host could be reached
)

// left frees a leg's slot: its attempt is over, though the leg is held until
// it is done. When its failure opens the destination's breaker, what the
// destination holds is spilled.
func (s *scheduler) left(it *item, c contact) []spill {
	it.away = true
	if it.lane == nil {
		s.settling--
		return nil
	}
	l, now := it.lane, s.now()
	s.running--
	l.house.running--
	l.run(-1)
	l.gate.used = now
	var out []spill
	switch c {
	case contactMade:
		l.gate.breaker.succeed()
		l.gate.pace.done(now)
		l.shelf.pace.done(now)
		l.gate.heard = now
		s.trust(l.gate)
	case contactFailed:
		l.gate.doubt(true)
		if l.gate.breaker.fail(now) {
			out = s.empty(l.gate)
		}
	}
	s.unblock(l)
	return out
}

// done forgets a leg, and frees its slot if it has not left.
func (s *scheduler) done(it *item, c contact) []spill {
	var out []spill
	if !it.away {
		out = s.left(it, c)
	}
	if it.lane != nil {
		s.account(it, -1)
	}
	return out
}

// empty spills what a gate holds, due when its breaker lets a probe through.
func (s *scheduler) empty(g *gate) []spill {
	var out []spill
	for _, l := range g.lanes {
		for l.items.len() > 0 {
			it := l.items.pop()
			s.account(it, -1)
			if !it.isGone() {
				out = append(out, spill{it, breakerOpen, g.breaker.until})
			}
		}
	}
	return out
}

// list puts a lane with legs into the rings.
func (s *scheduler) list(l *lane) {
	if l.listed || l.items.len() == 0 {
		return
	}
	l.listed = true
	l.shelf.lanes.push(l)
	if !l.shelf.listed {
		l.shelf.listed = true
		l.house.shelves.push(l.shelf)
	}
	if !l.house.listed {
		l.house.listed = true
		s.robin.push(l.house)
	}
}

func (it *item) isGone() bool { return it.gone != nil && it.gone() }

package deliver

import "time"

// idle is how long the scheduler remembers a queue, destination or partition
// that it has nothing of.
const idle = 10 * time.Minute

// holdLast is how long a leg waits for its turn in memory. Longer waits are
// delay's: there a leg is found by flush and suspend, expires in time, and
// pins nothing.
const holdLast = 30 * time.Second

// lane finds or makes the lane of a leg and what it stands on.
func (s *scheduler) lane(it *item) *lane {
	g := s.gate(it.queue, it.destination)
	if l := g.lanes[it.tenant]; l != nil {
		return l
	}
	h := s.houses[it.tenant]
	if h == nil {
		h = &house{byQueue: map[string]*shelf{}}
		s.houses[it.tenant] = h
	}
	sh := h.byQueue[it.queue]
	if sh == nil {
		sh = &shelf{queue: s.line(it.queue)}
		h.byQueue[it.queue] = sh
	}
	l := &lane{house: h, shelf: sh, gate: g}
	g.lanes[it.tenant] = l
	return l
}

func (s *scheduler) gate(queue, destination string) *gate {
	k := gateKey{queue, destination}
	g := s.gates[k]
	if g == nil {
		g = &gate{lanes: map[string]*lane{}, doubtful: true}
		s.gates[k] = g
	}
	return g
}

func (s *scheduler) line(queue string) *line {
	q := s.lines[queue]
	if q == nil {
		q = &line{}
		s.lines[queue] = q
	}
	return q
}

func (s *scheduler) partition(name string) *partition {
	p := s.partitions[name]
	if p == nil {
		p = &partition{of: map[*house]int{}}
		s.partitions[name] = p
	}
	return p
}

// account adds n times a leg to everything that counts what is held. A leg is
// held until it is done, also while it is attempted: it pins its partition.
func (s *scheduler) account(it *item, n int) {
	s.held += n
	s.bytes += n * it.size
	it.lane.house.held += n
	it.lane.house.bytes += n * it.size
	it.lane.gate.held += n
	p := s.partition(it.partition)
	p.held += n
	if p.of[it.lane.house] += n; p.of[it.lane.house] == 0 {
		delete(p.of, it.lane.house)
	}
}

// limit changes a queue's limits for what is already held.
func (s *scheduler) limit(queue string, l Limits) {
	if q := s.lines[queue]; q != nil {
		q.limits = l
	}
}

// sweep drops legs whose partition was given up, spills those that have waited
// long enough, and forgets what has been idle. It is called every few seconds.
func (s *scheduler) sweep() []spill {
	now := s.now()
	alive := map[*shelf]bool{}
	var out []spill
	for k, g := range s.gates {
		g.look(now)
		for _, l := range g.lanes {
			s.dropGone(l)
			out = append(out, s.spillOld(l, now)...)
		}
		if g.spent(now) {
			delete(s.gates, k)
			continue
		}
		for _, l := range g.lanes {
			alive[l.shelf] = true
		}
	}
	for name, p := range s.partitions {
		if p.held == 0 && now.Sub(p.seen) > idle {
			delete(s.partitions, name)
		}
	}
	s.sweepHouses(alive)
	return out
}

// spent reports whether a destination isn't worth remembering any more. One that
// never failed and that nothing is planned for is soon as good as a new one:
// each sweep looks at all there are, and a tenant may have very many.
func (g *gate) spent(now time.Time) bool {
	switch {
	case g.held > 0 || g.breaker.open(now):
		return false
	case g.breaker == (breaker{}) && !g.pace.horizon.After(now):
		return now.Sub(g.used) > 2*paceSpan
	}
	return now.Sub(g.used) > idle
}

// forget drops what was made for a leg that found no room, if its destination
// was never tried.
func (s *scheduler) forget(it *item, g *gate) {
	if g.held == 0 && g.pace.since.IsZero() && g.breaker == (breaker{}) {
		delete(s.gates, gateKey{it.queue, it.destination})
	}
}

// spillOld takes the legs off a lane that wait for too long, or whose queue is
// on hold; the oldest are its first.
func (s *scheduler) spillOld(l *lane, now time.Time) []spill {
	var out []spill
	onHold := l.shelf.queue.limits.Concurrency <= 0
	for !s.paused && l.items.len() > 0 && (onHold || now.Sub(l.items.first().added) > holdLast) {
		it := l.items.pop()
		s.account(it, -1)
		if onHold {
			out = append(out, held(it, now))
		} else {
			out = append(out, spill{it, overShare, l.back(now, it)})
		}
	}
	return out
}

func (s *scheduler) dropGone(l *lane) {
	l.items.keep(func(it *item) bool {
		if it.isGone() {
			s.account(it, -1)
			return false
		}
		return true
	})
}

// sweepHouses forgets tenants and queues that no gate has a lane of. What is
// still in a ring leaves it at its next turn and is looked at again then.
func (s *scheduler) sweepHouses(alive map[*shelf]bool) {
	lines := map[*line]bool{}
	for name, h := range s.houses {
		for queue, sh := range h.byQueue {
			if !alive[sh] && !sh.listed {
				delete(h.byQueue, queue)
				continue
			}
			lines[sh.queue] = true
		}
		if len(h.byQueue) == 0 && !h.listed {
			delete(s.houses, name)
		}
	}
	for name, q := range s.lines {
		if !lines[q] {
			delete(s.lines, name)
		}
	}
}

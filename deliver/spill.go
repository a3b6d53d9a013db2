package deliver

import (
	"math"
	"time"
)

// Waits of spilled legs.
const (
	spillFirst = 2 * time.Second
	spillLast  = time.Hour
	paceSpan   = 30 * time.Second // over which a destination's speed is measured
	paceLeast  = time.Second      // before which it isn't known
	paceSlow   = 10 * time.Second // after which a destination that took nothing is slow
	paceLast   = 10 * time.Minute // beyond which nothing is planned: speeds change
)

// why a leg was spilled.
type why int

const (
	overShare why = iota + 1
	breakerOpen
	queueHeld // concurrency 0
)

// spill is a leg that the scheduler doesn't hold: it goes to delay without an
// attempt.
type spill struct {
	item *item
	why  why
	due  time.Time
}

// held spills a leg of a queue that is on hold.
func held(it *item, now time.Time) spill {
	return spill{it, queueHeld, now.Add(doubled(time.Minute, it.spills, spillLast))}
}

// pace measures how fast a destination takes mail, and spreads what is
// spilled so that it comes back about as fast as it can be taken.
type pace struct {
	served  float64   // completions, decayed with paceSpan
	since   time.Time // when there was something to take
	at      time.Time
	horizon time.Time // when the last spilled leg that is planned for comes back
	spread  float64   // in [0, 1), where the last one came that isn't
	beside  float64   // how many come there
}

// begin notes an attempt's start when none is under way.
func (p *pace) begin(now time.Time) {
	if p.decay(now); p.served < 0.01 {
		p.served, p.since = 0, now
	}
}

func (p *pace) done(now time.Time) {
	p.decay(now)
	p.served++
}

func (p *pace) decay(now time.Time) {
	if d := now.Sub(p.at); d > 0 {
		p.served *= math.Exp(-d.Seconds() / paceSpan.Seconds())
		p.at = now
	}
}

// rate is the legs a second that the destination takes, if that is known yet.
func (p *pace) rate(now time.Time) (rate float64, known bool) {
	p.decay(now)
	age := now.Sub(p.since)
	if p.since.IsZero() || age < paceLeast || p.served < 2 && age < paceSlow {
		return 0, false
	}
	// The decayed sum is of less than the whole span at first.
	return p.served / paceSpan.Seconds() / (1 - math.Exp(-age.Seconds()/paceSpan.Seconds())), true
}

// early reports whether the speed was measured for so short a time that it
// may be far off.
func (p *pace) early(now time.Time) bool { return now.Sub(p.since) < paceSlow }

// back is when a leg spilled for the n-th time (from 0) comes back. A
// destination that is known to take mail gets it back at its speed, a little
// before it is done with what is held; a slow one after a doubling wait, and
// not all at once.
func (p *pace) back(now time.Time, n uint32, held int) time.Time {
	wait := doubled(spillFirst, n, spillLast)
	rate, known := p.rate(now)
	switch {
	case !known:
		return now.Add(wait)
	case rate >= 1:
		wait = max(time.Second, time.Duration(0.7*float64(held)/rate*float64(time.Second)))
		if p.early(now) {
			wait = min(wait, paceSpan)
		}
	}
	return later(p.turn(now, now.Add(min(wait, paceLast)), n, max(1, rate)), now.Add(wait))
}

// turn plans a leg in, not before a time. What can't be taken until the end of
// the plan comes to ask again evenly over the plan's second half, and each time
// the plan is twice as long: a backlog of hours must not come round every few
// minutes, nor at once. What a destination takes at first, after a start above
// all, says too little of it to plan for longer than that is measured over.
func (p *pace) turn(now, first time.Time, n uint32, rate float64) time.Time {
	plan := doubled(paceLast, n, spillLast)
	if p.early(now) {
		plan = paceSpan
	}
	next := later(p.horizon, first).Add(time.Duration(float64(time.Second) / rate))
	if next.After(now.Add(plan)) {
		// Steps of the golden section never bunch. What is taken in a second
		// comes back in one: spilled together, it is read together.
		if p.beside++; p.beside >= rate {
			p.beside = 0
			_, p.spread = math.Modf(p.spread + math.Phi)
		}
		return now.Add(plan/2 + time.Duration(p.spread*float64(plan/2)+p.beside/rate*float64(time.Second)))
	}
	p.horizon = next
	return next
}

// back is when a leg of the lane comes back that was spilled above its share.
// While nothing is known of its destination it has its turn among all that the
// tenant has in the queue: of a backlog for many destinations each leg would
// else ask again and again.
func (l *lane) back(now time.Time, it *item) time.Time {
	due := l.gate.pace.back(now, it.spills, l.gate.held)
	if _, known := l.gate.pace.rate(now); known {
		return due
	}
	if rate, known := l.shelf.pace.rate(now); known && rate >= 1 {
		return later(due, l.shelf.pace.turn(now, now, it.spills, rate))
	}
	return due
}

// doubled is first*2^n, at most last.
func doubled(first time.Duration, n uint32, last time.Duration) time.Duration {
	if n >= 30 || first<<n > last || first<<n <= 0 {
		return last
	}
	return first << n
}

package deliver

import (
	"math"
	"time"
)

// Waits of spilled legs.
const (
	spillFirst = 10 * time.Second
	spillLast  = time.Hour
	paceSpan   = 30 * time.Second // over which a destination's speed is measured
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

// pace measures how fast a destination takes mail, and spreads what is
// spilled so that it comes back about as fast as it can be taken.
type pace struct {
	served  float64 // completions, decayed with paceSpan
	at      time.Time
	horizon time.Time // when the last spilled leg comes back
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

// back is when a leg spilled for the n-th time (from 0) comes back: never
// before its doubling wait, and behind those spilled before it.
func (p *pace) back(now time.Time, n uint32) time.Time {
	wait := doubled(spillFirst, n, spillLast)
	p.decay(now)
	rate := max(1, p.served/paceSpan.Seconds())
	if p.horizon.Before(now) {
		p.horizon = now
	}
	p.horizon = p.horizon.Add(time.Duration(float64(time.Second) / rate))
	if last := now.Add(spillLast); p.horizon.After(last) {
		p.horizon = last
	}
	if due := now.Add(wait); due.After(p.horizon) {
		return due
	}
	return p.horizon
}

// doubled is first*2^n, at most last.
func doubled(first time.Duration, n uint32, last time.Duration) time.Duration {
	if n >= 30 || first<<n > last || first<<n <= 0 {
		return last
	}
	return first << n
}

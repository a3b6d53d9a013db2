// Package spare lets work that may wait take what other work leaves of the
// machine's processors.
//
// Guarantee: while a good part of the processors is idle, or nothing is known of
// them, nothing rests.
// Guarantee: a rest ends within a second, whatever the load.
//
// It looks at the whole machine, so that a sink or a broker beside qstream
// counts too. Processes that are niced give way by themselves, and count as idle.
package spare

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// lookEvery is how often the processors are looked at: they are counted in
	// ticks of 10 ms.
	lookEvery = 200 * time.Millisecond
	// Below scarce, as a share of all processors, work rests longer; above plenty
	// it rests less.
	scarce = 0.05
	plenty = 0.15
	// The least and the longest rest, as a multiple of the work before it.
	leastRest = 8.0
	mostRest  = 128.0
	// longest bounds a rest: work that waited for a processor seems long.
	longest = time.Second
)

// Spare paces work by the idle time of the processors. The nil Spare never
// rests. Safe for concurrent use.
type Spare struct {
	times  func() (times, error)
	factor atomic.Uint64 // bits of a float64
	rested prometheus.Counter
}

// New makes a Spare; it starts nothing.
func New(r prometheus.Registerer) *Spare { return newSpare(r, machine) }

func newSpare(r prometheus.Registerer, read func() (times, error)) *Spare {
	s := &Spare{times: read, rested: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "qstream_tapper_rest_seconds_total", Help: "Time that work of subscribers rested, so that mail has the processors.",
	})}
	if r != nil {
		r.MustRegister(s.rested)
	}
	return s
}

// Run looks at the processors until ctx ends. Where they can't be looked at
// nothing ever rests.
func (s *Spare) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last, err := s.times()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var now times
		if err != nil {
			now, err = s.times()
			last = now
			continue
		}
		if now, err = s.times(); err != nil {
			s.set(0)
			continue
		}
		if share, ok := now.idleSince(last); ok {
			s.set(next(s.load(), share))
		}
		last = now
	}
}

// Ready is nil: nobody waits for it.
func (*Spare) Ready() error { return nil }

func (s *Spare) load() float64 { return math.Float64frombits(s.factor.Load()) }
func (s *Spare) set(f float64) { s.factor.Store(math.Float64bits(f)) }

// next is the multiple after a look that found a share of the processors idle.
func next(factor, idle float64) float64 {
	switch {
	case idle < scarce:
		return min(max(leastRest, 2*factor), mostRest)
	case idle > plenty && factor <= leastRest:
		return 0
	case idle > plenty:
		return factor / 2
	}
	return factor
}

// Rest is called after a piece of work that took so long. It waits as long as
// the processors ask for, or until ctx ends.
func (s *Spare) Rest(ctx context.Context, took time.Duration) {
	if s == nil {
		return
	}
	d := rest(s.load(), took)
	if d <= 0 {
		return
	}
	s.rested.Add(d.Seconds())
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func rest(factor float64, took time.Duration) time.Duration {
	return time.Duration(min(factor*float64(took), float64(longest)))
}

// times are what all processors have done since the machine was started, in
// any unit.
type times struct{ idle, all float64 }

// idleSince is the share that was idle since an earlier look; false if nothing
// passed.
func (t times) idleSince(before times) (share float64, ok bool) {
	all := t.all - before.all
	if all <= 0 {
		return 0, false
	}
	return (t.idle - before.idle) / all, true
}

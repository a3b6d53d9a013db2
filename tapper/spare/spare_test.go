package spare

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// processors are two of which somebody else uses a share, and this work what its
// rests leave of another.
type processors struct {
	mu   sync.Mutex
	idle float64 // share from now on
	last time.Time
	sum  times
	err  error
}

func (p *processors) read() (times, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pass()
	return p.sum, p.err
}

// pass counts the time since the last call. The lock is held.
func (p *processors) pass() {
	d := 2 * time.Since(p.last).Seconds()
	p.last = time.Now()
	p.sum.all += d
	p.sum.idle += p.idle * d
}

func (p *processors) are(idle float64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pass()
	p.idle, p.err = idle, err
}

// TestRests: work rests while processors are scarce, longer the longer they
// are, and not while they are idle or unknown.
func TestRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &processors{idle: 0.5, last: time.Now()}
		s := newSpare(nil, p.read)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = s.Run(ctx) })
		rests := func() time.Duration {
			began := time.Now()
			s.Rest(ctx, time.Millisecond)
			return time.Since(began)
		}
		for _, step := range []struct {
			name string
			idle float64
			err  error
			wait time.Duration
			want time.Duration
		}{
			{"idle", 0.5, nil, time.Second, 0},
			{"scarce", 0, nil, lookEvery, 8 * time.Millisecond},
			{"scarce for long", 0, nil, 10 * time.Second, 128 * time.Millisecond},
			{"neither", 0.1, nil, 10 * time.Second, 128 * time.Millisecond},
			{"idle again", 0.3, nil, lookEvery, 64 * time.Millisecond},
			{"idle for long", 0.3, nil, 10 * time.Second, 0},
			{"scarce again", 0, nil, 10 * time.Second, 128 * time.Millisecond},
			{"unknown", 0, errors.ErrUnsupported, 10 * time.Second, 0},
			{"known again", 0, nil, 10 * time.Second, 128 * time.Millisecond},
		} {
			p.are(step.idle, step.err)
			time.Sleep(step.wait + time.Millisecond)
			if got := rests(); got != step.want {
				t.Errorf("%s: rested %v, want %v", step.name, got, step.want)
			}
		}
		cancel()
		if got := rests(); got != 0 {
			t.Errorf("rested %v at the end", got)
		}
		running.Wait()
	})
}

// TestBounded: no rest is longer than a second.
func TestBounded(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, time.Second, time.Hour, math.MaxInt64} {
		for _, factor := range []float64{0, leastRest, mostRest} {
			if got := rest(factor, took); got < 0 || got > longest {
				t.Errorf("%v of %v: %v", factor, took, got)
			}
		}
	}
	var none *Spare
	none.Rest(t.Context(), time.Hour)
}
